"""AlexNets as other people write them in torch, for the lint to tell apart."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

from deepspeed_impl.network import Stage, StepPart
from paper.architecture import Network, network
from paper.recipe import PRESETS
from protocol.experiment.weights import initial_weights


def torchvision() -> nn.Module:
    """The net of "one weird trick" as torchvision ships it."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 1000),
    )


class ColumnNorm(nn.Module):
    """The response norm within each of ``columns`` runs of maps; ``alpha`` as torch takes it, divided by the window."""

    def __init__(self, columns: int = 2, size: int = 5, alpha: float = 5e-4, k: float = 2.0) -> None:
        super().__init__()
        self.columns, self.norm = columns, nn.LocalResponseNorm(size, alpha, 0.75, k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.norm(part) for part in x.chunk(self.columns, 1)], 1)


def stock(
    *,
    norm: Callable[[], nn.Module] | None = ColumnNorm,
    order: str = "rnp",
    groups: int = 2,
    pool: Callable[[], nn.Module] = lambda: nn.MaxPool2d(3, 2),
    activation: Callable[[], nn.Module] = nn.ReLU,
    pad: int = 0,
    drops: str = "67",
    rate: float = 0.5,
    ones: str = "24567",
    deviation: float = 0.01,
    ending: tuple[nn.Module, ...] = (),
    classes: int = 1000,
) -> nn.Sequential:
    """The paper's network from torch's own layers, each of its facts open to change.

    ``order`` of ReLU, norm and pooling after conv1 and conv2. ``drops``, ``ones``: layers by number, those followed by
    dropout and those whose biases start at 1.
    """
    layers: list[nn.Module] = []
    convs = [(3, 96, 11, 4, pad, 1), (96, 256, 5, 1, 2, groups), (256, 384, 3, 1, 1, 1)]
    convs += [(384, 384, 3, 1, 1, groups), (384, 256, 3, 1, 1, groups)]
    for number, (inputs, maps, kernel, stride, padding, parts) in enumerate(convs, start=1):
        layers.append(nn.utils.skip_init(nn.Conv2d, inputs, maps, kernel, stride, padding, groups=parts))
        steps = order if number < 3 else "rp" if number == 5 else "r"
        for step in steps:
            made = {"r": activation, "n": norm, "p": pool}[step]
            layers += [made()] if made else []
        layers += [nn.Dropout(rate)] if str(number) in drops else []
    layers.append(nn.Flatten())
    for number, inputs, units in ((6, 9216, 4096), (7, 4096, 4096), (8, 4096, classes)):
        layers.append(nn.utils.skip_init(nn.Linear, inputs, units))
        layers += [activation()] if number < 8 else []
        layers += [nn.Dropout(rate)] if str(number) in drops else []
    weighted = (layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear))
    for number, layer in enumerate(weighted, start=1):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.constant_(layer.bias, float(str(number) in ones))
    return nn.Sequential(*layers, *ending)


def caffe() -> nn.Module:
    """BVLC's bvlc_alexnet: k = 1, alpha divided by the window, the norm over all maps."""
    return stock(norm=lambda: nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0))


def caffenet() -> nn.Module:
    """BVLC's reference net: the same with the norm after pooling."""
    return stock(norm=lambda: nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0), order="rpn")


# Each is the paper's network but for what its name says. Without a norm where that is not the question: it is quicker.
plain = partial(stock, norm=None)
deviant = SimpleNamespace(
    alpha_unscaled=partial(stock, norm=partial(ColumnNorm, alpha=1e-4)),
    k_one=partial(stock, norm=partial(ColumnNorm, k=1.0)),
    window_of_nine=partial(stock, norm=partial(ColumnNorm, size=9, alpha=9e-4)),
    norm_before_relu=partial(stock, order="nrp"),
    norm_after_pooling=partial(stock, order="rpn"),
    no_norm=plain,
    no_groups=partial(plain, groups=1),
    padded_224=partial(plain, pad=2),
    no_overlap=partial(plain, pool=partial(nn.MaxPool2d, 2, 2)),
    average=partial(plain, pool=partial(nn.AvgPool2d, 3, 2)),
    tanh=partial(plain, activation=nn.Tanh),
    dropout_early=partial(plain, drops="56"),
    dropout_of_a_third=partial(plain, rate=0.3),
    ones_everywhere=partial(plain, ones="12345678"),
    wide=partial(plain, deviation=0.02),
    softmax_inside=partial(plain, ending=(nn.Softmax(1),)),
    # A norm over all columns' maps, with the number of one column's for its window.
    size_is_maps=partial(stock, norm=lambda: nn.LocalResponseNorm(48, 1e-4, 0.75, 2.0)),
    strong_norm=partial(stock, norm=partial(ColumnNorm, alpha=5e-3)),
    up_to_six=partial(plain, activation=nn.ReLU6),
    five_classes=partial(plain, classes=5),
)


def normalised() -> nn.Module:
    """A batch normalisation after every layer but the last, which takes a constant stimulus away whole."""
    found: list[nn.Module] = []
    for layer in plain():
        found.append(layer)
        if isinstance(layer, nn.Conv2d):
            found.append(nn.BatchNorm2d(layer.out_channels))
        elif isinstance(layer, nn.Linear) and layer.out_features != 1000:
            found.append(nn.BatchNorm1d(layer.out_features))
    return nn.Sequential(*found)


def lazy() -> nn.Module:
    """Layers that take their shapes from the first image, as d2l.ai's AlexNet has them."""
    return nn.Sequential(
        nn.LazyConv2d(96, 11, 4, 1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.LazyConv2d(256, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.LazyLinear(64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.LazyLinear(10),
    )


class AlongMaps(nn.Module):
    """A product at each place of the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.product, self.last = nn.Conv2d(3, 8, 11, 4), nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x).permute(0, 2, 3, 1)
        return self.last(self.product(maps.reshape(-1, 8)).view(maps.shape).mean((1, 2)))


def one_map() -> nn.Module:
    """A layer of a single map."""
    return nn.Sequential(nn.Conv2d(3, 1, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.LazyLinear(10))


class Einsum(nn.Module):
    """Products with weights written as sums over indices, the weights on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 11, 8)
        self.six, self.seven = nn.Parameter(torch.randn(32, 8) * 0.1), nn.Parameter(torch.randn(10, 32) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.relu(self.conv(x)).amax((2, 3))
        return torch.einsum("oi,ni->no", self.seven, torch.relu(torch.einsum("ni,oi->no", pooled, self.six)))


def single_window() -> nn.Module:
    """Pooling over all places, whose stride shows nowhere."""
    return nn.Sequential(nn.Conv2d(3, 8, 11, 40), nn.ReLU(), nn.MaxPool2d(6, 3), nn.Flatten(), nn.LazyLinear(10))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Conv2d(3, 6, 5))


def batch_norm() -> nn.Module:
    """A batch normalisation where others have a response norm: its parameters belong to no layer."""
    first, *rest = plain()
    return nn.Sequential(first, nn.BatchNorm2d(96), *rest)


class AlwaysDropping(nn.Module):
    """Dropout by a function that nobody told of the test."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x)


def always_dropping() -> nn.Module:
    return nn.Sequential(*(AlwaysDropping() if isinstance(layer, nn.Dropout) else layer for layer in plain()))


class Branches(nn.Module):
    """The paper's two columns as two branches of their own, in functions rather than layers."""

    def __init__(self) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {"1": (48, 3, 11, 11), "2": (128, 48, 5, 5), "3": (192, 256, 3, 3)}
        shapes |= {"4": (192, 192, 3, 3), "5": (128, 192, 3, 3), "6": (2048, 9216), "7": (2048, 4096)}
        for side in "ab":
            for number, shape in shapes.items():
                self.register_parameter(f"w{number}{side}", nn.Parameter(torch.randn(shape) * 0.01))
                start = torch.full(shape[:1], float(number in "24567"))
                self.register_parameter(f"b{number}{side}", nn.Parameter(start))
        self.last, self.bias = nn.Parameter(torch.randn(1000, 4096) * 0.01), nn.Parameter(torch.zeros(1000))

    def conv(self, number: int, parts: list[torch.Tensor], stride: int = 1, pad: int = 0) -> list[torch.Tensor]:
        return [
            functional.relu(
                functional.conv2d(x, getattr(self, f"w{number}{side}"), getattr(self, f"b{number}{side}"), stride, pad)
            )
            for side, x in zip("ab", parts, strict=True)
        ]

    def dense(self, number: int, x: torch.Tensor) -> torch.Tensor:
        parts = [functional.linear(x, getattr(self, f"w{number}{s}"), getattr(self, f"b{number}{s}")) for s in "ab"]
        return functional.dropout(functional.relu(torch.cat(parts, 1)), 0.5, self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def normed(parts: list[torch.Tensor]) -> list[torch.Tensor]:
            return [functional.local_response_norm(part, 5, 5e-4, 0.75, 2.0) for part in parts]

        def pooled(parts: list[torch.Tensor]) -> list[torch.Tensor]:
            return [functional.max_pool2d(part, 3, 2) for part in parts]

        parts = pooled(normed(self.conv(1, [x, x], 4)))
        both = torch.cat(pooled(normed(self.conv(2, parts, pad=2))), 1)
        parts = self.conv(4, self.conv(3, [both, both], pad=1), pad=1)
        x = torch.cat(pooled(self.conv(5, parts, pad=1)), 1).flatten(1)
        return functional.linear(self.dense(7, self.dense(6, x)), self.last, self.bias)


def own(variant: str = "two_column", preset: str = "paper") -> nn.Module:
    """This project's own network, whole on one device."""
    table: Network = network(variant, PRESETS[preset])
    stage = Stage(table.layers, StepPart(seed=0, size=8, count=1))
    stage.load(initial_weights(table, PRESETS[preset].deviation, PRESETS[preset], 0))
    return stage


def own_chm() -> nn.Module:
    """The same as the 2012 code read it."""
    return own(preset="chm-145")


def own_owt() -> nn.Module:
    return own("owt")


class Twice(nn.Module):
    """Gives two tensors."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def failing() -> nn.Module:
    raise RuntimeError("no weights\nhere")


def three() -> int:
    return 3


def weightless() -> nn.Module:
    return nn.Flatten()


def digits() -> nn.Module:
    """Takes one map, not three."""
    return nn.Conv2d(1, 6, 5)

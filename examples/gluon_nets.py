"""AlexNets as other people write them in Gluon, for the lint to tell apart."""

from collections.abc import Callable
from typing import Any

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

from gluon_impl.network import AlexNet
from paper.architecture import network
from paper.recipe import PRESETS
from protocol.experiment.weights import initial_weights


def zoo() -> gluon.Block:
    """The net of "one weird trick" as Gluon's zoo ships it."""
    return vision.alexnet()


class AllMapsNorm(gluon.HybridBlock):
    """MXNet's response norm, which runs over all maps and divides ``alpha`` by its window."""

    def __init__(self, size: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        self.settings = {"nsize": size, "alpha": alpha, "beta": 0.75, "knorm": k}

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LRN(x, **self.settings)


class ColumnNorm(AllMapsNorm):
    """The same within each of two halves of the maps."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        halves = F.split(x, num_outputs=2, axis=1)
        return F.concat(*(F.LRN(half, **self.settings) for half in halves), dim=1)


def stock(
    *, norm: gluon.Block | None = None, order: str = "rnp", groups: int = 2, ceil: bool = False, pad: int = 0
) -> gluon.Block:
    """The paper's network from Gluon's own blocks, some of its facts open to change; compiled, as users do."""
    norm = norm or ColumnNorm(alpha=5e-4, k=2.0)
    net = nn.HybridSequential()
    convs = ((96, 11, 4, pad, 1), (256, 5, 1, 2, groups), (384, 3, 1, 1, 1), (384, 3, 1, 1, groups))
    for number, (maps, kernel, stride, padding, parts) in enumerate((*convs, (256, 3, 1, 1, groups)), start=1):
        net.add(nn.Conv2D(maps, kernel, stride, padding, groups=parts, bias_initializer=_bias(number)))
        for step in order if number < 3 else "rp" if number == 5 else "r":
            made: dict[str, Callable[[], gluon.Block]] = {
                "r": lambda: nn.Activation("relu"),
                "n": lambda: norm,
                "p": lambda: nn.MaxPool2D(3, 2, ceil_mode=ceil),
            }
            net.add(made[step]())
    for number in (6, 7):
        net.add(nn.Dense(4096, "relu", bias_initializer=_bias(number)), nn.Dropout(0.5))
    net.add(nn.Dense(1000))
    net.initialize(mx.init.Normal(0.01))
    net.hybridize()
    return net


def _bias(number: int) -> str:
    return "ones" if number in (2, 4, 5, 6, 7) else "zeros"


def caffe() -> gluon.Block:
    """BVLC's bvlc_alexnet: k = 1, alpha divided by the window, the norm over all maps."""
    return stock(norm=AllMapsNorm())


def caffenet() -> gluon.Block:
    """BVLC's reference net: the same with the norm after pooling."""
    return stock(norm=AllMapsNorm(), order="rpn")


def merged() -> gluon.Block:
    """The groups forgotten."""
    return stock(norm=AllMapsNorm(alpha=5e-4, k=2.0), groups=1)


def rounded_up() -> gluon.Block:
    """Conv1 padded by 1 on the 224 of the paper, and pooling by ceil."""
    return stock(pad=1, ceil=True)


class Own(gluon.Block):
    """This project's own network on one context, with masks drawn at random: its training brings them from outside."""

    def __init__(self, variant: str = "two_column", preset: str = "paper") -> None:
        super().__init__()
        table, reading = network(variant, PRESETS[preset]), PRESETS[preset]
        self.network = AlexNet(table, [mx.cpu()])
        self.network.load(initial_weights(table, reading.deviation, reading, 0))

    def forward(self, x: Any) -> Any:
        masks = None
        if mx.autograd.is_training():
            shapes = {layer.name: (len(x), layer.shape_out[0]) for layer in self.network.table.dropouts()}
            masks = {name: [mx.nd.random.uniform(shape=shape) < 0.5] for name, shape in shapes.items()}
        return self.network([x], masks)


def own() -> gluon.Block:
    return Own()


def own_chm() -> gluon.Block:
    """The same as the 2012 code read it."""
    return Own(preset="chm-145")


def own_merged() -> gluon.Block:
    return Own("merged")


class Twice(gluon.Block):
    """Gives two arrays."""

    def forward(self, x: Any) -> Any:
        return x, x


def failing() -> gluon.Block:
    raise RuntimeError("no weights\nhere")


def three() -> int:
    return 3


def weightless() -> gluon.Block:
    return nn.Flatten()


def digits() -> gluon.Block:
    """Takes one map, not three."""
    net = nn.Conv2D(6, 5, in_channels=1)
    net.initialize()
    return net


def symbolic() -> gluon.Block:
    """A graph without the blocks that it was made from."""
    x = mx.sym.var("data")
    return gluon.SymbolBlock(mx.sym.Convolution(x, kernel=(5, 5), num_filter=6, name="conv"), x)

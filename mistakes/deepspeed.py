"""Mistakes in the DeepSpeed backend, planted in its process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from deepspeed_impl import imposed, parity
from deepspeed_impl.network import CountedDropout, Loss, Stage, StepPart, make_module
from deepspeed_impl.optimizer import PaperSGD
from deepspeed_impl.share import Averaging
from mistakes import shared
from mistakes.dials import DIALS, NORMS, dials
from mistakes.shared import MICRO_BATCH, PLANTS, around, plants
from paper.architecture import Layer, Norm, Weighted

Compute = Callable[[torch.Tensor], torch.Tensor]


def building(patch: pytest.MonkeyPatch, change: Callable[[Layer, StepPart], nn.Module]) -> None:
    """Let every layer be built by ``change``."""
    patch.setattr(parity, "make_module", change)
    patch.setattr(imposed, "make_module", change)


for _name, _rewrite in shared.REWRITES.items():

    def _rewritten(patch: pytest.MonkeyPatch, rewrite: shared.Rewrite = _rewrite) -> None:
        building(patch, lambda layer, micro: make_module(rewrite(layer), micro))

    PLANTS[_name] = _rewritten


class Wrapped(nn.Module):
    """A layer with something done to what it reads and to what it puts out."""

    def __init__(self, inner: nn.Module, before: Compute, after: Compute) -> None:
        super().__init__()
        self.before, self.inner, self.after = before, inner, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.inner(self.before(x)))


def same(x: torch.Tensor) -> torch.Tensor:
    return x


def _wraps(name: str, layers: str, before: Compute = same, after: Compute = same, *, instead: bool = False) -> None:
    """Wrap some layers, or put what is done instead of them."""

    def change(layer: Layer, micro: StepPart) -> nn.Module:
        if layer.name not in layers.split():
            return make_module(layer, micro)
        return Wrapped(nn.Identity() if instead else make_module(layer, micro), before, after)

    PLANTS[name] = lambda patch: building(patch, change)


def _reordered(name: str, first: str, then: str, order: tuple[str, str]) -> None:
    """Layer ``first`` does nothing and ``then`` does both, in ``order``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        kept: dict[str, Layer] = {}

        def change(layer: Layer, micro: StepPart) -> nn.Module:
            kept[layer.name] = layer
            if layer.name == first:
                return nn.Identity()
            if layer.name != then:
                return make_module(layer, micro)
            return nn.Sequential(*(make_module(kept[part], micro) for part in order))

        building(patch, change)

    PLANTS[name] = plant


def exchanged(x: torch.Tensor) -> torch.Tensor:
    return x.roll(x.shape[1] // 2, dims=1)


def own_column(x: torch.Tensor) -> torch.Tensor:
    """The second column's maps are lost."""
    left, right = x.chunk(2, dim=1)
    return torch.cat([left, right * 0], dim=1)


def rounded(bits: int) -> Compute:
    """Keep so many bits of a float32 (Dekker's splitting)."""
    factor = 2.0 ** (24 - bits) + 1
    return lambda x: factor * x - (factor * x - x)


def lopsided(x: torch.Tensor) -> torch.Tensor:
    """The response norm over a map, the two before it and the one after."""
    padded = nn.functional.pad(x * x, (0, 0, 0, 0, 2, 1))
    total = sum(padded[:, place : place + x.shape[1]] for place in range(4))
    return x * (2 + 1e-4 * total) ** -0.75


def shifted(x: torch.Tensor) -> torch.Tensor:
    """A row down; the last is lost."""
    return nn.functional.pad(x[:, :, :-1], (0, 0, 1, 0))


_wraps("no norm after conv1", "norm1", instead=True)
_wraps("a window of 4 maps", "norm1 norm2", lopsided, instead=True)
_wraps("conv2 reads both columns", "conv2", after=lambda x: x + 0.01 * exchanged(x))
_wraps("columns exchanged at conv3", "conv3", exchanged)
_wraps("conv3 reads its own column", "conv3", own_column)
_wraps("fc6 reads its own column", "fc6", own_column)
_wraps("conv4 padded on one side", "conv4", shifted)
_wraps("conv5's kernels turned about", "conv5", lambda x: x.flip(2, 3), lambda x: x.flip(2, 3))
_wraps("fc6 reads rows, columns, maps", "fc6", lambda x: x.permute(0, 2, 3, 1))
_wraps("a leaky ReLU after conv3", "relu3", lambda x: nn.functional.leaky_relu(x, 0.01), instead=True)
_wraps("no ReLU after fc7", "relu7", instead=True)
_wraps("average pooling", "pool1 pool2 pool5", lambda x: nn.functional.avg_pool2d(x, 3, 2), instead=True)
_wraps("a crossing's gradient halved", "conv3", lambda x: x * 0.5 + x.detach() * 0.5)
_wraps("a crossing's gradient doubled", "conv3", lambda x: x * 2 - x.detach())
_wraps("no gradient through norm2", "norm2", lambda x: x * 0 + x.detach())
_reordered("the norm before ReLU", "relu1", "norm1", ("norm1", "relu1"))
_reordered("the norm after pooling", "norm1", "pool1", ("pool1", "norm1"))


def _rounds(name: str, dtype: torch.dtype, before: Compute) -> None:
    """Wrap the weighted layers, for inputs of one precision."""

    def change(layer: Layer, micro: StepPart) -> nn.Module:
        module = make_module(layer, micro)
        if not isinstance(layer, Weighted):
            return module
        return Wrapped(module, lambda x: before(x) if x.dtype == dtype else x, same)

    PLANTS[name] = lambda patch: building(patch, change)


_rounds("bfloat16 passed off as float32", torch.float32, rounded(8))
_rounds("TF32 passed off as float32", torch.float32, rounded(11))
_rounds("float32 passed off as float64", torch.float64, lambda x: x.float().double())


@plants("pooling rounds up")
def _rounds_up(patch: pytest.MonkeyPatch) -> None:
    def change(layer: Layer, micro: StepPart) -> nn.Module:
        module = make_module(layer, micro)
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
        return module

    building(patch, change)


# --- dropout --------------------------------------------------------------------------------------------------------


def _drops(name: str, change: Callable[[Any, CountedDropout, torch.Tensor], torch.Tensor]) -> None:
    """``change(right, dropout, x)`` gives the output of dropout."""
    PLANTS[name] = lambda patch: around(patch, CountedDropout, "forward", change)


_drops("dropout doubles what it keeps", lambda right, self, x: right(self, x) * (2.0 if self.training else 1.0))
_drops("nothing is halved at test", lambda right, self, x: right(self, x) if self.training else x)
_drops(
    "dropout at test",
    lambda right, self, x: right(self, x) if self.training else x * (torch.rand_like(x) < 0.5),
)


@plants("evaluation counts as a step of dropout")
def _counts(patch: pytest.MonkeyPatch) -> None:
    def change(right: Any, self: CountedDropout, x: torch.Tensor) -> torch.Tensor:
        self.seen += not self.training
        return right(self, x)

    around(patch, CountedDropout, "forward", change)


# --- loss and update ------------------------------------------------------------------------------------------------


def _loss(name: str, change: Callable[[Any, Loss, torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """``change(right, loss, logits, labels)`` gives the loss of a micro-batch."""
    PLANTS[name] = lambda patch: around(patch, Loss, "forward", change)


def _forgetful(right: Any, self: Loss, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    loss = right(self, logits, labels)
    last = len(self.wrong) == 16 // MICRO_BATCH
    return loss * 0 + loss.detach() if last else loss


_loss("softmax applied twice", lambda right, self, logits, labels: right(self, logits.softmax(1), labels))
_loss(
    "labels smoothed",
    lambda right, self, logits, labels: nn.functional.cross_entropy(logits, labels, label_smoothing=0.1),
)
_loss("the last micro-batch is forgotten", _forgetful)


def _steps(name: str, change: Callable[[Any, PaperSGD], None]) -> None:
    """``change(right, optimizer)`` updates the parameters."""
    PLANTS[name] = lambda patch: around(patch, PaperSGD, "step", change)


@torch.no_grad()
def _summed(right: Any, self: PaperSGD) -> None:
    for parameter in self.parameters.values():
        parameter.grad *= 16
    right(self)


@torch.no_grad()
def _nesterov(right: Any, self: PaperSGD) -> None:
    before = {parameter: self.state[parameter]["velocity"].clone() for parameter in self.parameters.values()}
    right(self)
    for parameter, velocity in before.items():
        parameter += self.momentum * (self.state[parameter]["velocity"] - velocity)


@torch.no_grad()
def _outside(right: Any, self: PaperSGD) -> None:
    """The velocity is kept without its rate, times the first step's."""
    rate, self.rate = self.rate, 0.01
    before = {parameter: parameter.clone() for parameter in self.parameters.values()}
    right(self)
    for parameter, value in before.items():
        parameter.copy_(value + (rate / 0.01) * self.state[parameter]["velocity"])


@torch.no_grad()
def _clipped(right: Any, self: PaperSGD) -> None:
    nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
    right(self)


@torch.no_grad()
def _twice(right: Any, self: PaperSGD) -> None:
    right(self)
    weight = self.parameters["fc7.weight"]
    velocity = self.state[weight]["velocity"]
    velocity.mul_(self.momentum).sub_(self.rate * (weight.grad + 0.0005 * weight))
    weight += velocity


@torch.no_grad()
def _frozen(right: Any, self: PaperSGD) -> None:
    kept = {name: value.clone() for name, value in self.parameters.items() if name.startswith("conv1.")}
    right(self)
    for name, value in kept.items():
        self.parameters[name].copy_(value)


@torch.no_grad()
def _first_alone(right: Any, self: PaperSGD) -> None:
    if "conv1.weight" in self.parameters:
        right(self)


for _title, _change in {
    "the loss is summed": _summed,
    "Nesterov's momentum": _nesterov,
    "the rate outside the velocity": _outside,
    "gradients clipped to norm 1": _clipped,
    "fc7 is updated twice": _twice,
    "conv1 is frozen": _frozen,
    "the second device never updates": _first_alone,
}.items():
    _steps(_title, _change)

# --- mistakes of any size -------------------------------------------------------------------------------------------


def _dial(name: str, layers: str, before: Any = None, after: Any = None) -> None:
    """Wrap some layers: ``before`` and ``after`` make what is done to an input and an output from the dial's size."""

    def turn(patch: pytest.MonkeyPatch, size: float) -> None:
        ahead, behind = (make(size) if make else same for make in (before, after))

        def change(layer: Layer, micro: StepPart) -> nn.Module:
            module = make_module(layer, micro)
            return Wrapped(module, ahead, behind) if layer.name in layers.split() else module

        building(patch, change)

    DIALS[name] = turn


def _more(size: float) -> Compute:
    return lambda x: x * (1 + size)


def _more_back(size: float) -> Compute:
    """The gradient alone is larger."""
    return lambda x: x * (1 + size) - x.detach() * size


for _layer in ("conv1", "conv4", "fc7", "relu3", "pool1", "pool5"):
    _dial(f"what {_layer} puts out", _layer, after=_more)
for _layer in ("conv3", "fc6", "norm2"):
    _dial(f"the gradient into {_layer}", _layer, before=_more_back)
_dial("the other column in conv2", "conv2", after=lambda size: lambda x: x + size * exchanged(x))
DIALS["what leaks through relu3"] = lambda patch, size: building(
    patch,
    lambda layer, micro: nn.LeakyReLU(size) if layer.name == "relu3" else make_module(layer, micro),
)
for _name, _norm_of in NORMS.items():

    def _normed(patch: pytest.MonkeyPatch, size: float, change: Any = _norm_of) -> None:
        building(
            patch,
            lambda layer, micro: make_module(change(layer, size) if isinstance(layer, Norm) else layer, micro),
        )

    DIALS[_name] = _normed


@dials("the loss")
def _dialled_loss(patch: pytest.MonkeyPatch, size: float) -> None:
    around(patch, Loss, "forward", lambda right, self, logits, labels: right(self, logits, labels) * (1 + size))


@dials("smoothing of labels")
def _dialled_labels(patch: pytest.MonkeyPatch, size: float) -> None:
    around(
        patch,
        Loss,
        "forward",
        lambda right, self, logits, labels: (
            right(self, logits, labels) + size * (nn.functional.cross_entropy(logits, labels, label_smoothing=1.0))
        ),
    )


@dials("dropout's scale in training")
def _dialled_dropout(patch: pytest.MonkeyPatch, size: float) -> None:
    around(patch, CountedDropout, "forward", lambda right, self, x: right(self, x) * (1 + size * self.training))


@dials("dropout's scale at test")
def _dialled_test(patch: pytest.MonkeyPatch, size: float) -> None:
    around(patch, CountedDropout, "forward", lambda right, self, x: right(self, x) * (1 + size * (not self.training)))


# --- reports, replicas, resuming ------------------------------------------------------------------------------------


@plants("the share that is right is reported")
def _right(patch: pytest.MonkeyPatch) -> None:
    def step(right: Any, *arguments: Any) -> Any:
        loss, error = right(*arguments)
        return loss, 1 - error

    around(patch, parity, "train_step", step)


@plants("biases are averaged twice")
def _averaged_twice(patch: pytest.MonkeyPatch) -> None:
    def finish(right: Any, self: Averaging) -> None:
        right(self)
        for parameter in self.parameters:
            if parameter.dim() == 1:
                parameter.grad.div_(self.group.count)

    around(patch, Averaging, "finish", finish)


@plants("each replica keeps its own gradients")
def _own_gradients(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Averaging, "_begin", lambda self, parameter: None)


@plants("momentum is not restored")
def _no_momentum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PaperSGD, "load", lambda self, tensors, share: None)


@plants("masks begin anew after a resume")
def _masks_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Stage, "count_from", lambda self, step: None)

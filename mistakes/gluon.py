"""Mistakes in the Gluon backend, planted in its process."""

from collections.abc import Callable
from typing import Any

import mxnet as mx
import pytest
from mxnet import gluon

from gluon_impl import imposed, parity, train
from gluon_impl.network import Dropped, Share, make_block
from gluon_impl.optimizer import Optimizer, PaperSGD
from mistakes import shared
from mistakes.dials import DIALS, NORMS, dials
from mistakes.shared import MICRO_BATCH, PLANTS, around, plants
from paper.architecture import Layer, Norm, Pool, Weighted
from protocol.experiment import dropout

Compute = Callable[[Any, Any], Any]  # of the module F and an array


def building(patch: pytest.MonkeyPatch, change: Callable[[Layer, Share], gluon.HybridBlock]) -> None:
    """Let every layer be built by ``change``."""
    patch.setattr(parity, "make_block", change)
    patch.setattr(imposed, "make_block", change)


for _name, _rewrite in shared.REWRITES.items():

    def _rewritten(patch: pytest.MonkeyPatch, rewrite: shared.Rewrite = _rewrite) -> None:
        building(patch, lambda layer, share: make_block(rewrite(layer), share))

    PLANTS[_name] = _rewritten


class Wrapped(gluon.HybridBlock):
    """A layer with something done to what it reads and to what it puts out."""

    def __init__(self, inner: gluon.HybridBlock | None, before: Compute, after: Compute) -> None:
        super().__init__()
        self.before, self.inner, self.after = before, inner, after

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.before(F, x)
        return self.after(F, x if self.inner is None else self.inner(x))


def same(F: Any, x: Any) -> Any:
    return x


def _wraps(name: str, layers: str, before: Compute = same, after: Compute = same, *, instead: bool = False) -> None:
    """Wrap some layers, or put what is done instead of them."""

    def change(layer: Layer, share: Share) -> gluon.HybridBlock:
        if layer.name not in layers.split():
            return make_block(layer, share)
        return Wrapped(None if instead else make_block(layer, share), before, after)

    PLANTS[name] = lambda patch: building(patch, change)


def _reordered(name: str, first: str, then: str, order: tuple[str, str]) -> None:
    """Layer ``first`` does nothing and ``then`` does both, in ``order``."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        kept: dict[str, Layer] = {}

        def change(layer: Layer, share: Share) -> gluon.HybridBlock:
            kept[layer.name] = layer
            if layer.name == first:
                return Wrapped(None, same, same)
            if layer.name != then:
                return make_block(layer, share)
            both = gluon.nn.HybridSequential()
            both.add(*(make_block(kept[part], share) for part in order))
            return both

        building(patch, change)

    PLANTS[name] = plant


def exchanged(F: Any, x: Any) -> Any:
    left, right = F.split(x, num_outputs=2, axis=1)
    return F.concat(right, left, dim=1)


def own_column(F: Any, x: Any) -> Any:
    """The second column's maps are lost."""
    left, right = F.split(x, num_outputs=2, axis=1)
    return F.concat(left, right * 0, dim=1)


def rounded(bits: int) -> Compute:
    """Keep so many bits of a float32 (Dekker's splitting)."""
    factor = 2.0 ** (24 - bits) + 1
    return lambda F, x: factor * x - (factor * x - x)


def turned(F: Any, x: Any) -> Any:
    return F.flip(F.flip(x, axis=2), axis=3)


def shifted(F: Any, x: Any) -> Any:
    """A row down; the last is lost."""
    above = F.slice_axis(x, axis=2, begin=0, end=-1)
    return F.concat(F.zeros_like(F.slice_axis(x, axis=2, begin=0, end=1)), above, dim=2)


def lopsided(F: Any, x: Any) -> Any:
    """The response norm over a map, the two before it and the one after."""
    total, padded = 0, F.pad(F.expand_dims(F.square(x), 1), mode="constant", pad_width=(0, 0, 0, 0, 2, 2, 0, 0, 0, 0))
    for place in range(4):
        part = F.slice_axis(padded, axis=2, begin=place, end=place - 4 if place < 4 else None)
        total = total + F.reshape(part, (0, -3, 0, 0))
    return x * (2 + 1e-4 * total) ** -0.75


_wraps("no norm after conv1", "norm1", instead=True)
_wraps("a window of 4 maps", "norm1 norm2", lopsided, instead=True)
_wraps("conv2 reads both columns", "conv2", after=lambda F, x: x + 0.01 * exchanged(F, x))
_wraps("columns exchanged at conv3", "conv3", exchanged)
_wraps("conv3 reads its own column", "conv3", own_column)
_wraps("fc6 reads its own column", "fc6", own_column)
_wraps("conv4 padded on one side", "conv4", shifted)
_wraps("conv5's kernels turned about", "conv5", turned, turned)
_wraps("fc6 reads rows, columns, maps", "fc6", lambda F, x: F.transpose(x, (0, 2, 3, 1)))
_wraps("a leaky ReLU after conv3", "relu3", lambda F, x: F.LeakyReLU(x, slope=0.01), instead=True)
_wraps("no ReLU after fc7", "relu7", instead=True)
_wraps("a crossing's gradient halved", "conv3", lambda F, x: x * 0.5 + F.BlockGrad(x * 0.5))
_wraps("a crossing's gradient doubled", "conv3", lambda F, x: x * 2 - F.BlockGrad(x))
_wraps("no gradient through norm2", "norm2", lambda F, x: x * 0 + F.BlockGrad(x))
_reordered("the norm before ReLU", "relu1", "norm1", ("norm1", "relu1"))
_reordered("the norm after pooling", "norm1", "pool1", ("pool1", "norm1"))


def _rounds(name: str, dtype: str, before: Compute) -> None:
    """Wrap the weighted layers of networks of one precision."""

    def change(layer: Layer, share: Share) -> gluon.HybridBlock:
        block = make_block(layer, share)
        return Wrapped(block, before, same) if isinstance(layer, Weighted) and share.dtype == dtype else block

    PLANTS[name] = lambda patch: building(patch, change)


_rounds("bfloat16 passed off as float32", "float32", rounded(8))
_rounds("TF32 passed off as float32", "float32", rounded(11))
_rounds("float32 passed off as float64", "float64", lambda F, x: F.cast(F.cast(x, "float32"), "float64"))


def _pooling(name: str, **settings: str) -> None:
    """MXNet's pooling instead, with ``settings``."""

    def change(layer: Layer, share: Share) -> gluon.HybridBlock:
        if not isinstance(layer, Pool):
            return make_block(layer, share)
        size = {"kernel": (layer.window,) * 2, "stride": (layer.stride,) * 2}
        return Wrapped(None, lambda F, x: F.Pooling(x, **size, **settings), same)

    PLANTS[name] = lambda patch: building(patch, change)


_pooling("average pooling", pool_type="avg")
_pooling("pooling rounds up", pool_type="max", pooling_convention="full")


# --- dropout --------------------------------------------------------------------------------------------------------


def halves(x: Any) -> Any:
    """Another mask than the right one."""
    return mx.nd.random.uniform(shape=x.shape, ctx=x.context, dtype=x.dtype) < 0.5


def _drops(name: str, change: Callable[[Any, Any], Any]) -> None:
    """``change`` gives the output of dropout for an input and a mask, or None at test."""
    PLANTS[name] = lambda patch: patch.setattr(Dropped, "forward", lambda self, x, mask: change(x, mask))


_drops("dropout doubles what it keeps", lambda x, mask: x * 0.5 if mask is None else x * mask * 2)
_drops("nothing is halved at test", lambda x, mask: x if mask is None else x * mask)
_drops("dropout at test", lambda x, mask: x * (halves(x) if mask is None else mask))


@plants("evaluation counts as a step of dropout")
def _counts(patch: pytest.MonkeyPatch) -> None:
    around(patch, dropout, "masks", lambda right, table, seed, step, *rest: right(table, seed, step + 1, *rest))


# --- loss and update ------------------------------------------------------------------------------------------------


def _loss(name: str, change: Callable[[Any, Any, Any], Any]) -> None:
    """``change(F, logits, labels)`` gives the loss of each sample."""

    class Other(gluon.loss.Loss):
        def __init__(self) -> None:
            super().__init__(None, 0)

        def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
            return change(F, logits, labels)

    PLANTS[name] = lambda patch: patch.setattr(train, "cross_entropy", Other())


def entropy(F: Any, logits: Any, labels: Any) -> Any:
    return -F.pick(F.log_softmax(logits), labels)


_loss("softmax applied twice", lambda F, logits, labels: entropy(F, F.softmax(logits), labels))
_loss(
    "labels smoothed",
    lambda F, logits, labels: 0.9 * entropy(F, logits, labels) - 0.1 * F.log_softmax(logits).mean(axis=1),
)


def _forgetful(F: Any, logits: Any, labels: Any) -> Any:
    losses = entropy(F, logits, labels)
    last = F.slice_axis(losses, axis=0, begin=-MICRO_BATCH, end=None)
    return F.concat(F.slice_axis(losses, axis=0, begin=0, end=-MICRO_BATCH), F.BlockGrad(last), dim=0)


_loss("the last micro-batch is forgotten", _forgetful)


@plants("the loss is summed")
def _summed(patch: pytest.MonkeyPatch) -> None:
    around(patch, Optimizer, "step", lambda right, self, rate, batch: right(self, rate, 1))


def _updates(name: str, change: Callable[..., None]) -> None:
    """``change(right, optimizer, index, weight, grad, state)`` updates a parameter."""
    PLANTS[name] = lambda patch: around(patch, PaperSGD, "update", change)


def _nesterov(right: Any, self: PaperSGD, index: int, weight: Any, grad: Any, state: Any) -> None:
    before = state.copy()
    right(self, index, weight, grad, state)
    weight += self.momentum * state - self.momentum * before


def _outside(right: Any, self: PaperSGD, index: int, weight: Any, grad: Any, state: Any) -> None:
    """What the state holds is the velocity without its rate, times the first step's."""
    self._update_count(index)
    rate, decay = self._get_lr(index), self._get_wd(index)
    first = 0.01
    state[:] = state * self.momentum - first * (decay * weight + grad * self.rescale_grad)
    weight += state * (rate / first)


def _clipped(right: Any, self: Optimizer, rate: float, batch: int) -> None:
    gradients = [parameter.grad() for parts in self.network.canonical().values() for parameter in parts]
    norm = sum(float((gradient.astype("float64") ** 2).sum().asscalar()) for gradient in gradients) ** 0.5 / batch
    for gradient in gradients:
        gradient[:] = gradient * min(1.0, 1 / norm)
    right(self, rate, batch)


def _twice(right: Any, self: Optimizer, rate: float, batch: int) -> None:
    right(self, rate, batch)
    (weight,) = self.network.canonical()["fc7.weight"]
    (trainer,) = self.trainers
    index = trainer._params.index(weight)
    trainer._updaters[0](index, weight.grad(), weight.data())


def _frozen(right: Any, self: Optimizer, rate: float, batch: int) -> None:
    held = [parameter for name in ("conv1.weight", "conv1.bias") for parameter in self.network.canonical()[name]]
    kept = [parameter.data().copy() for parameter in held]
    right(self, rate, batch)
    for parameter, value in zip(held, kept, strict=True):
        parameter.set_data(value)


def _first_alone(right: Any, self: Optimizer, rate: float, batch: int) -> None:
    del self.trainers[1:]
    right(self, rate, batch)


_updates("Nesterov's momentum", _nesterov)
_updates("the rate outside the velocity", _outside)
for _name_of, _change in {
    "gradients clipped to norm 1": _clipped,
    "fc7 is updated twice": _twice,
    "conv1 is frozen": _frozen,
    "the second device never updates": _first_alone,
}.items():

    def _stepping(patch: pytest.MonkeyPatch, change: Any = _change) -> None:
        around(patch, Optimizer, "step", change)

    PLANTS[_name_of] = _stepping

# --- mistakes of any size -------------------------------------------------------------------------------------------


def _dial(name: str, layers: str, before: Any = None, after: Any = None) -> None:
    """Wrap some layers: ``before`` and ``after`` make what is done to an input and an output from the dial's size."""

    def turn(patch: pytest.MonkeyPatch, size: float) -> None:
        ahead, behind = (make(size) if make else same for make in (before, after))

        def change(layer: Layer, share: Share) -> gluon.HybridBlock:
            block = make_block(layer, share)
            return Wrapped(block, ahead, behind) if layer.name in layers.split() else block

        building(patch, change)

    DIALS[name] = turn


def _more(size: float) -> Compute:
    return lambda F, x: x * (1 + size)


def _more_back(size: float) -> Compute:
    """The gradient alone is larger."""
    return lambda F, x: x * (1 + size) - F.BlockGrad(x) * size


for _layer in ("conv1", "conv4", "fc7", "relu3", "pool1", "pool5"):
    _dial(f"what {_layer} puts out", _layer, after=_more)
for _layer in ("conv3", "fc6", "norm2"):
    _dial(f"the gradient into {_layer}", _layer, before=_more_back)
_dial("the other column in conv2", "conv2", after=lambda size: lambda F, x: x + size * exchanged(F, x))


@dials("what leaks through relu3")
def _leaks(patch: pytest.MonkeyPatch, size: float) -> None:
    leak = lambda F, x: F.maximum(x, x * size)  # noqa: E731
    building(
        patch,
        lambda layer, share: Wrapped(None, leak, same) if layer.name == "relu3" else make_block(layer, share),
    )


for _name, _norm_of in NORMS.items():

    def _normed(patch: pytest.MonkeyPatch, size: float, change: Any = _norm_of) -> None:
        building(
            patch,
            lambda layer, share: make_block(change(layer, size) if isinstance(layer, Norm) else layer, share),
        )

    DIALS[_name] = _normed


def _dialled_loss(name: str, change: Callable[[float], Callable[[Any, Any, Any], Any]]) -> None:
    """``change(size)`` makes what gives the loss of each sample."""

    def turn(patch: pytest.MonkeyPatch, size: float) -> None:
        class Other(gluon.loss.Loss):
            def __init__(self) -> None:
                super().__init__(None, 0)

            def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
                return change(size)(F, logits, labels)

        patch.setattr(train, "cross_entropy", Other())

    DIALS[name] = turn


_dialled_loss("the loss", lambda size: lambda F, logits, labels: entropy(F, logits, labels) * (1 + size))
_dialled_loss(
    "smoothing of labels",
    lambda size: lambda F, logits, labels: entropy(F, logits, labels) - size * F.log_softmax(logits).mean(axis=1),
)


def _dialled_dropout(name: str, training: bool) -> None:
    def turn(patch: pytest.MonkeyPatch, size: float) -> None:
        def forward(right: Any, self: Dropped, x: Any, mask: Any) -> Any:
            return right(self, x, mask) * (1 + size if (mask is not None) == training else 1)

        around(patch, Dropped, "forward", forward)

    DIALS[name] = turn


_dialled_dropout("dropout's scale in training", training=True)
_dialled_dropout("dropout's scale at test", training=False)


# --- reports, replicas, resuming ------------------------------------------------------------------------------------


@plants("the share that is right is reported")
def _right(patch: pytest.MonkeyPatch) -> None:
    def step(right: Any, *arguments: Any) -> Any:
        loss, error = right(*arguments)
        return loss, 1 - error

    around(patch, train, "train_step", step)


@plants("biases are averaged twice")
def _averaged_twice(patch: pytest.MonkeyPatch) -> None:
    def update(right: Any, self: PaperSGD, index: int, weight: Any, grad: Any, state: Any) -> None:
        right(self, index, weight, grad / 2 if grad.ndim == 1 else grad, state)

    around(patch, PaperSGD, "update", update)


@plants("each replica keeps its own gradients")
def _own_gradients(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gluon.Trainer, "_allreduce_grads", lambda self: None)


@plants("momentum is not restored")
def _no_momentum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Optimizer, "load", lambda self, tensors: None)


@plants("masks begin anew after a resume")
def _masks_anew(patch: pytest.MonkeyPatch) -> None:
    around(patch, dropout, "masks", lambda right, table, seed, step, *rest: right(table, seed, max(0, step - 2), *rest))

"""The layer table carried out by Gluon blocks on a list of contexts.

With one context all columns lie on it, local layers as grouped convolutions; with as many contexts as columns each
holds one, and at a crossing layer every context is sent the others' maps:

    contexts[0]   conv1 ... pool2 --+-- concat -- conv3 ...
                                     X
    contexts[1]   conv1 ... pool2 --+-- concat -- conv3 ...

What lies between two crossings is one hybridized segment per context. Pipeline stages give each context a run of whole
layers, and replicas each context a copy of them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from itertools import pairwise
from math import prod
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import nn

from gluon_impl.max_pool import MaxPool
from gluon_impl.response_norm import RectifiedNorm, ResponseNorm
from paper.architecture import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Layer,
    Local,
    Network,
    Norm,
    Pool,
    SpatialNorm,
    Weighted,
)


@dataclass(frozen=True)
class Share:
    """A context's share of a layer: ``index`` of ``count`` equal parts of the maps.

    ``copies``: all the contexts that hold it, where they are several replicas; ``context`` is the first.
    """

    index: int
    count: int
    context: mx.Context
    dtype: str
    copies: tuple[mx.Context, ...] = ()

    @property
    def contexts(self) -> tuple[mx.Context, ...]:
        return self.copies or (self.context,)

    def groups(self, groups_of_all: int) -> int:
        return max(1, groups_of_all // self.count)

    def slice(self, maps: int) -> slice:
        return slice(self.index * maps // self.count, (self.index + 1) * maps // self.count)


MakeBlock = Callable[[Layer, Share], gluon.HybridBlock]


@singledispatch
def make_block(layer: Layer, share: Share) -> gluon.HybridBlock:
    """The Gluon block that carries out ``share`` of ``layer``."""
    raise TypeError(f"the Gluon backend does not know {type(layer).__name__}")


@make_block.register
def _conv(layer: Conv, share: Share) -> gluon.HybridBlock:
    groups = share.groups(layer.groups)
    conv = nn.Conv2D(
        layer.shape_out[0] // share.count,
        layer.kernel,
        layer.stride,
        layer.pad,
        groups=groups,
        in_channels=layer.weight_shape[1] * groups,
    )
    if not layer.pad_end:
        return conv
    padded = nn.HybridSequential()
    end = layer.pad_end
    padded.add(nn.HybridLambda(lambda F, x: F.pad(x, mode="constant", pad_width=(0, 0, 0, 0, 0, end, 0, end))), conv)
    return padded


class LocalConv(gluon.HybridBlock):
    """A convolution of stride 1 whose weights are not shared: (batch, maps, rows, columns), each place by itself."""

    def __init__(self, layer: Local) -> None:
        super().__init__()
        self.layer = layer
        self.weight = self.params.get("weight", shape=layer.weight_shape)
        self.bias = self.params.get("bias", shape=layer.bias_shape)

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        layer, (maps, rows, columns) = self.layer, self.layer.shape_out
        patches = F.im2col(x, kernel=(layer.kernel,) * 2, pad=(layer.pad,) * 2)  # (batch, inputs, places)
        matrix = F.reshape(weight, (maps, rows * columns, -1))  # (maps, places, inputs)
        # A product a place: (places, batch, inputs) by (places, inputs, maps)
        found = F.batch_dot(F.transpose(patches, (2, 0, 1)), F.transpose(matrix, (1, 2, 0)))
        found = F.reshape(F.transpose(found, (1, 2, 0)), (-1, maps, rows, columns))
        return F.broadcast_add(found, F.expand_dims(bias, 0))


@make_block.register
def _local(layer: Local, share: Share) -> gluon.HybridBlock:
    return LocalConv(layer)


@make_block.register
def _dense(layer: Dense, share: Share) -> gluon.HybridBlock:
    units, groups = layer.shape_out[0] // share.count, share.groups(layer.groups)
    if groups == 1:
        return nn.Dense(units, in_units=layer.weight_shape[1])
    # Columns that do not meet, on one context: a grouped 1x1 convolution is that matrix product.
    grouped = nn.HybridSequential()
    inputs = layer.weight_shape[1] * groups
    conv = nn.Conv2D(units, 1, groups=groups, in_channels=inputs)
    grouped.add(nn.HybridLambda(lambda F, x: F.reshape(x, (0, -1, 1, 1))), conv, nn.Flatten())
    return grouped


@make_block.register
def _activation(layer: Activation, share: Share) -> gluon.HybridBlock:
    return nn.Activation(layer.function)


@make_block.register
def _norm(layer: Norm, share: Share) -> gluon.HybridBlock:
    return ResponseNorm(layer, layer.shape_in[0] // share.count, share.groups(layer.groups), share.context, share.dtype)


@make_block.register
def _spatial_norm(layer: SpatialNorm, share: Share) -> gluon.HybridBlock:
    size, factor = layer.size, layer.scale / layer.size**2

    def norm(F: Any, x: Any) -> Any:
        total = F.Pooling(F.square(x), kernel=(size, size), pad=(size // 2, size // 2), pool_type="sum")
        return x * (layer.k + factor * total) ** -layer.beta

    return nn.HybridLambda(norm)


@make_block.register
def _pool(layer: Pool, share: Share) -> gluon.HybridBlock:
    return MaxPool(layer, share.context)


class Dropped(gluon.Block):
    """Dropout by a given mask: (batch, units of the share), and the mask alike, or None at test."""

    def __init__(self, layer: Dropout) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: mx.nd.NDArray, mask: mx.nd.NDArray | None) -> mx.nd.NDArray:
        if mask is None:
            return x if self.layer.inverted else x * 0.5
        return x * mask * (2.0 if self.layer.inverted else 1.0)


@dataclass
class Segment:
    """Layers that each context carries out alone, after what precedes them: a dropout mask, a crossing, or nothing."""

    shares: Sequence[Share]
    dropout: str | None = None
    crosses: bool = False
    layers: list[Layer] = field(default_factory=list)
    blocks: list[nn.HybridSequential] = field(default_factory=list)

    def compose(self, parts: Mapping[str, Sequence[gluon.HybridBlock]]) -> None:
        """Make the blocks from ``parts``: by layer, each share's block."""
        for index in range(len(self.shares)):
            blocks = nn.HybridSequential()
            for _, block in joined([(layer, parts[layer.name][index]) for layer in self.layers]):
                blocks.add(block)
            self.blocks.append(blocks)


def joined(parts: Sequence[tuple[Layer, gluon.HybridBlock]]) -> list[tuple[Layer, gluon.HybridBlock]]:
    """A run of layers, each with its block, but a ReLU, whose block becomes one with that of the norm after it."""
    found: list[tuple[Layer, gluon.HybridBlock]] = []
    for layer, block in parts:
        before = found[-1][1] if found else None
        if isinstance(block, ResponseNorm) and isinstance(before, nn.Activation) and before._act_type == "relu":
            found.pop()
            block = RectifiedNorm(before, block)
        found.append((layer, block))
    return found


Shares = Mapping[str, Sequence[Share]]  # by layer, the shares that carry it out


def columns_on(table: Network, contexts: Sequence[mx.Context], dtype: str) -> Shares:
    """A column on each context, or all of them on one.

    Raises:
        ValueError: there are several contexts, but not one per column, or a layer's window spans the columns.
    """
    count = len(contexts)
    if count > 1 and count != table.columns:
        raise ValueError(f"variant {table.variant} has {table.columns} column(s), so {count} contexts cannot share it")
    if count > 1 and table.norm_spans_columns:
        raise ValueError("this preset's response norm reaches across the columns, which placement columns cannot do")
    shares = [Share(index, count, context, dtype) for index, context in enumerate(contexts)]
    return {layer.name: shares for layer in table}


class AlexNet(gluon.Block):
    """The network, each layer of it on the contexts of its shares.

    ``shares``: those of :func:`columns_on` unless given. ``micro_batches``: how many each replica's images make.

    Raises:
        ValueError: the columns cannot lie on ``contexts``.
    """

    def __init__(
        self,
        table: Network,
        contexts: Sequence[mx.Context],
        dtype: str = "float32",
        make: MakeBlock = make_block,
        shares: Shares | None = None,
        micro_batches: int = 1,
    ) -> None:
        super().__init__()
        self.table, self.contexts, self.dtype = table, list(contexts), dtype
        self.shares_of = shares or columns_on(table, contexts, dtype)
        self.shares = list(dict.fromkeys(share for layer in table for share in self.shares_of[layer.name]))
        self.replicas, self.micro_batches = len(self.shares[0].contexts), micro_batches
        self.segments: list[Segment] = []
        # By layer, each context's share of it.
        self.parts: dict[str, list[gluon.Block]] = {}
        segment = None
        for layer in table:
            held = self.shares_of[layer.name]
            crosses = isinstance(layer, Weighted) and layer.crosses
            if isinstance(layer, Dropout):
                self.parts[layer.name] = [Dropped(layer) for _ in held]
                segment = self._open(Segment(held, dropout=layer.name))
                continue
            if segment is None or segment.shares != held or (crosses and segment.layers):
                segment = self._open(Segment(held))
            segment.crosses |= crosses
            segment.layers.append(layer)
            self.parts[layer.name] = [make(layer, share) for share in held]
        for number, segment in enumerate(self.segments):
            segment.compose(self.parts)
            for index, blocks in enumerate(segment.blocks):
                self.register_child(blocks, f"segment{number}_{index}")
        self.close()
        for share in self.shares:
            self.parameters_of(share).initialize(ctx=list(share.contexts))
        if micro_batches > 1:
            for parameter in self.learned():
                parameter.grad_req = "add"
        self.cast(dtype)

    def _open(self, segment: Segment) -> Segment:
        self.segments.append(segment)
        return segment

    def close(self) -> None:
        """Let every segment run as one compiled graph.

        Its arrays are planned anew in each step: held from step to step (``static_alloc``), each graph would keep room
        for its gradients while the others compute theirs.
        """
        self.hybridize()

    def open(self) -> None:
        """Let every layer run by itself, so that its hooks are called."""
        self.hybridize(active=False)

    def forward(self, images: list[mx.nd.NDArray], masks: dict[str, list[mx.nd.NDArray]] | None) -> mx.nd.NDArray:
        """Logits (batch, classes) on the context of the last layer's first share.

        ``images``: a copy (batch, 3, rows, columns) for each share of the first layer. ``masks``: by dropout layer,
        each share's part (batch, units of the part), or None at test. Of replicas, that one computes which holds them.
        """
        values = images
        for segment in self.segments:
            if len(self.shares) > len(segment.shares):  # stages, of one share each
                values = [
                    value.as_in_context(share.context) for value, share in zip(values, segment.shares, strict=True)
                ]
            if segment.dropout:
                own = masks[segment.dropout] if masks else [None] * len(values)
                parts = self.parts[segment.dropout]
                values = [drop(value, mask) for drop, value, mask in zip(parts, values, own, strict=True)]
            if segment.crosses:
                values = self._cross(values)
            values = [blocks(value) for blocks, value in zip(segment.blocks, values, strict=True)]
        return self._gather(values, values[0].context)

    def _gather(self, values: list[mx.nd.NDArray], context: mx.Context) -> mx.nd.NDArray:
        """All columns' maps, stacked, on ``context``."""
        if len(values) == 1:
            return values[0]
        return mx.nd.concat(*(value.as_in_context(context) for value in values), dim=1)

    def _cross(self, values: list[mx.nd.NDArray]) -> list[mx.nd.NDArray]:
        return [self._gather(values, value.context) for value in values]

    def parameters_of(self, share: Share) -> gluon.ParameterDict:
        """The parameters that live on a share's contexts."""
        found = gluon.ParameterDict()
        for segment in self.segments:
            if share in segment.shares:
                found.update(segment.blocks[segment.shares.index(share)].collect_params())
        return found

    def canonical(self) -> dict[str, list[gluon.Parameter]]:
        """Canonical name -> the parameter's part in each share."""
        names: dict[str, list[gluon.Parameter]] = {}
        for layer in self.table.weighted():
            for kind in ("weight", "bias"):
                names[f"{layer.name}.{kind}"] = [
                    next(p for key, p in part.collect_params().items() if key.endswith(kind))
                    for part in self.parts[layer.name]
                ]
        return names

    def learned(self) -> list[gluon.Parameter]:
        """Every part of every canonical parameter."""
        return [part for parts in self.canonical().values() for part in parts]

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Take over weights by canonical name; each share takes its rows.

        Raises:
            ValueError: a tensor does not fit.
        """
        for name, parts in self.canonical().items():
            for share, parameter in zip(self.shares_of[name.partition(".")[0]], parts, strict=True):
                part = tensors[name][share.slice(len(tensors[name]))]
                if part.size != prod(parameter.shape):
                    raise ValueError(f"{name} of shape {part.shape} does not fit a block's {parameter.shape}")
                array = mx.nd.array(part.reshape(parameter.shape), ctx=share.context, dtype=self.dtype)
                parameter.set_data(array)

    def assemble(self, read: Callable[[gluon.Parameter], mx.nd.NDArray]) -> dict[str, np.ndarray]:
        """Whole tensors by canonical name of what ``read`` gives for each part: its data, gradient or momentum."""
        shapes = self.table.parameter_shapes()
        return {
            name: np.concatenate([read(parameter).asnumpy() for parameter in parts]).reshape(shapes[name])
            for name, parts in self.canonical().items()
        }

    def weights(self) -> dict[str, np.ndarray]:
        """Whole parameters by canonical name."""
        return self.assemble(lambda parameter: parameter.list_data()[0])

    def stages(self) -> list[str]:
        """The first layer of each pipeline stage."""
        names = [layer.name for layer in self.table]
        return names[:1] + [name for before, name in pairwise(names) if self.shares_of[before] != self.shares_of[name]]

    def parameters_by_context(self) -> dict[mx.Context, int]:
        """How many parameters live on each context, read from the arrays themselves."""
        counts: dict[mx.Context, int] = {}
        for parameter in self.learned():
            for array in parameter.list_data():
                counts[array.context] = counts.get(array.context, 0) + prod(array.shape)
        return counts


class CrossEntropy(gluon.loss.Loss):
    """Loss (batch,) of logits (batch, classes) and labels (batch,).

    MXNet's own takes its exponentials from a fast kernel, which puts float32 gradients tens of units in the last place
    off.
    """

    def __init__(self) -> None:
        super().__init__(weight=None, batch_axis=0)

    def hybrid_forward(self, F: Any, logits: Any, labels: Any) -> Any:
        shifted = F.broadcast_sub(logits, F.BlockGrad(F.max(logits, axis=1, keepdims=True)))
        return F.log(F.sum(F.exp(shifted), axis=1)) - F.pick(shifted, labels)

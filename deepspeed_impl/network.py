"""The layer table carried out by torch modules, as pipeline stages.

Each stage holds a run of whole layers:

    rank 0   conv1 ... pool2  -- activations -->   rank 1   conv3 ... fc8, loss
                              <-- gradients --

Where a rank holds both columns, local layers are grouped convolutions; where it holds one, a crossing layer first
gathers the others' maps.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from torch import nn

from deepspeed_impl.response_norm import ResponseNorm
from deepspeed_impl.share import Crossing, Share, all_logits, maps_last, sent
from paper.architecture import ENDS, Activation, Conv, Dense, Dropout, Layer, Local, Norm, Pool, SpatialNorm, Weighted
from paper.recipe import LAYERS
from protocol.experiment import dropout


@dataclass(frozen=True)
class StepPart:
    """What a rank takes of a step: ``count`` micro-batches of ``size`` images, and a ``share`` of every layer's maps.

    ``first``: its first image's place in the global batch. Dropout masks follow from ``seed`` and the images' places.
    ``lowered``: the type of what products and convolutions take and put out, and so of activations and of what ranks
    send each other; None leaves it that of the weights.
    """

    seed: int
    size: int
    count: int
    first: int = 0
    share: Share = Share()
    lowered: torch.dtype | None = None

    def places(self, seen: int) -> tuple[int, slice]:
        """The step of the micro-batch numbered ``seen``, and its images' places in the global batch."""
        step, place = divmod(seen, self.count)
        start = self.first + place * self.size
        return step, slice(start, start + self.size)


MakeModule = Callable[[Layer, StepPart], nn.Module]


@singledispatch
def make_module(layer: Layer, micro: StepPart) -> nn.Module:
    """The torch module that carries out a rank's share of ``layer``."""
    raise TypeError(f"the DeepSpeed backend does not know {type(layer).__name__}")


class _Postponed(torch.autograd.Function):
    """The convolution ``layer``, whose backward pass leaves the weights' gradient to it."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: "PostponedConv"
    ) -> torch.Tensor:
        ctx.layer = layer
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return layer._conv_forward(x, weight, bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        ctx.layer.catch_up()
        x, weight = ctx.saved_tensors
        back = None
        if ctx.needs_input_grad[0]:
            back, _, _ = ctx.layer.gradients(gradient, x, weight, [True, False, False])
        # ``x`` would hold on to all that it came from.
        ctx.layer.waiting = (x.detach(), gradient)
        return back, None, None, None


class PostponedConv(nn.Conv2d):
    """A convolution whose weights' gradient is computed before the next micro-batch, not in the backward pass.

    So the stage below has sooner what it waits for: its own gradient. Only the order differs, and no bit.
    """

    waiting: tuple[torch.Tensor, torch.Tensor] | None = None
    postpones = True  # where a stage is below

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Postponed.apply(x, self.weight, self.bias, self) if self.postpones else super().forward(x)

    def gradients(
        self, gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, wanted: list[bool]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients by input, weight and bias, those that are ``wanted``."""
        settings = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        return torch.ops.aten.convolution_backward(gradient, x, weight, [self.out_channels], *settings, wanted)

    @torch.no_grad()
    def catch_up(self) -> None:
        """Add the last micro-batch's gradient by weight and bias, if that is still to do."""
        if self.waiting is None:
            return
        (x, gradient), self.waiting = self.waiting, None
        _, weight, bias = self.gradients(gradient, x, self.weight.to(x.dtype), [False, True, True])
        for parameter, found in ((self.weight, weight), (self.bias, bias)):
            found = found.to(parameter.dtype)
            parameter.grad = found if parameter.grad is None else parameter.grad.add_(found)


@make_module.register
def _conv(layer: Conv, micro: StepPart) -> nn.Module:
    groups = micro.share.groups(layer.groups)
    inputs, maps = layer.weight_shape[1] * groups, layer.shape_out[0] // micro.share.count
    kind = PostponedConv if micro.count > 1 else nn.Conv2d
    conv = kind(inputs, maps, layer.kernel, layer.stride, layer.pad, groups=groups)
    if not layer.pad_end:
        return conv
    return nn.Sequential(nn.ZeroPad2d((0, layer.pad_end, 0, layer.pad_end)), conv)


class LocalConv(nn.Module):
    """A convolution of stride 1 whose weights are not shared: (batch, maps, rows, columns), each place by itself."""

    def __init__(self, layer: Local) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.empty(layer.weight_shape))
        self.bias = nn.Parameter(torch.empty(layer.bias_shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, maps = self.layer, self.layer.shape_out[0]
        patches = nn.functional.unfold(x, layer.kernel, padding=layer.pad)  # (batch, inputs, places)
        matrix = self.weight.flatten(3).view(maps, patches.shape[2], -1)  # (maps, places, inputs)
        found = torch.einsum("bip,mpi->bmp", patches, matrix)
        return found.view(len(x), *layer.shape_out) + self.bias.to(found.dtype)


@make_module.register
def _local(layer: Local, micro: StepPart) -> nn.Module:
    return LocalConv(layer)


class GroupedLinear(nn.Module):
    """Fully-connected columns that do not meet: (batch, groups * inputs) -> (batch, units)."""

    def __init__(self, groups: int, inputs: int, units: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(units, inputs))
        self.bias = nn.Parameter(torch.empty(units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.view(len(x), self.groups, -1)  # (batch, groups, inputs)
        matrix = self.weight.view(self.groups, -1, self.weight.shape[1])  # (groups, units / groups, inputs)
        return torch.einsum("ngi,goi->ngo", parts, matrix).reshape(len(x), -1) + self.bias


class _Deferred(torch.autograd.Function):
    """``x @ weight.T + bias``; the backward pass leaves the weights' gradient to ``layer``."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: "DeferredLinear"
    ) -> torch.Tensor:
        ctx.layer = layer
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        return torch.addmm(bias.to(x.dtype), x, weight.t())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        # ``x`` would hold on to all that it came from, and the gradient may lie where DeepSpeed will receive the next.
        ctx.layer.waiting.append((x.detach(), gradient.clone()))
        return gradient @ weight, None, None, None


class DeferredLinear(nn.Linear):
    """A matrix product whose weights' gradient is computed once a step, from all micro-batches together.

    Added up micro-batch by micro-batch, the gradient of fc6 alone moves 600 megabytes each time, which takes longer
    than the arithmetic. Nor does the stage below wait for it.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Deferred.apply(x, self.weight, self.bias, self)

    def finish(self) -> None:
        """Compute the gradients by weight and bias, from all micro-batches since the last time."""
        inputs, gradients = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting.clear()
        dtype = self.weight.dtype
        self.weight.grad, self.bias.grad = (gradients.t() @ inputs).to(dtype), gradients.sum(0, dtype=dtype)


@make_module.register
def _dense(layer: Dense, micro: StepPart) -> nn.Module:
    groups, inputs = micro.share.groups(layer.groups), layer.weight_shape[1]
    units = layer.shape_out[0] // micro.share.count
    if groups > 1:
        linear: nn.Module = GroupedLinear(groups, inputs, units)
    else:
        linear = DeferredLinear(inputs, units) if micro.count > 1 else nn.Linear(inputs, units)
    return nn.Sequential(nn.Flatten(), linear)


@make_module.register
def _activation(layer: Activation, micro: StepPart) -> nn.Module:
    return {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[layer.function]()


@make_module.register
def _norm(layer: Norm, micro: StepPart) -> nn.Module:
    return ResponseNorm(layer, micro.share.groups(layer.groups))


class SpatialResponseNorm(nn.Module):
    def __init__(self, layer: SpatialNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        # In float32 where it was lowered to bfloat16, as the other norm is.
        a = x.to(torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            mean = nn.functional.avg_pool2d(a * a, layer.size, stride=1, padding=layer.size // 2)
            return (a * (layer.k + layer.scale * mean) ** -layer.beta).to(x.dtype)


@make_module.register
def _spatial_norm(layer: SpatialNorm, micro: StepPart) -> nn.Module:
    return SpatialResponseNorm(layer)


@make_module.register
def _pool(layer: Pool, micro: StepPart) -> nn.Module:
    return nn.MaxPool2d(layer.window, layer.stride, ceil_mode=layer.pad_end > 0)


class CountedDropout(nn.Module):
    """Dropout that knows its place: the n-th micro-batch it trains on is number n mod ``count`` of step n // ``count``.

    Evaluation does not count.
    """

    def __init__(self, layer: Dropout, micro: StepPart) -> None:
        super().__init__()
        self.layer, self.micro = layer, micro
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, units = self.layer, self.layer.shape_out[0]
        if not self.training:
            return x if layer.inverted else x * 0.5
        step, places = self.micro.places(self.seen)
        self.seen += 1
        kept = dropout.keep(self.micro.seed, step, places.start, len(x), int(layer.name[-1]), units)
        # From page-locked memory, so that the host need not wait for the device.
        mask = get_accelerator().pin_memory(torch.from_numpy(kept[:, self.micro.share.slice(units)]))
        return x * mask.to(x.device, non_blocking=True).to(x.dtype) * (2.0 if layer.inverted else 1.0)


@make_module.register
def _dropout(layer: Dropout, micro: StepPart) -> nn.Module:
    return CountedDropout(layer, micro)


class Stage(nn.Sequential):
    """A run of layers that one rank carries out, or its share of them, by the layers' names."""

    def __init__(self, layers: Sequence[Layer], micro: StepPart, make: MakeModule = make_module) -> None:
        super().__init__(OrderedDict((layer.name, make(layer, micro)) for layer in layers))
        self.layers, self.micro = {layer.name: layer for layer in layers}, micro
        self.ends_network = layers[-1].name in ENDS
        for module in self.modules():
            if isinstance(module, PostponedConv):
                module.postpones = layers[0].name != LAYERS[0]
        if micro.share.count > 1:
            for layer in layers:
                if isinstance(layer, Weighted) and layer.crosses:
                    setattr(self, layer.name, nn.Sequential(Crossing(micro.share), getattr(self, layer.name)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sent(self.run_layers(maps_last(x)))

    def run_layers(self, x: torch.Tensor) -> torch.Tensor:
        """The layers, in the layout of memory that suits them."""
        lowered, share = self.micro.lowered, self.micro.share
        self.catch_up()
        with torch.autocast(x.device.type, lowered, enabled=lowered is not None):
            x = super().forward(x)
        if not self.ends_network:
            return x
        # The loss is computed in the precision of the weights.
        x = x.to(next(self.parameters()).dtype)
        return all_logits(x, share) if share.count > 1 else x

    def canonical(self) -> dict[str, nn.Parameter]:
        """Canonical name -> parameter, of the layers that this stage holds."""
        names: dict[str, nn.Parameter] = {}
        for name, module in self.named_children():
            for key, parameter in module.named_parameters():
                names[f"{name}.{key.rsplit('.', 1)[-1]}"] = parameter
        return names

    @torch.no_grad()
    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Take over weights by canonical name; a share takes its rows.

        Raises:
            ValueError: a tensor does not fit.
        """
        for name, parameter in self.canonical().items():
            part = self.micro.share.part(tensors[name])
            if part.shape != parameter.shape:
                raise ValueError(f"{name} of shape {part.shape} does not fit a module's {parameter.shape}")
            parameter.copy_(torch.from_numpy(part))

    def catch_up(self) -> None:
        """Compute what the last backward pass has left for now."""
        for module in self.modules():
            if isinstance(module, PostponedConv):
                module.catch_up()

    def finish_gradients(self) -> None:
        """Compute what the backward passes of a step have put off."""
        self.catch_up()
        for module in self.modules():
            if isinstance(module, DeferredLinear):
                module.finish()

    def count_from(self, step: int) -> None:
        """Let the dropout masks go on from ``step``."""
        for module in self.children():
            if isinstance(module, CountedDropout):
                module.seen = step * module.micro.count


class Loss(nn.Module):
    """Mean cross-entropy of a micro-batch; counts wrong first guesses as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[torch.Tensor] = []

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.wrong.append((logits.detach().argmax(1) != labels).sum())
        return nn.functional.cross_entropy(logits, labels)

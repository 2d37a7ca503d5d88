"""The layer table carried out by torch modules, as pipeline stages.

Each stage holds a run of whole layers, both columns of them, local layers as grouped convolutions:

    rank 0   conv1 ... pool2  -- activations -->   rank 1   conv3 ... fc8, loss
                              <-- gradients --
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
from torch import nn

from deepspeed_impl.response_norm import ResponseNorm
from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Norm, Pool, SpatialNorm
from protocol import dropout


@dataclass(frozen=True)
class Slice:
    """How a batch reaches a stage: ``count`` micro-batches of ``size``, whose dropout masks follow from ``seed``."""

    seed: int
    size: int
    count: int


MakeModule = Callable[[Layer, Slice], nn.Module]


@singledispatch
def make_module(layer: Layer, micro: Slice) -> nn.Module:
    """The torch module that carries out ``layer``."""
    raise TypeError(f"the DeepSpeed backend does not know {type(layer).__name__}")


@make_module.register
def _conv(layer: Conv, micro: Slice) -> nn.Module:
    conv = nn.Conv2d(layer.shape_in[0], layer.shape_out[0], layer.kernel, layer.stride, layer.pad, groups=layer.groups)
    if not layer.pad_end:
        return conv
    return nn.Sequential(nn.ZeroPad2d((0, layer.pad_end, 0, layer.pad_end)), conv)


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


@make_module.register
def _dense(layer: Dense, micro: Slice) -> nn.Module:
    units, inputs = layer.weight_shape
    linear = nn.Linear(inputs, units) if layer.groups == 1 else GroupedLinear(layer.groups, inputs, units)
    return nn.Sequential(nn.Flatten(), linear)


@make_module.register
def _activation(layer: Activation, micro: Slice) -> nn.Module:
    return {"relu": nn.ReLU, "tanh": nn.Tanh}[layer.function]()


@make_module.register
def _norm(layer: Norm, micro: Slice) -> nn.Module:
    return ResponseNorm(layer)


class SpatialResponseNorm(nn.Module):
    def __init__(self, layer: SpatialNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        mean = nn.functional.avg_pool2d(x * x, layer.size, stride=1, padding=layer.size // 2)
        return x * (layer.k + layer.scale * mean) ** -layer.beta


@make_module.register
def _spatial_norm(layer: SpatialNorm, micro: Slice) -> nn.Module:
    return SpatialResponseNorm(layer)


@make_module.register
def _pool(layer: Pool, micro: Slice) -> nn.Module:
    return nn.MaxPool2d(layer.window, layer.stride)


class CountedDropout(nn.Module):
    """Dropout that knows its place: the n-th micro-batch it trains on is number n mod ``count`` of step n // ``count``.

    Evaluation does not count.
    """

    def __init__(self, layer: Dropout, micro: Slice) -> None:
        super().__init__()
        self.layer, self.micro = layer, micro
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, micro = self.layer, self.micro
        if not self.training:
            return x if layer.inverted else x * 0.5
        step, place = divmod(self.seen, micro.count)
        self.seen += 1
        kept = dropout.keep(micro.seed, step, place * micro.size, len(x), int(layer.name[-1]), layer.shape_out[0])
        mask = torch.from_numpy(kept).to(x.device, x.dtype)
        return x * mask * (2.0 if layer.inverted else 1.0)


@make_module.register
def _dropout(layer: Dropout, micro: Slice) -> nn.Module:
    return CountedDropout(layer, micro)


class Stage(nn.Sequential):
    """A run of layers that one rank carries out, by the layers' names."""

    def __init__(self, layers: Sequence[Layer], micro: Slice, make: MakeModule = make_module) -> None:
        super().__init__(OrderedDict((layer.name, make(layer, micro)) for layer in layers))
        self.layers = {layer.name: layer for layer in layers}

    def canonical(self) -> dict[str, nn.Parameter]:
        """Canonical name -> parameter, of the layers that this stage holds."""
        names: dict[str, nn.Parameter] = {}
        for name, module in self.named_children():
            for key, parameter in module.named_parameters():
                names[f"{name}.{key.rsplit('.', 1)[-1]}"] = parameter
        return names

    @torch.no_grad()
    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Take over weights by canonical name.

        Raises:
            ValueError: a tensor does not fit.
        """
        for name, parameter in self.canonical().items():
            if tensors[name].shape != parameter.shape:
                raise ValueError(f"{name} of shape {tensors[name].shape} does not fit a module's {parameter.shape}")
            parameter.copy_(torch.from_numpy(tensors[name]))

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

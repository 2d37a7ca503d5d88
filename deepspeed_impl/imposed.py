"""ReLU and pooling that keep to recorded choices instead of making their own, so that rounding cannot tip them."""

import numpy as np
import torch
from torch import nn

from deepspeed_impl.network import StepPart, make_module
from paper.architecture import Activation, Layer, Pool
from protocol.oracle.network import Arrays, flat_places


class Imposed(nn.Module):
    """Follows the choices of one micro-batch after the other."""

    def __init__(self, layer: Layer, micro: StepPart) -> None:
        super().__init__()
        self.layer, self.micro = layer, micro
        self.choices: Arrays = {}
        self.seen = 0

    def chosen(self) -> np.ndarray:
        step, places = self.micro.places(self.seen)
        self.seen += 1
        return self.choices[f"{step}.{self.layer.name}"][places, self.micro.share.slice(self.layer.shape_out[0])]


class ImposedReLU(Imposed):
    """Passes on where the oracle's input was positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.from_numpy(self.chosen()).to(x.device, x.dtype)


class ImposedPool(Imposed):
    """Takes each output from the place where the oracle found the maximum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.layer, Pool)
        places = torch.from_numpy(flat_places(self.layer, self.chosen())).to(x.device)  # (batch, maps, rows, rows)
        return x.flatten(2).gather(2, places.flatten(2)).view(places.shape)


def make_imposed(layer: Layer, micro: StepPart) -> nn.Module:
    if isinstance(layer, Activation):
        return ImposedReLU(layer, micro)
    if isinstance(layer, Pool):
        return ImposedPool(layer, micro)
    return make_module(layer, micro)


def impose(stage: nn.Module, choices: Arrays) -> None:
    """Hand the choices of all steps to every layer of a stage that follows them."""
    for module in stage.modules():
        if isinstance(module, Imposed):
            module.choices = choices

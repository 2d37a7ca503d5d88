"""The response norm (section 3.3), fused by torch's compiler where there is one, and eager elsewhere.

torch's own ``LocalResponseNorm`` divides alpha by the window and takes five passes over memory; here the sums over
neighbouring maps are one product with a banded matrix, since maps lie next to each other in memory (channels last), the
power and the product with the input are one loop, and autograd derives the gradient from the same few lines.
"""

import os
import shutil
from functools import lru_cache

import torch
from torch import nn

from paper.architecture import Norm

COMPILED, EAGER = "compiled by torch", "eager operators"


def response_norm(x: torch.Tensor, band: torch.Tensor, alpha: float, beta: float, k: float) -> torch.Tensor:
    """``x / (k + alpha * sum)^beta``: (batch, maps, rows, columns) -> the same shape.

    ``band`` (maps of a group, maps of a group) is 1 where a map counts in another's sum. What was lowered to bfloat16
    is computed in float32: next to k, bfloat16 has no room for the sum.
    """
    batch, maps, rows, columns = x.shape
    a = x.permute(0, 2, 3, 1).reshape(-1, len(band))  # (batch * rows * columns * groups, maps of a group)
    a = a.to(torch.promote_types(x.dtype, torch.float32))
    inverse = torch.rsqrt(k + alpha * ((a * a) @ band))
    # The paper's beta of 3/4 is one and a half inverse roots, far cheaper than a power.
    scale = inverse * torch.sqrt(inverse) if beta == 0.75 else inverse ** (2 * beta)
    return (a * scale).to(x.dtype).view(batch, rows, columns, maps).permute(0, 3, 1, 2)


@lru_cache(maxsize=1)
def implementation() -> str:
    """Which implementation this process uses."""
    return COMPILED if shutil.which(os.environ.get("CXX", "g++")) else EAGER


@lru_cache(maxsize=1)
def _carrier() -> object:
    return torch.compile(response_norm, dynamic=False) if implementation() == COMPILED else response_norm


class ResponseNorm(nn.Module):
    """Carries out ``layer`` on maps in ``groups``, each confined to its own; ``maps`` are all that it is given."""

    band: torch.Tensor

    def __init__(self, layer: Norm, maps: int, groups: int) -> None:
        super().__init__()
        scale = layer.scale
        place = torch.arange(maps // groups)
        near = (place[:, None] - place).abs() <= scale.size // 2
        self.register_buffer("band", near.to(torch.get_default_dtype()), persistent=False)
        self.settings = (scale.sum_scale, scale.beta, scale.k)
        self.carrier = _carrier()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.carrier(x, self.band, *self.settings)

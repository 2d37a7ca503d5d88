"""The response norm (section 3.3), fused by torch's compiler where there is one, and eager elsewhere.

torch's own ``LocalResponseNorm`` divides alpha by the window and takes five passes over memory; here the window sum,
the power and the product are one loop, and autograd derives the gradient from the same few lines.
"""

import os
import shutil
from functools import lru_cache

import torch
from torch import nn

from paper.architecture import Norm

COMPILED, EAGER = "compiled by torch", "eager operators"


def response_norm(x: torch.Tensor, groups: int, reach: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """``x / (k + alpha * sum)^beta`` over maps within ``reach``: (batch, maps, rows, columns) -> the same shape."""
    batch, maps, rows, columns = x.shape
    run = maps // groups
    a = x.view(batch, groups, run, rows, columns)
    padded = nn.functional.pad(a * a, (0, 0, 0, 0, reach, reach))
    total = sum(padded[:, :, place : place + run] for place in range(2 * reach + 1))
    inverse = torch.rsqrt(k + alpha * total)
    # The paper's beta of 3/4 is one and a half inverse roots, far cheaper than a power.
    scale = inverse * torch.sqrt(inverse) if beta == 0.75 else (k + alpha * total) ** -beta
    return (a * scale).view(x.shape)


@lru_cache(maxsize=1)
def implementation() -> str:
    """Which implementation this process uses."""
    return COMPILED if shutil.which(os.environ.get("CXX", "g++")) else EAGER


@lru_cache(maxsize=1)
def _carrier() -> object:
    return torch.compile(response_norm, dynamic=False) if implementation() == COMPILED else response_norm


class ResponseNorm(nn.Module):
    """Carries out ``layer`` on maps in ``groups``, each confined to its own."""

    def __init__(self, layer: Norm, groups: int) -> None:
        super().__init__()
        scale = layer.scale
        self.settings = (groups, scale.size // 2, scale.sum_scale, scale.beta, scale.k)
        self.carrier = _carrier()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.carrier(x, *self.settings)

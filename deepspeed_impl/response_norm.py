"""The response norm (section 3.3): our compiled operator on CPU, fused by torch's compiler on other devices.

torch's own ``LocalResponseNorm`` divides alpha by the window and takes five passes over memory. Maps lie next to each
other in memory here (channels last), so ``response_norm.cc`` reads each place once. Composed of torch's operators, the
sums over neighbouring maps are one product with a banded matrix.
"""

import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator
from torch import nn

from paper.architecture import Norm
from protocol.base import native
from protocol.base.log import log

Carrier = Callable[[torch.Tensor], torch.Tensor]
SOURCE = Path(__file__).with_suffix(".cc")
OPERATOR, FUSED, EAGER = "compiled operator", "compiled by torch", "eager operators"


@lru_cache(maxsize=1)
def implementation() -> str:
    """Compile and load the operator where it is used; say which implementation this process uses."""
    if native.compiler() is None:
        return EAGER
    if get_accelerator().device_name() != "cpu":
        return FUSED
    wheel = Path(torch.__file__).parent
    arguments = ("-std=c++20", f"-I{wheel / 'include'}", f"-L{wheel / 'lib'}", "-ltorch_cpu", "-lc10")
    try:
        torch.ops.load_library(native.library(SOURCE.stem, (SOURCE,), f"torch {torch.__version__}", arguments))
    except (subprocess.CalledProcessError, OSError) as error:
        log(f"{SOURCE.name} does not compile or load:\n{getattr(error, 'stderr', error)}")
        return EAGER
    return OPERATOR


class _Operator(torch.autograd.Function):
    """Keeps nothing but what it read: the rest is computed once more, in cache, on the way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *settings: float) -> torch.Tensor:
        ctx.settings = settings
        ctx.save_for_backward(x)
        return torch.ops.alexnet.response_norm(x, *settings)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        back = torch.ops.alexnet.response_norm_backward(*gradients, *ctx.saved_tensors, *ctx.settings)
        return back, *(None for _ in ctx.settings)


def composed(x: torch.Tensor, groups: int, size: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """``x / (k + alpha * sum)^beta``: (batch, maps, rows, columns) -> the same shape.

    The sum is over ``size`` neighbouring maps of a group. What was lowered to bfloat16 is computed in float32: next to
    k, bfloat16 has no room for the sum.
    """
    batch, maps, rows, columns = x.shape
    place = torch.arange(maps // groups, device=x.device)
    near = (place[:, None] - place).abs() <= size // 2  # (maps of a group, maps of a group)
    a = x.permute(0, 2, 3, 1).reshape(-1, len(place))  # (batch * rows * columns * groups, maps of a group)
    a = a.to(torch.promote_types(x.dtype, torch.float32))
    inverse = torch.rsqrt(k + alpha * ((a * a) @ near.to(a.dtype)))
    # The paper's beta of 3/4 is one and a half inverse roots, far cheaper than a power.
    scale = inverse * torch.sqrt(inverse) if beta == 0.75 else inverse ** (2 * beta)
    return (a * scale).to(x.dtype).view(batch, rows, columns, maps).permute(0, 3, 1, 2)


GRAPHS = 64  # of one norm: by shape, precision, and whether gradients are kept


def _fused(*settings: float) -> Carrier:
    """The norm fused by torch's compiler, a graph for each shape that it meets.

    By itself the compiler keeps eight graphs of a function, and runs what comes after unfused: stages, their stopwatch,
    tests and an epoch's last batch bring more.
    """
    torch._dynamo.config.recompile_limit = GRAPHS
    groups, size, alpha, beta, k = settings

    def norm(x: torch.Tensor) -> torch.Tensor:
        return composed(x, int(groups), int(size), alpha, beta, k)

    return torch.compile(norm, dynamic=False)


def _applied(*settings: float) -> Carrier:
    return lambda x: _Operator.apply(x, *settings)


def _composed(*settings: float) -> Carrier:
    groups, size, alpha, beta, k = settings
    return lambda x: composed(x, int(groups), int(size), alpha, beta, k)


class ResponseNorm(nn.Module):
    """Carries out ``layer`` on maps in ``groups``, each confined to its own."""

    def __init__(self, layer: Norm, groups: int) -> None:
        super().__init__()
        scale = layer.scale
        settings = (groups, scale.size, scale.sum_scale, scale.beta, scale.k)
        self.kind = implementation()
        self.carrier = {OPERATOR: _applied, FUSED: _fused, EAGER: _composed}[self.kind](*settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.carrier(x)

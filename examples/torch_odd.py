"""Small networks that show less than they seem to: the lint has to say "not seen" rather than something else."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from torch import nn

Make = Callable[[], nn.Module]


def small(
    *after_conv: nn.Module,
    kernel: int = 11,
    stride: int = 8,
    dilation: int = 1,
    after_dense: tuple[nn.Module, ...] = (),
) -> nn.Module:
    """A convolution and two dense layers, and what is put after them."""
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel, stride, dilation=dilation),
        *(after_conv or (nn.ReLU(),)),
        nn.AdaptiveMaxPool2d(3),
        nn.Flatten(),
        nn.Linear(144, 64),
        *(after_dense or (nn.ReLU(), nn.Dropout(0.5))),
        nn.Linear(64, 10),
    )


def trained(normalisation: nn.Module) -> nn.Module:
    """A batch normalisation as training leaves it, its statistics and its own scale no longer those it began with."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in ("running_mean", "running_var", "weight", "bias"):
            getattr(normalisation, name).copy_(0.5 + torch.rand(64, generator=generator))
    return normalisation


def norm() -> nn.Module:
    return nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)


class Groups(nn.Module):
    """Two groups of a dense layer in one product."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 11, 8), nn.Linear(16, 10)
        self.weight = nn.Parameter(torch.randn(2, 4, 8) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halves = torch.relu(self.conv(x)).amax((2, 3)).view(-1, 2, 4)
        return self.last(torch.relu(torch.einsum("ngi,gio->ngo", halves, self.weight)).flatten(1))


odd = SimpleNamespace(
    normalised_after_dropout=partial(small, after_dense=(nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(64))),
    trained_before_relu=lambda: small(after_dense=(trained(nn.BatchNorm1d(64)), nn.ReLU(), nn.Dropout(0.5))),
    trained_after_relu=lambda: small(after_dense=(nn.ReLU(), trained(nn.BatchNorm1d(64)), nn.Dropout(0.5))),
    limited_then_normed=lambda: small(nn.ReLU6(), norm()),
    normed_then_limited=lambda: small(norm(), nn.ReLU6()),
    normed_after_tanh=lambda: small(nn.Tanh(), norm()),
    dropped_to_another_value=partial(small, after_dense=(nn.ReLU(), nn.AlphaDropout(0.5))),
    holes_in_the_kernel=partial(small, kernel=3, dilation=2),
    a_long_stride=partial(small, stride=20),
    pooled_over_many_rows=lambda: small(nn.ReLU(), nn.MaxPool2d(20, 1)),
    groups=Groups,
)

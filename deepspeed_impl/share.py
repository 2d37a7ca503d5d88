"""One rank's share of the columns, and what columns on different ranks send each other (sections 3.2, 3.5).

rank 0   conv1 ... pool2 --+-- all maps -- conv3 ...
                            X
rank 1   conv1 ... pool2 --+-- all maps -- conv3 ...
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import deepspeed.comm as dist
import numpy as np
import torch
from deepspeed.runtime.pipe.topology import ProcessTopology
from torch import nn


def maps_last(x: torch.Tensor) -> torch.Tensor:
    """The same maps with those of one place next to each other in memory, where convolution and pooling are faster."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


@dataclass(frozen=True)
class Group:
    """The ranks that differ in one axis of the grid alone: this is number ``index`` of ``count``."""

    index: int = 0
    count: int = 1
    handle: Any = None

    @classmethod
    def along(cls, topology: ProcessTopology, axis: str) -> "Group":
        """This rank's group along ``axis``. All ranks call it together."""
        found = cls()
        for ranks in topology.get_axis_comm_lists(axis) if topology.get_dim(axis) > 1 else ():
            handle = dist.new_group(ranks=ranks)
            if dist.get_rank() in ranks:
                found = cls(ranks.index(dist.get_rank()), len(ranks), handle)
        return found

    def whole(self, part: torch.Tensor, dim: int) -> torch.Tensor:
        """All ranks' parts, stacked along ``dim``, on every rank."""
        if self.count == 1:
            return part
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(self.count)]
        dist.all_gather(parts, part, group=self.handle)
        return torch.cat(parts, dim)

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Put the sum over all ranks into ``tensor``."""
        if self.count > 1:
            dist.all_reduce(tensor, group=self.handle)
        return tensor


class Averaging:
    """The mean over ``group`` of the gradients of ``parameters``.

    ``at_once``: it is begun for each gradient when the backward pass has found it, and goes on while that finds others;
    not so where several micro-batches add to one gradient.
    """

    def __init__(self, group: Group, parameters: Iterable[nn.Parameter], *, at_once: bool) -> None:
        self.group, self.parameters = group, list(parameters)
        self.begun: list[Any] = []
        self.at_once = at_once and group.count > 1
        if self.at_once:
            for parameter in self.parameters:
                parameter.register_post_accumulate_grad_hook(self._begin)

    def _begin(self, parameter: nn.Parameter) -> None:
        self.begun.append((parameter.grad, dist.all_reduce(parameter.grad, group=self.group.handle, async_op=True)))

    def finish(self) -> None:
        """Put the means into the gradients."""
        if self.group.count > 1 and not self.at_once:
            for parameter in self.parameters:
                self._begin(parameter)
        for gradient, handle in self.begun:
            handle.wait()
            gradient.div_(self.group.count)
        self.begun.clear()


@dataclass(frozen=True)
class Share:
    """A rank's part of every layer's maps: one of as many equal parts as there are ranks in ``columns``."""

    columns: Group = Group()

    @property
    def index(self) -> int:
        return self.columns.index

    @property
    def count(self) -> int:
        return self.columns.count

    def groups(self, groups_of_all: int) -> int:
        return max(1, groups_of_all // self.count)

    def slice(self, maps: int) -> slice:
        return slice(self.index * maps // self.count, (self.index + 1) * maps // self.count)

    def part(self, whole: np.ndarray) -> np.ndarray:
        """This share's rows of a whole parameter."""
        return whole[self.slice(len(whole))]

    def assemble(self, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Whole parameters from every rank's rows."""
        return {name: self.columns.whole(torch.from_numpy(value), 0).numpy() for name, value in parts.items()}


class _Gather(torch.autograd.Function):
    """(batch, maps of the share, ...) -> (batch, all maps, ...), the maps last in memory as everywhere."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, share: Share, each_reads_its_own: bool) -> torch.Tensor:
        ctx.share, ctx.summed = share, each_reads_its_own
        return share.columns.whole(part.movedim(1, -1), -1).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient = gradients[0].movedim(1, -1).contiguous()
        if ctx.summed:
            gradient = ctx.share.columns.add(gradient)
        return gradient[..., ctx.share.slice(gradient.shape[-1])].contiguous().movedim(-1, 1), None, None


class Crossing(nn.Module):
    """Sends each column's maps to every column, each of which then goes on with weights of its own.

    So the gradient by a column's maps is the sum of what all columns found.
    """

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Gather.apply(x, self.share, True)


def all_logits(x: torch.Tensor, share: Share) -> torch.Tensor:
    """(batch, classes of the share) -> (batch, classes). All columns compute the same loss: nothing is summed."""
    return _Gather.apply(x, share, False)


class _Sent(torch.autograd.Function):
    """A copy with the maps first, whose gradient comes back with the maps last, as it would without a cut."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (gradient,) = gradients
        # A copy even where the layouts are one: DeepSpeed receives the next gradient in the same place.
        return gradient.clone(memory_format=torch.channels_last)


def sent(x: torch.Tensor) -> torch.Tensor:
    """What a stage sends on: DeepSpeed sends memory as it lies, and the receiver expects the maps first."""
    return _Sent.apply(x) if x.dim() == 4 else x

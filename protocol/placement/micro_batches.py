"""How many images a pipeline takes at once. No measurement decides it, which would differ from run to run: the order in
which gradients are summed follows from it.
"""

from dataclasses import dataclass
from typing import Protocol


class Rule(Protocol):
    """How a batch is cut for a number of stages."""

    def most(self, stages: int) -> int:
        """How many micro-batches there are at the most."""

    def size(self, stages: int, batch: int) -> int:
        """Images of a micro-batch; divides ``batch``, and is ``batch`` where there is one stage."""


@dataclass(frozen=True)
class UpTo:
    """As many micro-batches as there may be, each of ``smallest`` images or more."""

    count: int
    smallest: int

    def most(self, stages: int) -> int:
        return self.count

    def size(self, stages: int, batch: int) -> int:
        if stages == 1:
            return batch
        fitting = [n for n in range(1, self.count + 1) if batch % n == 0 and batch // n >= self.smallest]
        return batch // max(fitting, default=1)


@dataclass(frozen=True)
class ForEachStage:
    """One micro-batch for each stage at the least, and ``count`` of ``smallest`` images or more where that can be.

    More would wait less for each other, but read the weights more often.
    """

    count: int
    smallest: int

    def most(self, stages: int) -> int:
        return self.count * stages

    def size(self, stages: int, batch: int) -> int:
        if stages == 1:
            return batch
        largest = min(batch // stages, max(self.smallest, batch // self.most(stages)))
        return max(size for size in range(1, max(1, largest) + 1) if batch % size == 0)

"""Where a row of layers is cut into runs that take about as long, and a batch into micro-batches."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

Item = TypeVar("Item")

# Products of fewer images leave a processor idle most of the time, while it reads the weights.
SMALLEST_MICRO_BATCH = 16
OF_EACH_STAGE = 2  # micro-batches at the most: more would wait less for each other, but read the weights more often
MOST_MICRO_BATCHES = 8  # of the Gluon backend's stages together


def micro_batch(stages: int, batch: int) -> int:
    """How many of ``batch`` images a pipeline of DeepSpeed's takes at once.

    It does not follow from measurements, which would differ: the order in which gradients are summed follows from it.
    """
    if stages == 1:
        return batch
    largest = min(batch // stages, max(SMALLEST_MICRO_BATCH, batch // (OF_EACH_STAGE * stages)))
    return max(size for size in range(1, max(1, largest) + 1) if batch % size == 0)


def cut_evenly(items: Sequence[Item], cost: Sequence[float], runs: int) -> tuple[tuple[Item, ...], ...]:
    """The runs of ``items`` of which the most costly costs the least; ``cost``: of each, in any unit."""
    until = [0.0, *accumulate(cost)]
    # By how many items come first: the least that the most costly of some runs can cost, and where they are cut.
    best: dict[int, tuple[float, tuple[int, ...]]] = {place: (until[place], (place,)) for place in range(1, len(until))}
    for _ in range(runs - 1):
        best = {
            end: min(
                (max(most, until[end] - until[place]), (*cuts, end))
                for place, (most, cuts) in best.items()
                if place < end
            )
            for end in range(min(best) + 1, len(until))
        }
    _, cuts = best[len(cost)]
    return tuple(tuple(items[start:end]) for start, end in pairwise((0, *cuts)))

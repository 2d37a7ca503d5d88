"""Where a row of layers is cut into runs that take about as long."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

Item = TypeVar("Item")


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

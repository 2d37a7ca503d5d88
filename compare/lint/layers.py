"""The layers of a linted network: its operations, put side by side where they are carried out in parallel.

An operation's layer follows from the links: one more than the layer of the last operation that it reads. Two
columns written as two branches so become one layer, whose maps are the first branch's and then the second's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from compare.lint.responses import Windows, windows
from protocol.lint.record import IMAGE, Link, LintRecord, Operation, Response


@dataclass(frozen=True)
class LintedLayer:
    """``reads``: which halves of the maps below are read by each half of its own; empty where that is not known."""

    name: str
    dense: bool
    operations: tuple[Operation, ...]
    windows: tuple[Windows | None, ...]  # of each convolution, explicit padding before it included
    responses: tuple[Response, ...]  # of the links that follow
    reads: frozenset[tuple[int, int]]

    @property
    def maps(self) -> int:
        return sum(operation.shape_out[0] for operation in self.operations)


OWN = frozenset({(0, 0), (1, 1)})
BOTH = OWN | {(0, 1), (1, 0)}


def layers(record: LintRecord) -> list[LintedLayer]:
    """The layers in order: conv1, conv2, ..., and the fully-connected ones numbered on from there."""
    depths = _depths(record)
    found: list[LintedLayer] = []
    below: list[int] = []
    for depth in sorted(set(depths)):
        members = [index for index, own in enumerate(depths) if own == depth]
        dense = all(_is_dense(record.operations[index]) for index in members)
        found.append(
            LintedLayer(
                name=f"{'fc' if dense else 'conv'}{len(found) + 1}",
                dense=dense,
                operations=tuple(record.operations[index] for index in members),
                windows=tuple(_windows(record, index) for index in members if not dense),
                responses=tuple(p.response for p in record.links if p.source in members and p.response),
                reads=frozenset(_reads(record, members, below)),
            )
        )
        below = members
    return found


def _depths(record: LintRecord) -> list[int]:
    """Each operation's layer, from 0."""
    depths = [0] * len(record.operations)
    for link in record.links:
        if link.source != IMAGE and link.target < len(depths):
            depths[link.target] = max(depths[link.target], depths[link.source] + 1)
    return depths


def _is_dense(operation: Operation) -> bool:
    """A convolution that leaves one place is a fully-connected layer, written another way."""
    return len(operation.weight) == 2 or prod(operation.shape_out[1:]) == 1


def _into(record: LintRecord, target: int) -> list[Link]:
    return [link for link in record.links if link.target == target]


def _windows(record: LintRecord, index: int) -> Windows | None:
    operation = record.operations[index]
    found = windows(operation.reach, operation.shape_in[1], operation.shape_out[1], [operation.weight[2]])
    links = _into(record, index)
    if found is None or not links:
        return found
    first, rows = links[0].rows
    after = operation.shape_in[1] - first - rows
    return Windows(found.size, found.stride, found.pad + first, found.end + after)


def _reads(record: LintRecord, members: list[int], below: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of a half of the layer's maps and a half of those below that it reads."""
    starts, total = _starts(record, below)
    places, own_total = _starts(record, members)
    for index in members:
        operation = record.operations[index]
        maps, groups = operation.shape_out[0], operation.groups
        entries = operation.shape_in[0] // groups if groups > 1 else prod(operation.shape_in)
        for link in _into(record, index):
            # Where maps are not kept apart, it is not known which of them arrive.
            if link.source not in starts or link.response is None:
                continue
            source = record.operations[link.source].shape_out[0]
            first, count = link.maps
            for group in range(groups):
                low = max(first, group * entries)
                high = min(first + count, (group + 1) * entries)
                if low >= high:
                    continue
                read = (starts[link.source] + (low - first) * source // count, (high - low) * source // count)
                given = (places[index] + group * maps // groups, maps // groups)
                yield from ((mine, other) for mine in _halves(*given, own_total) for other in _halves(*read, total))


def _starts(record: LintRecord, members: list[int]) -> tuple[dict[int, int], int]:
    """Where each operation's maps begin among its layer's, and how many there are in all."""
    starts: dict[int, int] = {}
    total = 0
    for index in members:
        starts[index] = total
        total += record.operations[index].shape_out[0]
    return starts, total


def _halves(first: int, count: int, total: int) -> list[int]:
    """The halves of ``total`` maps that a run of them meets."""
    middle = total / 2
    return [half for half, meets in enumerate((first < middle, first + count > middle)) if meets]

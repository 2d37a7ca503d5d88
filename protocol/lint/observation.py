"""What the lint does to a network, whichever framework carries it out: trace it, then ask each link.

A backend's :class:`Subject` can do three things: carry the network out and note every operation that has weights; carry
it out with chosen tensors in place of what those operations give; and carry out one operation alone. With every
operation's output *pinned*, nothing of the network is left but what lies between the operations, and so the input of
an operation answers to just those outputs that lead to it:

    pinned: operation i gives the stimulus, all others zeros  --ReLU, norm, pool, dropout-->  read at operation j
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, prod
from typing import Protocol

import numpy as np

from paper.architecture import network
from paper.recipe import PRESETS
from protocol.base.errors import Misuse
from protocol.base.provenance import surroundings
from protocol.lint.factory import sentence
from protocol.lint.record import (
    EDGES,
    IMAGE,
    Ending,
    Link,
    LintRecord,
    LintRequest,
    Operation,
    Places,
    Reach,
    Response,
)

# Small enough for the norm's k to show alone, and large enough for its sum to.
AMPLITUDES = (0.01, 0.1, 1.0, 10.0, 30.0, 100.0, 200.0, 500.0, 1000.0, 3000.0, 10000.0)
CURVE = (-1000.0, -10.0, -1.0, -0.1, *AMPLITUDES)
LEVEL = 300.0  # the norm of the paper, of the 2012 code and of Caffe all show at it
DIM = 100.0  # where each of them still grows with its input
FARTHEST = 6  # neighbours asked, on each side
ACROSS = 4  # neighbours asked beyond the middle of the maps
AT_ONCE = 16  # stimuli in a batch
AGAIN = 8  # times the same is given at the least, to see what is dropped by chance
STEPS = (3, 5, 7, 11)  # of the ramps that images are, as many as a normalisation over the batch needs to see
WIDEST_HOLES = 4  # rows from one of a kernel's to the next, at the most
DRAWS = 20_000  # of which a share is known to within half a percent
SAMPLES = 8  # images in training: enough for a share of zeros to within a percent
FIRST_ROWS = next(iter(network("two_column", PRESETS["paper"]))).shape_out[1]

Paint = tuple[int, tuple[int, int] | None, float]  # a map, a place in it (None: everywhere), a value
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Traced:
    """An operation as it was carried out; shapes without the batch."""

    weight: np.ndarray  # (maps, depth, rows, columns) or (units, inputs)
    bias: np.ndarray | None
    shape_in: Shape
    shape_out: Shape
    rows: int = 1  # that it was given for one image


class Subject(Protocol):
    """A network in its framework. ``initialised``: the factory gave the weights their initial values."""

    initialised: bool

    def trace(self, image: np.ndarray) -> list[Traced]:
        """Carry the network out on an image (1, 3, rows, columns)."""
        ...

    def parameters(self) -> int:
        """How many parameters the network has."""
        ...

    def forward(
        self, images: np.ndarray, pinned: dict[int, np.ndarray], wanted: Collection[int], training: bool
    ) -> dict[int, np.ndarray]:
        """The inputs of the operations ``wanted``; one past the last is the output.

        The operations give what is pinned, else zeros.
        """
        ...

    def apply(self, index: int, value: np.ndarray) -> np.ndarray:
        """What operation ``index`` gives for the input ``value``."""
        ...


def observe(request: LintRequest, backend: str, packages: Iterable[str], make: Callable[[], Subject]) -> LintRecord:
    """Measure the network that ``make`` makes anew at each call.

    Raises:
        Misuse: it does not take an image, or has no operation with weights.
    """
    edge, subject, traced = _first_taken(request, make)
    if not traced:
        raise Misuse(f"{request.spec} carries out no convolution and no matrix product with weights of its own")
    for number, operation in enumerate(traced):
        if operation.rows != 1:
            raise Misuse(
                f"{request.spec}: its operation {number} takes {operation.rows} rows for one image, as a product along "
                "the maps does, which is no layer that could be told from others"
            )
    trial = LinkTrial(subject, traced, edge)
    seen = sum(operation.weight.size + (0 if operation.bias is None else operation.bias.size) for operation in traced)
    total = subject.parameters()
    try:
        return LintRecord(
            backend=backend,
            subject=request.spec,
            edge=edge,
            initialised=subject.initialised,
            parameters=total,
            unseen=total - seen,
            operations=[_operation(subject, index, operation) for index, operation in enumerate(traced)],
            links=list(trial.links()),
            ending=trial.ending(),
            **surroundings(packages),
        )
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Misuse(f"{request.spec} cannot be tried with another batch ({sentence(error)})") from error


def _first_taken(request: LintRequest, make: Callable[[], Subject]) -> tuple[int, Subject, list[Traced]]:
    """The image's edge, and the network traced with it: the first that gives conv1 the paper's rows, else any.

    Each edge meets a network of its own, since one whose shapes are open settles them at the first image.
    """
    taken: list[tuple[int, Subject, list[Traced]]] = []
    refusal = ""
    edges = EDGES if request.edge is None else (request.edge,)
    for edge in edges:
        subject = make()
        try:
            traced = subject.trace(np.zeros((1, 3, edge, edge), np.float32))
        except Misuse:
            raise
        except Exception as error:  # foreign code may raise anything at all
            refusal = sentence(error)
            continue
        taken.append((edge, subject, traced))
        if traced and traced[0].shape_out[1:2] == (FIRST_ROWS,):
            return taken[-1]
    if not taken:
        images = " or ".join(f"(1, 3, {edge}, {edge})" for edge in edges)
        raise Misuse(f"{request.spec} cannot be carried out on images {images} ({refusal})")
    return taken[0]


def _operation(subject: Subject, index: int, traced: Traced) -> Operation:
    bias = traced.bias
    return Operation(
        weight=list(traced.weight.shape),
        bias=bias is not None,
        shape_in=list(traced.shape_in),
        shape_out=list(traced.shape_out),
        weight_mean=float(traced.weight.mean(dtype=np.float64)),
        weight_deviation=float(traced.weight.std(dtype=np.float64)),
        bias_mean=None if bias is None else float(bias.mean(dtype=np.float64)),
        bias_deviation=None if bias is None else float(bias.std(dtype=np.float64)),
        reach=_reach_of_kernel(subject, index, traced) if traced.weight.ndim == 4 else [],
    )


def _reach_of_kernel(subject: Subject, index: int, traced: Traced) -> Reach:
    """Light up one row of the input after the other; as narrow a strip as the kernel is cheap."""
    maps, rows, _ = traced.shape_in
    ends = 3 * traced.weight.shape[2]
    lit = sorted({*range(min(rows, ends)), *range(max(0, rows - ends), rows)})
    # As wide as the kernel, and wider where there may be holes in it.
    wide = min(traced.shape_in[2], WIDEST_HOLES * traced.weight.shape[3])
    strips = np.zeros((len(lit) + 1, maps, rows, wide), np.float32)
    for number, row in enumerate(lit):
        strips[number, :, row] = LEVEL
    given = subject.apply(index, strips)  # (strips, maps, rows, columns), the last unlit
    change = np.abs(given[:-1] - given[-1:]).max(axis=(1, 3))
    return [(row, *_span(changed)) for row, changed in zip(lit, change > 1e-6 * change.max(), strict=True)]


def _span(responds: np.ndarray) -> tuple[int, int]:
    """First and last true entry; -1, -1 where there is none."""
    (found,) = np.nonzero(responds)
    return (int(found[0]), int(found[-1])) if len(found) else (-1, -1)


class LinkTrial:
    """Tries the links of one network."""

    def __init__(self, subject: Subject, traced: Sequence[Traced], edge: int) -> None:
        self.subject, self.traced, self.edge = subject, traced, edge

    def links(self) -> Iterator[Link]:
        """Every link there is, in the order of its source."""
        # Training may change what test sees, as batch normalisation does, so it comes last.
        yield from map(self._trained, list(self._tested()))

    def _tested(self) -> Iterator[Link]:
        for source in range(IMAGE, len(self.traced)):
            shape = self._shape(source)
            ramp = (0.5 + np.arange(prod(shape), dtype=np.float32) % 97 / 97).reshape(shape)
            targets = range(source + 1, len(self.traced) + 1)
            arrived = self._arrive(source, np.stack([np.zeros_like(ramp), ramp]), targets)
            for target in targets:
                change = np.asarray(arrived[target][1] != arrived[target][0])
                if change.any():
                    yield self._link(source, target, change)

    def ending(self) -> Ending | None:
        """What becomes of the last operation's output; None where the network does not end with it."""
        last = len(self.traced) - 1
        shape = self._shape(last)
        ramp = np.linspace(-2, 2, prod(shape), dtype=np.float32).reshape(1, *shape)
        given = self._arrive(last, ramp, [last + 1])[last + 1].astype(np.float64)
        if given.size != ramp.size:
            return None
        return Ending(
            total=float(given.sum()),
            log_total=float(np.logaddexp.reduce(given.ravel())),
            change=float(np.abs(given.ravel() - ramp.ravel()).max()),
        )

    def _shape(self, source: int) -> Shape:
        return (3, self.edge, self.edge) if source == IMAGE else self.traced[source].shape_out

    def _arrive(
        self, source: int, values: np.ndarray, targets: Collection[int], *, training: bool = False
    ) -> dict[int, np.ndarray]:
        """What reaches each target when the source gives ``values`` (stimuli, ...)."""
        if source == IMAGE:
            return self.subject.forward(values, {}, targets, training)
        images = np.zeros((len(values), 3, self.edge, self.edge), np.float32)
        return self.subject.forward(images, {source: values}, targets, training)

    def _link(self, source: int, target: int, change: np.ndarray) -> Link:
        """``change``: which entries of the target's input respond to the source at all."""
        by_map: np.ndarray = np.asarray(change.reshape(len(change), -1).any(axis=1))
        if change.ndim == 1 and len(change) == self._shape(source)[0]:
            # As many as the source has are its own, though dropout that goes on at test hides some.
            by_map[:] = True
        first, last = _span(by_map)
        rows = (0, 1) if change.ndim < 3 else _span(np.asarray(change.any(axis=(0, 2))))
        link = Link(
            source=source,
            target=target,
            maps=(first, last - first + 1),
            rows=(rows[0], rows[1] - rows[0] + 1) if change.ndim == 3 else rows,
            response=None,
        )
        # A flattened input holds each map's places one after the other.
        apart = link.maps[1] % self._shape(source)[0] == 0 and by_map[first : last + 1].all()
        if source == IMAGE or target == len(self.traced) or not apart:
            return link
        return link.model_copy(update={"response": self._response(link)})

    def _maps(self, link: Link, values: np.ndarray, *, training: bool = False) -> np.ndarray:
        """What arrives, (stimuli, maps of the source, rows, columns), when the source gives ``values``."""
        arrived = self._arrive(link.source, values, [link.target], training=training)[link.target]
        first, count = link.maps
        maps = self._shape(link.source)[0]
        own = arrived[:, first : first + count]
        if own.ndim == 4:
            top, height = link.rows
            own = own[:, :, top : top + height, top : top + height]
        else:
            places = count // maps
            rows = isqrt(places) if isqrt(places) ** 2 == places else places
            own = own.reshape(len(own), count, -1).reshape(len(own), maps, rows, -1)
        return own

    def _paint(self, source: int, paints: Sequence[Paint]) -> np.ndarray:
        shape = self._shape(source)
        value = np.zeros(shape, np.float32)
        for number, place, level in paints:
            value[number if place is None or len(shape) == 1 else (number, *place)] = level
        return value

    def _read(self, link: Link, number: int, stimuli: Sequence[Sequence[Paint]]) -> list[np.ndarray]:
        """What arrives of map ``number`` (rows, columns) for each stimulus."""
        found: list[np.ndarray] = []
        for start in range(0, len(stimuli), AT_ONCE):
            values = np.stack([self._paint(link.source, paints) for paints in stimuli[start : start + AT_ONCE]])
            found.extend(self._maps(link, values)[:, number].astype(np.float64))
        return found

    def _response(self, link: Link) -> Response:
        maps = self._shape(link.source)[0]
        asked, last = maps // 4, maps // 2 - 1
        near = [step for step in range(-FARTHEST, FARTHEST + 1) if 0 <= asked + step < maps]
        across = [step for step in range(ACROSS + 1) if last + step < maps]
        stimuli: list[list[Paint]] = [[(asked, None, value)] for value in CURVE]
        stimuli += [[(asked + step, None, LEVEL), (asked, None, LEVEL)] for step in near]
        next_to = [(asked + 1, None, -LEVEL)] if asked + 1 < maps else []
        stimuli.append([(asked, None, LEVEL), *next_to])
        read = [_middle(arrived) for arrived in self._read(link, asked, stimuli)]
        over: list[list[Paint]] = [[(last + step, None, LEVEL), (last, None, LEVEL)] for step in across]
        boundary = [_middle(arrived) for arrived in self._read(link, last, over)]
        tested = self._maps(link, self._ones(link)).astype(np.float64)
        kept = tested[tested != 0]
        return Response(
            curve=list(zip(CURVE, read[: len(CURVE)], strict=True)),
            neighbours=list(zip(near, read[len(CURVE) : -1], strict=True)),
            boundary=list(zip(across, boundary, strict=True)),
            opposed=read[-1],
            reach=self._reach(link),
            places=self._places(link, asked),
            lost=0.0,
            survivors=0.0,
            # Of what is dropped at test too, those that are left say nothing of its scale.
            tested=float(kept.mean()) if kept.size else 0.0,
            lost_tested=self._lost(link, training=False),
        )

    def _lost(self, link: Link, *, training: bool) -> float:
        """Of the places where something arrives now and then, the share where nothing does, given the same again.

        What a ReLU cuts off, or a normalisation takes away, never arrives, and is not counted; a constant stimulus
        would be taken away whole.
        """
        shape = self._shape(link.source)
        given = np.stack([1 + np.arange(prod(shape)) * step % 89 / 89 for step in STEPS])
        values = given.reshape(len(STEPS), *shape).astype(np.float32)
        taken = [self._maps(link, values, training=training) for _ in range(2)]
        if np.array_equal(taken[0], taken[1]):
            return 0.0  # nothing happens by chance
        again = max(AGAIN, -(-DRAWS // taken[0].size))
        taken += [self._maps(link, values, training=training) for _ in range(again - 2)]
        arrives = np.stack(taken) != 0  # (again, images, maps, rows, columns)
        ever = arrives.any(axis=0)
        lost = 1 - float(arrives[:, ever].mean()) if ever.any() else 0.0
        # What is dropped before a normalisation is nought in all images together; and some layers put another number in
        # the place of what they drop.
        in_both, in_first = 0, 0
        for one, other in pairwise(range(len(STEPS))):
            gone = ~arrives[:, [one, other]][:, :, ever[one] & ever[other]]
            in_both, in_first = in_both + int(gone.all(axis=1).sum()), in_first + int(gone[:, 0].sum())
        together = in_both / in_first if in_first else 1.0
        return float("nan") if lost < 0.01 or (together > 0.9 and lost < 0.8) else lost

    def _batched(self, link: Link) -> bool:
        """Whether what arrives of an image in training depends on the others, as normalisation over the batch does."""
        one = self._ones(link)[:2]
        others = np.stack([one[0], 3 * one[1]])
        alone, beside = (self._maps(link, values, training=True)[0].astype(np.float64) for values in (one, others))
        both = (alone != 0) & (beside != 0)
        return bool(np.abs(alone - beside)[both].max(initial=0.0) > 1e-4 * np.abs(alone).max(initial=0.0))

    def _ones(self, link: Link) -> np.ndarray:
        return np.ones((SAMPLES, *self._shape(link.source)), np.float32)

    def _trained(self, link: Link) -> Link:
        """The link with what training loses in it."""
        if link.response is None:
            return link
        lost = self._lost(link, training=True)
        trained = self._maps(link, self._ones(link), training=True).astype(np.float64)
        kept = trained[trained != 0]
        survivors = float(kept.mean()) if kept.size else 0.0
        seen = {"lost": lost, "survivors": survivors, "batched": self._batched(link)}
        response = link.response.model_copy(update=seen)
        return link.model_copy(update={"response": response})

    def _places(self, link: Link, asked: int) -> Places | None:
        shape = self._shape(link.source)
        if len(shape) == 1 or min(shape[1:]) < 2 or shape[0] < 2:
            return None
        # A multiple of 6 starts a window of any usual stride, so the corner shares one with the place after it.
        corner = (6 * (shape[1] // 12), 6 * (shape[2] // 12))
        here, left = (corner[0] + 1, corner[1] + 1), (corner[0] + 1, corner[1])
        one: list[Paint] = [(asked, here, LEVEL)]
        stimuli: list[list[Paint]] = [
            one,
            [*one, (asked + 1, here, LEVEL)],
            [*one, (asked + 1, corner, LEVEL)],
            [(asked, here, DIM)],
            [(asked, left, DIM / 2)],
            [(asked, here, DIM), (asked, left, DIM / 2)],
        ]
        read = self._read(link, asked, stimuli)
        lone, same, other, dim, half, beside = (float(arrived.ravel()[np.abs(arrived).argmax()]) for arrived in read)
        # Where windows overlap, some hold the place alone: those that hold both tell.
        other = min((float(value) for value in read[2].ravel() if value), key=abs, default=other)
        return Places(lone=lone, same=same, other=other, dim=dim, half=half, beside=beside)

    def _reach(self, link: Link) -> Reach:
        """Rows that respond to each row of the source, each asked in a map of its own, several at once."""
        shape = self._shape(link.source)
        if len(shape) == 1:
            return []
        maps, rows, columns = shape
        values = np.zeros((-(-rows // maps) + 1, *shape), np.float32)
        for row in range(rows):
            values[row // maps, row % maps, row, columns // 2] = 1
        arrived = self._maps(link, values)  # the last is of a source that gives zeros
        changed = (arrived[:-1] != arrived[-1:]).any(axis=3)
        return [(row, *_span(changed[row // maps, row % maps])) for row in range(rows)]


def _middle(arrived: np.ndarray) -> float:
    return float(arrived[arrived.shape[0] // 2, arrived.shape[1] // 2])

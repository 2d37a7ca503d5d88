"""A step of the Gluon backend on paper: which arrays MXNet's autograd and its compiled graphs hold, and when.

A run of layers between two crossings or dropouts is one compiled graph. Forward, each layer's output is an array of its
own, but for a ReLU's, which overwrites what it reads or is part of the norm after it. Backward, MXNet plans for the
whole graph which gradients share a storage, and a storage is as large as the largest that it will hold. Checked against
MXNet's own counters (``tests/gluon_impl/test_ledger.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from paper.architecture import Activation, Dropout, Layer, Norm, Pool, SpatialNorm, Weighted
from protocol.ledger.memory import Block, Memory, Part

COMPOSED = 4  # arrays that the operators of the norm within a map leave on the way
HOLDING = (Norm, SpatialNorm, Pool)  # what a graph was given is let go after the first that is none of these
REACH = 16  # a storage is used again for up to so many times more, or less


@dataclass
class Graph:
    """Layers compiled together, and the arrays that each leaves for its backward pass."""

    layers: list[Layer]
    kept: dict[str, list[Block]]

    def keep(self, layer: Layer, block: Block) -> None:
        self.kept[layer.name].append(block)


def step(part: Part) -> Memory:
    """The memory of one context over a step."""
    memory = Memory()
    for layer in part.layers:
        for kind in ("parameters", "gradients", "momentum"):
            memory.take(part.parameters(layer), layer, kind)
        if layer is part.network.layers[0]:
            memory.take(part.waiting * part.micro_batches * part.input(layer), layer)
        if isinstance(layer, Dropout):  # its masks
            memory.take(part.waiting * part.micro_batches * part.output(layer), layer)
    passes = [forward(part, memory) for _ in range(part.in_flight)]
    backward(part, memory, passes[0])
    return memory


def graphs(part: Part) -> list[list[Layer]]:
    """Runs of layers; a ReLU before a norm is part of the norm's operator and leaves nothing."""
    found: list[list[Layer]] = []
    for layer, following in zip(part.layers, [*part.layers[1:], None], strict=True):
        if isinstance(layer, Activation) and isinstance(following, Norm):
            continue
        crosses = isinstance(layer, Weighted) and layer.crosses
        if not found or crosses or isinstance(layer, Dropout) or isinstance(found[-1][0], Dropout):
            found.append([])
        found[-1].append(layer)
    return found


def forward(part: Part, memory: Memory) -> list[Graph]:
    found = []
    for layers in graphs(part):
        graph = Graph(layers, {layer.name: [] for layer in layers})
        first = layers[0]
        if not part.reads_images and first is part.layers[0]:
            graph.keep(first, memory.take(part.input(first), first))  # as it arrived from the context before
        if part.crosses(first):
            graph.keep(first, memory.take(part.columns * part.input(first), first))
        for before, layer in zip([None, *layers], layers, strict=False):
            size = part.output(layer)
            if isinstance(layer, Activation) and isinstance(before, Weighted):
                continue
            graph.keep(layer, memory.take(size, layer))
            if isinstance(layer, Norm | SpatialNorm):
                memory.pass_by(size, layer)  # our operator's input, out of oneDNN's layout
            if isinstance(layer, Dropout):
                graph.keep(layer, memory.take(size, layer))  # scaled
            if isinstance(layer, SpatialNorm):
                graph.keep(layer, memory.take(COMPOSED * size, layer))
        found.append(graph)
    return found


def backward(part: Part, memory: Memory, passed: list[Graph]) -> None:
    last = part.layers[-1]
    arrived = memory.take(part.output(last), last)
    for graph in reversed(passed):
        planned = plan(part, graph.layers)
        held: dict[int, Block] = {}
        given = [arrived]
        for place, layer in enumerate(reversed(graph.layers)):
            storage = planned.uses[place]
            if storage is not None and storage not in held:
                held[storage] = memory.take(planned.sizes[storage], layer)
            if isinstance(layer, Norm | SpatialNorm):
                memory.pass_by(part.output(layer), layer)
            if storage is None or not isinstance(layer, HOLDING):
                memory.drop(*given)
                given = []
            if storage is None:
                # What crossed: the gradient by each column's maps, those that come back, and their sum.
                arrived = memory.take(_back(part, layer) * (2 if part.crosses(layer) else 1), layer)
            memory.drop(*graph.kept[layer.name])
            memory.drop(*(held.pop(done) for done in list(held) if done not in planned.uses[place:]))
        memory.drop(*held.values())
    memory.drop(arrived)


def _back(part: Part, layer: Layer) -> int:
    """Bytes of the gradient by what ``layer`` reads."""
    return part.input(layer) * (part.columns if part.crosses(layer) else 1)


@dataclass
class Plan:
    """How gradients share a graph's storages of ``sizes``.

    ``uses``: by layer, the last first, which one the gradient by its input lies in; None: it is handed on.
    """

    sizes: list[int]
    uses: list[int | None]


def plan(part: Part, layers: Sequence[Layer]) -> Plan:
    """Assign gradients to storages as MXNet's planner does, first come, first served."""
    found = Plan([], [])
    free: list[int] = []
    before: int | None = None  # where the gradient by the layer's output lies
    for layer in reversed(layers):
        if layer is layers[0]:
            found.uses.append(None)
            break
        if isinstance(layer, Activation) and before is not None:
            found.uses.append(before)  # in place
            continue
        storage = _take(found, free, _back(part, layer))
        # The planner does not use again what the norm's operator reads.
        if before is not None and not isinstance(layer, Norm | SpatialNorm):
            free.append(before)
        found.uses.append(storage)
        before = storage
    return found


def _take(found: Plan, free: list[int], size: int) -> int:
    """The smallest free storage that is large enough, or the largest that is not, or a new one."""
    ordered = sorted((found.sizes[storage], storage) for storage in free)
    enough = [storage for held, storage in ordered if size <= held <= REACH * size]
    small = [storage for held, storage in reversed(ordered) if size > held >= size // REACH]
    for storage in (*enough, *small):
        free.remove(storage)
        found.sizes[storage] = max(size, found.sizes[storage])
        return storage
    found.sizes.append(size)
    return len(found.sizes) - 1

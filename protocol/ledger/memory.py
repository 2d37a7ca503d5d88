"""A device's memory while a step is carried out on paper: what is taken, what is given back, the most at one time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from paper.architecture import Layer, Network, Weighted
from paper.cost import parameters_of

KINDS = ("parameters", "gradients", "momentum", "activations")
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Part:
    """What one device takes of a step.

    ``layers``: a run of ``network``'s, of whose maps it holds one of ``columns`` equal parts. ``images``: of one
    micro-batch; ``micro_batches`` of them make a step, of which up to ``in_flight`` are under way at a time.
    ``waiting``: how many steps' images lie on the device, the one in use among them, where they wait there. ``width``:
    bytes of a number; ``lowered``: those of activations, where they have fewer.
    """

    network: Network
    layers: Sequence[Layer]
    images: int
    columns: int = 1
    micro_batches: int = 1
    in_flight: int = 1
    waiting: int = 0
    width: int = FLOAT32
    lowered: int | None = None

    @property
    def activation_width(self) -> int:
        return self.lowered or self.width

    @property
    def reads_images(self) -> bool:
        return self.layers[0] is self.network.layers[0]

    @property
    def ends_network(self) -> bool:
        return self.layers[-1] is self.network.layers[-1]

    def input(self, layer: Layer) -> int:
        """Bytes of a micro-batch of what ``layer`` reads of its own column; the images have none."""
        columns = 1 if layer is self.network.layers[0] else self.columns
        return self.images * prod(layer.shape_in) // columns * self.activation_width

    def output(self, layer: Layer) -> int:
        return self.images * prod(layer.shape_out) // self.columns * self.activation_width

    def parameters(self, layer: Layer) -> int:
        """Bytes of ``layer``'s weights and biases."""
        return parameters_of(layer) // self.columns * self.width

    def crosses(self, layer: Layer) -> bool:
        """Whether other columns' maps are fetched for ``layer``."""
        return self.columns > 1 and isinstance(layer, Weighted) and layer.crosses


@dataclass(eq=False)
class Block:
    """Bytes allocated together; ``users`` hold on to them."""

    size: int
    layer: str
    kind: str
    users: int = 1


class Memory:
    """``size``: bytes allocated now; ``peak``: the most so far, which ``at_peak`` has by layer and kind."""

    def __init__(self) -> None:
        self.size = self.peak = 0
        self.held: Counter[tuple[str, str]] = Counter()
        self.at_peak: Counter[tuple[str, str]] = Counter()

    def take(self, size: int, layer: Layer, kind: str = "activations") -> Block:
        block = Block(size, layer.name, kind)
        self.held[layer.name, kind] += size
        self.size += size
        if self.size > self.peak:
            self.peak, self.at_peak = self.size, self.held.copy()
        return block

    def drop(self, *blocks: Block) -> None:
        """Let go of ``blocks``; those that nobody else uses are free."""
        for block in blocks:
            block.users -= 1
            if block.users == 0:
                self.held[block.layer, block.kind] -= block.size
                self.size -= block.size

    def pass_by(self, size: int, layer: Layer) -> None:
        """Take ``size`` bytes and give them back."""
        self.drop(self.take(size, layer))

    def of_kind(self, kind: str) -> int:
        """Bytes of ``kind`` at the peak."""
        return sum(size for (_, of), size in self.at_peak.items() if of == kind)


def keep(block: Block) -> Block:
    """Hold on to ``block`` as well."""
    block.users += 1
    return block

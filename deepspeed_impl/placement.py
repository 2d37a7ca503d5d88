"""How the network lies on ranks: a grid of pipeline stages, columns and replicas.

``stages`` are cut where their work is most even, ``columns`` are the paper's two (section 3.5), and each of
``replicas`` takes its part of the batch.
"""

from dataclasses import dataclass
from itertools import product
from math import inf, prod

from deepspeed.accelerator import get_accelerator

from paper.architecture import Layer, Network, Norm, SpatialNorm, Weighted
from paper.cost import layer_train_flops, weights
from protocol.devices import parse
from protocol.errors import Misuse


@dataclass(frozen=True)
class Grid:
    """How many stages, columns and replicas there are. Ranks count columns fastest, then replicas, then stages."""

    stages: int = 1
    columns: int = 1
    replicas: int = 1

    @property
    def ranks(self) -> int:
        return self.stages * self.columns * self.replicas

    @property
    def name(self) -> str:
        """``single``, or what there are two of: ``stages``, ``stages-columns`` ..."""
        several = [axis for axis in ("stages", "columns", "replicas") if getattr(self, axis) > 1]
        return "-".join(several) or "single"


GRIDS = {grid.name: grid for grid in (Grid(*counts) for counts in product((1, 2), repeat=3))}
PLACEMENTS = {name: grid.ranks for name, grid in GRIDS.items()}
# What else training costs, in floating-point operations done in about the same time: for each output (the response
# norm goes over its maps several times), and for each weight in each micro-batch (read twice, and its gradient added to
# what other micro-batches left). The micro-batch follows from these, on every machine the same, since the order in
# which gradients are summed follows from the micro-batch. Where the cut lies changes no bit, so it is measured.
FLOPS_PER_NORMED_OUTPUT = 600
FLOPS_PER_OUTPUT = 200
FLOPS_PER_WEIGHT = 270
SMALLEST_MICRO_BATCH = 4


def default_devices(placement: str) -> list[str]:
    accelerator = get_accelerator()
    kind = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    return [f"{kind}:{index}" for index in range(PLACEMENTS.get(placement, 1))]


def check_devices(placement: str, devices: list[str]) -> None:
    """Check that ``placement`` can be carried out on ``devices``; a rank takes each, in order.

    Raises:
        Misuse: the placement or a device is unknown or absent, or there are too many or too few.
    """
    accelerator = get_accelerator()
    here = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    for place, (kind, number) in enumerate(parse("deepspeed", PLACEMENTS, placement, devices)):
        if kind != here or (kind == "gpu" and number >= accelerator.device_count()):
            found = f"{accelerator.device_count()} of {accelerator.device_name()}"
            raise Misuse(f"--devices: there is no {kind}:{number} here; DeepSpeed's accelerator has {found}")
        if number != place:
            raise Misuse(f"--devices: DeepSpeed's launcher numbers ranks in order: {kind}:{place}, not {kind}:{number}")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's stages, as runs of layers, and the size of the micro-batches they take."""

    stages: tuple[tuple[Layer, ...], ...]
    micro_batch: int


def work(network: Network, layer: Layer, batch: int, micro_batch: int) -> float:
    """What one step costs in ``layer``, in floating-point operations or their worth."""
    per_output = FLOPS_PER_NORMED_OUTPUT if isinstance(layer, Norm | SpatialNorm) else FLOPS_PER_OUTPUT
    per_image = layer_train_flops(network, layer) + per_output * prod(layer.shape_out)
    held = weights(layer) if isinstance(layer, Weighted) else 0
    return batch * per_image + (batch // micro_batch) * FLOPS_PER_WEIGHT * held


def check_network(network: Network, placement: str) -> None:
    """Check that ``network`` can be carried out in ``placement``.

    Raises:
        Misuse: its columns are not as many as the placement's, or cannot be parted.
    """
    columns = GRIDS[placement].columns
    if columns > 1 and columns != network.columns:
        raise Misuse(f"variant {network.variant} has {network.columns} column(s), so {columns} ranks cannot share it")
    if columns > 1 and network.norm_spans_columns:
        raise Misuse("this preset's response norm reaches across the columns, which placement columns cannot do")


def plan(network: Network, placement: str, batch: int, micro_batch: int | None = None) -> Pipeline:
    """The cut and the micro-batch that finish a step of ``batch`` images soonest.

    With m micro-batches in p stages a step takes (m + p - 1) / m times the slowest stage's work. More micro-batches
    wait less and touch the weights more often.
    """
    if GRIDS[placement].stages == 1:
        return Pipeline((network.layers,), micro_batch or batch)
    sizes = [micro_batch] if micro_batch else [n for n in range(SMALLEST_MICRO_BATCH, batch) if batch % n == 0]
    best, soonest = Pipeline((network.layers,), batch), inf
    for size in sizes or [batch]:
        cost = [work(network, layer, batch, size) for layer in network]
        count = batch // size
        for place in range(1, len(cost)):
            slower = max(sum(cost[:place]), sum(cost[place:]))
            if (took := slower * (count + 1) / count) < soonest:
                best, soonest = Pipeline((network.layers[:place], network.layers[place:]), size), took
    return best


def cut_evenly(network: Network, micro_batch: int, seconds: list[float]) -> Pipeline:
    """The cut whose slower stage has the least to do; ``seconds``: each layer's share of a step."""
    place = min(range(1, len(seconds)), key=lambda at: max(sum(seconds[:at]), sum(seconds[at:])))
    return Pipeline((network.layers[:place], network.layers[place:]), micro_batch)

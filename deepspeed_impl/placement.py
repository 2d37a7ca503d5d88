"""How the network lies on ranks: a grid of pipeline stages, columns and replicas.

``stages`` are cut where their work is most even, ``columns`` are the paper's two (section 3.5), and each of
``replicas`` takes its part of the batch.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf, prod

from deepspeed.accelerator import get_accelerator

from paper.architecture import Layer, Network, Norm, SpatialNorm, Weighted
from paper.cost import layer_train_flops, weights
from protocol.devices import parse
from protocol.errors import Misuse
from protocol.grid import Grid

# What else training costs, in floating-point operations done in about the same time: for each output (the response
# norm goes over its maps several times), and for each weight in each micro-batch (read twice, and its gradient added to
# what other micro-batches left). The micro-batch follows from these, on every machine the same, since the order in
# which gradients are summed follows from the micro-batch. Where the cut lies changes no bit, so it is measured.
FLOPS_PER_NORMED_OUTPUT = 600
FLOPS_PER_OUTPUT = 200
FLOPS_PER_WEIGHT = 270
SMALLEST_MICRO_BATCH = 4


def default_devices(grid: Grid) -> list[str]:
    accelerator = get_accelerator()
    kind = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    return [f"{kind}:{index}" for index in range(grid.devices)]


def check_devices(grid: Grid, devices: list[str]) -> None:
    """Check that ``grid`` can be carried out on ``devices``; a rank takes each, in order.

    Raises:
        Misuse: a device is unknown or absent, or there are too many or too few.
    """
    accelerator = get_accelerator()
    here = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    for place, (kind, number) in enumerate(parse(grid.name, grid.devices, devices)):
        if kind != here or (kind == "gpu" and number >= accelerator.device_count()):
            found = f"{accelerator.device_count()} of {accelerator.device_name()}"
            raise Misuse(f"--devices: there is no {kind}:{number} here; DeepSpeed's accelerator has {found}")
        if number != place:
            raise Misuse(f"--devices: DeepSpeed's launcher numbers ranks in order: {kind}:{place}, not {kind}:{number}")


def check_network(network: Network, grid: Grid) -> None:
    """Check that ``network`` can be carried out in ``grid``.

    Raises:
        Misuse: its columns are not as many as the grid's or cannot be parted, or it has fewer layers than stages.
    """
    columns = grid.columns
    if columns > 1 and columns != network.columns:
        raise Misuse(f"variant {network.variant} has {network.columns} column(s), so {columns} ranks cannot share it")
    if columns > 1 and network.norm_spans_columns:
        raise Misuse("this preset's response norm reaches across the columns, which placement columns cannot do")
    if grid.stages > len(network.layers):
        raise Misuse(f"a network of {len(network.layers)} layers cannot be cut into {grid.stages} stages")


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


def plan(network: Network, stages: int, batch: int, micro_batch: int | None = None) -> Pipeline:
    """The cut and the micro-batch that finish a step of ``batch`` images soonest.

    With m micro-batches in p stages a step takes (m + p - 1) / m times the slowest stage's work. More micro-batches
    wait less and touch the weights more often.
    """
    if stages == 1:
        return Pipeline((network.layers,), micro_batch or batch)
    sizes = [micro_batch] if micro_batch else [n for n in range(SMALLEST_MICRO_BATCH, batch) if batch % n == 0]
    best, soonest = None, inf
    for size in sizes or [batch]:
        cost = [work(network, layer, batch, size) for layer in network]
        pipeline = cut_evenly(network, stages, size, cost)
        slowest = max(sum(work(network, layer, batch, size) for layer in part) for part in pipeline.stages)
        if (took := slowest * (batch // size + stages - 1) / (batch // size)) < soonest:
            best, soonest = pipeline, took
    assert best
    return best


def cut_evenly(network: Network, stages: int, micro_batch: int, cost: list[float]) -> Pipeline:
    """The cut whose slowest stage has the least to do; ``cost``: each layer's share of a step, in any unit."""
    until = [0.0, *accumulate(cost)]
    # By how many layers come first: the least that the slowest of some stages can have to do, and where they are cut.
    best: dict[int, tuple[float, tuple[int, ...]]] = {place: (until[place], (place,)) for place in range(1, len(until))}
    for _ in range(stages - 1):
        best = {
            end: min(
                (max(slowest, until[end] - until[place]), (*cuts, end))
                for place, (slowest, cuts) in best.items()
                if place < end
            )
            for end in range(min(best) + 1, len(until))
        }
    _, cuts = best[len(cost)]
    return Pipeline(tuple(network.layers[start:end] for start, end in pairwise((0, *cuts))), micro_batch)

"""How the network lies on devices: the contexts of a placement, and which share of each layer they hold."""

import mxnet as mx

from gluon_impl.network import Share, Shares, columns_on
from gluon_impl.stopwatch import layer_seconds
from paper.architecture import Network
from protocol.base.errors import Misuse
from protocol.placement.cuts import cut_evenly
from protocol.placement.devices import parse
from protocol.placement.grid import Grid


def default_devices(grid: Grid) -> list[str]:
    """``gpu:0, gpu:1`` where the machine has as many, else the CPU's contexts."""
    kind = "gpu" if mx.context.num_gpus() >= grid.devices else "cpu"
    return [f"{kind}:{index}" for index in range(grid.devices)]


def contexts(grid: Grid, devices: list[str]) -> list[mx.Context]:
    """The contexts of ``devices`` for ``grid``.

    Raises:
        Misuse: the grid is a product, a device is unknown or absent, or there are too many or too few.
    """
    if len(grid.several) > 1:
        raise Misuse(f"the gluon backend carries out columns, stages or replicas, not {grid.name}; deepspeed does")
    found = []
    for kind, number in parse(grid.name, grid.devices, devices):
        if kind == "gpu" and number >= mx.context.num_gpus():
            raise Misuse(f"--devices: there is no gpu:{number} here; MXNet sees {mx.context.num_gpus()} GPU(s)")
        found.append(mx.Context(kind, number))
    return found


def shares(
    grid: Grid, table: Network, contexts: list[mx.Context], dtype: str, micro_batch: int, micro_batches: int
) -> Shares:
    """Which share of each layer each of ``contexts`` holds; stages are cut where the measured work is most even.

    Raises:
        ValueError: the columns cannot lie on the contexts, or there are fewer layers than stages.
    """
    if grid.replicas > 1:
        whole = [Share(0, 1, contexts[0], dtype, tuple(contexts))]
        return {layer.name: whole for layer in table}
    if grid.stages > 1:
        if grid.stages > len(table.layers):
            raise ValueError(f"a network of {len(table.layers)} layers cannot be cut into {grid.stages} stages")
        seconds = layer_seconds(table, contexts[0], dtype, micro_batch, micro_batches)
        stages = zip(contexts, cut_evenly(table.layers, list(seconds.values()), grid.stages), strict=True)
        return {layer.name: [Share(0, 1, context, dtype)] for context, layers in stages for layer in layers}
    return columns_on(table, contexts, dtype)

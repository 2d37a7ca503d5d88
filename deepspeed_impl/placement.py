"""How the network lies on ranks: a grid of pipeline stages, columns and replicas.

``stages`` are cut where their work is most even, ``columns`` are the paper's two (section 3.5), and each of
``replicas`` takes its part of the batch.
"""

from deepspeed.accelerator import get_accelerator

from deepspeed_impl.launch import local_number
from paper.architecture import Network
from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.placement.devices import parse
from protocol.placement.grid import Grid


def default_devices(grid: Grid) -> list[str]:
    """``gpu:0, gpu:1`` where the machine has as many, else processor ranks, which is said."""
    count = 0 if get_accelerator().device_name() == "cpu" else get_accelerator().device_count()
    kind = "gpu" if count >= grid.devices else "cpu"
    if 0 < count < grid.devices:
        lack = f"takes {grid.devices} devices, but there is {count} GPU"
        log(f"placement {grid.name} {lack}: its ranks run on the processor")
    return [f"{kind}:{index}" for index in range(grid.devices)]


def check_devices(grid: Grid, devices: list[str]) -> None:
    """Check that ``grid`` can be carried out on ``devices``; a rank takes each, in order.

    Raises:
        Misuse: a device is unknown or absent, or there are too many or too few.
    """
    accelerator = get_accelerator()
    gpus = 0 if accelerator.device_name() == "cpu" else accelerator.device_count()
    asked = parse(grid.name, grid.devices, devices)
    if len({kind for kind, _ in asked}) > 1:
        raise Misuse(f"--devices {','.join(devices)}: DeepSpeed's ranks are all on GPUs or all on the processor")
    for place, (kind, number) in enumerate(asked):
        if kind == "gpu" and local_number(number) >= gpus:
            raise Misuse(f"--devices: there is no {kind}:{number} here; DeepSpeed's accelerator has {gpus} GPU(s)")
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

"""How the network lies on ranks: a grid of pipeline stages, columns and replicas.

``stages`` are cut where their work is most even, ``columns`` are the paper's two (section 3.5), and each of
``replicas`` takes its part of the batch.
"""

from deepspeed.accelerator import get_accelerator

from deepspeed_impl.launch import local_number
from paper.architecture import Network
from protocol.devices import parse
from protocol.errors import Misuse
from protocol.grid import Grid


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
        if kind != here or (kind == "gpu" and local_number(number) >= accelerator.device_count()):
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

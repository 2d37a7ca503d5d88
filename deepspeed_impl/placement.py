"""How the network lies on ranks: pipeline stages, cut where their work is most even."""

from collections.abc import Sequence

from deepspeed.accelerator import get_accelerator

from paper.architecture import Activation, Dropout, Layer, Network, Norm, SpatialNorm
from paper.cost import layer_train_flops
from protocol.errors import Misuse

PLACEMENTS = {"single": 1, "stages": 2}
# What one pass over a layer's output costs, in floating-point operations done in the same time on this class of
# processor: the response norm reads and writes its maps several times, the others about twice.
FLOPS_PER_OUTPUT = {Norm: 150, SpatialNorm: 150, Activation: 50, Dropout: 50}
OTHER_FLOPS_PER_OUTPUT = 50


def default_devices(placement: str) -> list[str]:
    accelerator = get_accelerator()
    kind = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    return [f"{kind}:{index}" for index in range(PLACEMENTS.get(placement, 1))]


def check_devices(placement: str, devices: list[str]) -> None:
    """Check that ``placement`` can be carried out on ``devices``; a rank takes each, in order.

    Raises:
        Misuse: the placement or a device is unknown or absent, or there are too many or too few.
    """
    if placement not in PLACEMENTS:
        raise Misuse(f"the deepspeed backend has no placement {placement!r}; it has {', '.join(PLACEMENTS)}")
    if len(devices) != PLACEMENTS[placement]:
        raise Misuse(f"placement {placement} takes {PLACEMENTS[placement]} device(s), --devices names {len(devices)}")
    accelerator = get_accelerator()
    here = "cpu" if accelerator.device_name() == "cpu" else "gpu"
    for place, device in enumerate(devices):
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "gpu") or not number.isdecimal():
            raise Misuse(f"--devices: {device!r} is not a device; write cpu:0 or gpu:0, separated by commas")
        if kind != here:
            raise Misuse(f"--devices: there is no {device} here; DeepSpeed's accelerator is {accelerator.device_name()}")
        if int(number) != place:
            raise Misuse(f"--devices: DeepSpeed's launcher numbers its ranks in order, so {device} must be {kind}:{place}")
        if kind == "gpu" and int(number) >= accelerator.device_count():
            raise Misuse(f"--devices: there is no {device} here; DeepSpeed sees {accelerator.device_count()} device(s)")


def work(network: Network, layer: Layer) -> float:
    """What training on one image costs in ``layer``, in floating-point operations or their worth."""
    maps, rows, columns = layer.shape_out
    per_output = FLOPS_PER_OUTPUT.get(type(layer), OTHER_FLOPS_PER_OUTPUT)
    return layer_train_flops(network, layer) + per_output * maps * rows * columns


def cut(network: Network, stages: int) -> list[Sequence[Layer]]:
    """The table in ``stages`` runs of layers, the costliest of them as cheap as any cut allows.

    A cut lies only before a layer with weights or after pooling has shrunk the maps, so that little is sent.
    """
    layers, best = network.layers, [network.layers]
    if stages == 1:
        return [layers]
    cost = [work(network, layer) for layer in layers]
    total = sum(cost)
    assert stages == 2
    least = total
    for place in range(1, len(layers)):
        slower = max(sum(cost[:place]), total - sum(cost[:place]))
        if slower < least:
            least, best = slower, [layers[:place], layers[place:]]
    return best


def default_micro_batch(placement: str, batch: int) -> int:
    """A pipeline needs several micro-batches in flight; each still has to be large enough to compute well."""
    if placement == "single":
        return batch
    for size in range(max(4, batch // 8), batch):
        if batch % size == 0:
            return size
    return batch

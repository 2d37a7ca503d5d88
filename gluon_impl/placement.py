"""How the network lies on devices: the contexts of a placement."""

import mxnet as mx

from protocol.devices import parse
from protocol.errors import Misuse

PLACEMENTS = {"single": 1, "columns": 2}


def default_devices(placement: str) -> list[str]:
    """``gpu:0, gpu:1`` where the machine has as many, else the CPU's contexts."""
    count = PLACEMENTS.get(placement, 1)
    kind = "gpu" if mx.context.num_gpus() >= count else "cpu"
    return [f"{kind}:{index}" for index in range(count)]


def contexts(placement: str, devices: list[str]) -> list[mx.Context]:
    """The contexts of ``devices`` for ``placement``.

    Raises:
        Misuse: the placement or a device is unknown or absent, or there are too many or too few.
    """
    found = []
    for kind, number in parse("gluon", PLACEMENTS, placement, devices):
        if kind == "gpu" and number >= mx.context.num_gpus():
            raise Misuse(f"--devices: there is no gpu:{number} here; MXNet sees {mx.context.num_gpus()} GPU(s)")
        found.append(mx.Context(kind, number))
    return found

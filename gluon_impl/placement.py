"""How the network lies on devices: the contexts of a placement."""

import mxnet as mx

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
    if placement not in PLACEMENTS:
        raise Misuse(f"the gluon backend has no placement {placement!r}; it has {', '.join(PLACEMENTS)}")
    if len(devices) != PLACEMENTS[placement]:
        raise Misuse(f"placement {placement} takes {PLACEMENTS[placement]} device(s), --devices names {len(devices)}")
    if len(set(devices)) != len(devices):
        raise Misuse(f"--devices {','.join(devices)} names a device twice")
    return [_context(device) for device in devices]


def _context(device: str) -> mx.Context:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or not number.isdecimal():
        raise Misuse(f"--devices: {device!r} is not a device; write cpu:0 or gpu:0, separated by commas")
    if kind == "gpu" and int(number) >= mx.context.num_gpus():
        raise Misuse(f"--devices: there is no {device} here; MXNet sees {mx.context.num_gpus()} GPU(s)")
    return mx.Context(kind, int(number))

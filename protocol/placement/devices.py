"""Device lists as users write them: ``cpu:0,cpu:1`` or ``gpu:0,gpu:1``."""

from collections.abc import Sequence

from protocol.base.errors import Misuse


def parse(placement: str, count: int, devices: Sequence[str]) -> list[tuple[str, int]]:
    """Each device's kind and number; ``placement`` takes ``count`` of them.

    Raises:
        Misuse: there are too many or too few devices, or one is named twice or wrongly.
    """
    if len(devices) != count:
        raise Misuse(f"placement {placement} takes {count} device(s), --devices names {len(devices)}")
    if len(set(devices)) != len(devices):
        raise Misuse(f"--devices {','.join(devices)} names a device twice")
    found = []
    for device in devices:
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "gpu") or not number.isdecimal():
            raise Misuse(f"--devices: {device!r} is not a device; write cpu:0 or gpu:0, separated by commas")
        found.append((kind, int(number)))
    return found

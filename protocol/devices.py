"""Device lists as users write them: ``cpu:0,cpu:1`` or ``gpu:0,gpu:1``."""

from collections.abc import Mapping, Sequence

from protocol.errors import Misuse


def parse(backend: str, placements: Mapping[str, int], placement: str, devices: Sequence[str]) -> list[tuple[str, int]]:
    """Each device's kind and number; ``placements`` says how many devices each of the backend's placements takes.

    Raises:
        Misuse: the placement is unknown, there are too many or too few devices, or one is named twice or wrongly.
    """
    if placement not in placements:
        raise Misuse(f"the {backend} backend has no placement {placement!r}; it has {', '.join(placements)}")
    if len(devices) != placements[placement]:
        raise Misuse(f"placement {placement} takes {placements[placement]} device(s), --devices names {len(devices)}")
    if len(set(devices)) != len(devices):
        raise Misuse(f"--devices {','.join(devices)} names a device twice")
    found = []
    for device in devices:
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "gpu") or not number.isdecimal():
            raise Misuse(f"--devices: {device!r} is not a device; write cpu:0 or gpu:0, separated by commas")
        found.append((kind, int(number)))
    return found

"""The rows of ``memory.csv``: predicted bytes beside measured ones, by device and kind."""

from typing import Any

from paper.cost import Held

HELD_KINDS = ("parameters", "gradients", "momentum")


def rows(device: str, predicted: Held, measured: dict[str, int], peak: int, method: str) -> list[dict[str, Any]]:
    """One device's rows.

    ``measured``: bytes of the three kinds, read from the arrays themselves. ``peak``: the framework's allocations at
    their highest in a training step; ``activations`` is what of it the three kinds do not explain.
    """
    found = dict(measured, activations=peak - sum(measured.values()), total=peak)
    return [
        {
            "device": device,
            "kind": kind,
            "predicted_bytes": getattr(predicted, kind),
            "measured_bytes": value,
            "method": "sizes of the arrays" if kind in HELD_KINDS else method,
        }
        for kind, value in found.items()
    ]


def resident(device: str, size: int) -> dict[str, Any]:
    """The row of a process's resident size: the libraries and their workspace included, so nothing is predicted."""
    method = "resident size of the process"
    return {"device": device, "kind": "resident", "predicted_bytes": None, "measured_bytes": size, "method": method}

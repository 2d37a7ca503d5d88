"""The rows of ``memory.csv``: predicted bytes beside measured ones, by device and kind."""

from typing import Any

from protocol.ledger.memory import KINDS, Memory

HELD_KINDS = KINDS[:3]


def rows(device: str, predicted: Memory, held: dict[str, int], peak: int, method: str) -> list[dict[str, Any]]:
    """One device's rows.

    ``held``: bytes of parameters, gradients and momentum, read from the arrays themselves. ``peak``: the framework's
    allocations at their highest in a training step; ``activations`` is what of it those do not explain.
    """
    expected = {kind: predicted.of_kind(kind) for kind in HELD_KINDS} | {"gradients": predicted.of_kind("parameters")}
    return [
        {
            "device": device,
            "kind": kind,
            "predicted_bytes": found,
            "measured_bytes": value,
            "method": "sizes of the arrays" if kind in HELD_KINDS else method,
        }
        for (kind, found), value in zip(
            _with_rest(expected, predicted.peak).items(), _with_rest(held, peak).values(), strict=True
        )
    ]


def _with_rest(held: dict[str, int], peak: int) -> dict[str, int]:
    return {**held, "activations": peak - sum(held.values()), "total": peak}


def beside(device: str, kind: str, size: int, method: str) -> dict[str, Any]:
    """The row of what no framework accounts for, so that nothing is predicted."""
    return {"device": device, "kind": kind, "predicted_bytes": None, "measured_bytes": size, "method": method}


def resident(device: str, size: int) -> dict[str, Any]:
    return beside(device, "resident", size, "resident size of the process")

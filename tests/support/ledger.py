"""What the ledger predicts, beside what a framework says it allocated, at full size."""

from pathlib import Path

from tests.support.commands import Backend, texts

TOTAL, ACTIVATIONS = 0.05, 0.15  # how far off, as a share of what was measured
SIZEABLE = 0.1  # of a device's total: fewer activations may be further off


def far_off(backend: Backend, placement: str, data: Path, out: Path, *arguments: object) -> dict[str, float]:
    """The devices and kinds that are further from the prediction than allowed, and by how much."""
    where = ("--case", "full", "--placement", placement, "--data", data, "--out", out)
    backend.call("bench", *where, "--batch", 16, "--steps", 1, *arguments, cwd=out.parent)
    rows = {(row["device"], row["kind"]): row for row in texts(out / "memory.csv") if row["predicted_bytes"]}
    off, total = {}, 0
    for (device, kind), row in rows.items():
        measured, total = int(row["measured_bytes"]), int(rows[device, "total"]["measured_bytes"])
        allowed = {"total": TOTAL, "activations": ACTIVATIONS if measured > SIZEABLE * total else None}.get(kind)
        distance = int(row["predicted_bytes"]) / measured - 1
        if allowed is not None and abs(distance) > allowed:
            off[f"{device} {kind}"] = distance
    assert total
    return off

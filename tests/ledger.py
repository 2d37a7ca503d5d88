"""What the ledger predicts, beside what a framework says it allocated, at full size."""

from pathlib import Path

from tests.commands import Backend, texts

TOLERANCE = 0.05  # of a device's allocations


def far_off(backend: Backend, placement: str, data: Path, out: Path, *arguments: object) -> dict[str, float]:
    """The devices whose allocations are further from the prediction than allowed, and by how much."""
    where = ("--case", "full", "--placement", placement, "--data", data, "--out", out)
    backend.call("bench", *where, "--batch", 16, "--steps", 1, *arguments, cwd=out.parent)
    rows = [row for row in texts(out / "memory.csv") if row["kind"] == "total"]
    off = {row["device"]: int(row["predicted_bytes"]) / int(row["measured_bytes"]) - 1 for row in rows}
    assert off
    return {device: distance for device, distance in off.items() if abs(distance) > TOLERANCE}

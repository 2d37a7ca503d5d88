"""How evenly a pipeline's stages share the work, from the clock around each of their instructions."""

from typing import Any

from compare.load import Runs


def rows(runs: Runs) -> list[dict[str, Any]]:
    """The rows of ``stages.csv``: each stage's median compute time in a step, and its share of all stages'."""
    found: list[dict[str, Any]] = []
    for run in runs.of("bench"):
        if run.record.placement != "stages":
            continue
        table = run.table("timings")
        compute = table[table["phase"] == "compute"].groupby("device")["seconds"].median()
        found += [
            {
                "batch": run.record.case["batch"],
                "device": device,
                "compute_seconds": seconds,
                "share": seconds / compute.sum(),
            }
            for device, seconds in compute.items()
        ]
    return found

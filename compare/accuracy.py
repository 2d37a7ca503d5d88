"""Errors by epoch of every training run, and whether it saw more than colour."""

from typing import Any

from compare.load import Runs
from protocol.datasets.store import Manifest

Row = dict[str, Any]
BAR_POINTS = 0.10  # a network must beat the colour-statistics classifier by ten points


def rows(runs: Runs) -> list[Row]:
    """The rows of ``accuracy.csv``."""
    found: list[Row] = []
    for run in runs.of("train"):
        for epoch in run.table("epochs").to_dict("records"):
            found.append(
                {
                    "case": run.case,
                    "variant": run.variant,
                    "preset": run.record.case["preset"],
                    "backend": run.record.backend,
                    "placement": run.record.placement,
                    "seed": run.record.seed,
                    "epoch": epoch["epoch"],
                    "train_error": epoch["train_error"],
                    "top1_error": epoch["top1_error"],
                    "top5_error": epoch["top5_error"],
                    "views": epoch["views"],
                    "train_loss": epoch["train_loss"],
                    "evidence": f"{run.name}/epochs.csv",
                }
            )
    return found


def bar(found: list[Row], manifest: Manifest) -> list[dict[str, Any]]:
    """Each baseline run's one-view accuracy at its last epoch beside the colour-statistics classifiers'."""
    results = []
    for backend in sorted({row["backend"] for row in found}, reverse=True):
        one_view = [r for r in found if r["backend"] == backend and r["case"] == "photos" and r["views"] == 1]
        if not one_view:
            continue
        accuracy = 1 - one_view[-1]["top1_error"]
        colour = manifest.colour_statistics
        results.append(
            {
                "backend": backend,
                "accuracy": accuracy,
                **colour,
                "passes": accuracy >= colour["linear"] + BAR_POINTS,
            }
        )
    return results

"""Errors by epoch of every training run, and whether it saw more than colour."""

from pathlib import Path
from typing import Any

from compare.load import Runs
from protocol.datasets.store import read_manifest

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


def bar(runs: Runs, store: Path) -> list[Row]:
    """The rows of ``colour_bar.csv``: each twin's last one-view accuracy beside the colour-statistics classifiers'.

    ``store``: of the photographs that twins are trained on; without any it need not be there.
    """
    found: list[Row] = []
    twins = runs.twins()
    colour = read_manifest(store).colour_statistics if twins else {}
    for run in twins:
        epochs = run.table("epochs")
        accuracy = 1 - float(epochs.loc[epochs["views"] == 1, "top1_error"].iloc[-1])
        passes = accuracy >= colour["linear"] + BAR_POINTS
        found.append({"backend": run.record.backend, "accuracy": accuracy, **colour, "passes": passes})
    return found

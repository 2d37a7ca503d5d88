"""Days to train: 90 passes over 1.2 million images at the speed measured, beside what the paper's days imply."""

from typing import Any

import numpy as np
from scipy import stats

from compare.load import RunFolder, Runs
from paper.days import GTX_580, PAPER_DAYS, days, needed_speed

Row = dict[str, Any]


def speed(run: RunFolder) -> tuple[float, float, float]:
    """Images a second: the median step's, and the 95 % t interval of the mean step's."""
    table = run.table("timings")
    seconds = table.loc[table["phase"] == "step", "seconds"].to_numpy()
    batch = run.record.case["batch"]
    half = stats.t.ppf(0.975, len(seconds) - 1) * stats.sem(seconds) if len(seconds) > 1 else np.nan
    mean = seconds.mean()
    # A step cannot take no time: the upper bound of the speed is left open where the interval reaches that far.
    fastest = batch / (mean - half) if mean > half else np.inf
    return batch / float(np.median(seconds)), batch / (mean + half), fastest


def rows(runs: Runs) -> list[Row]:
    """The rows of ``scaling.csv``: this machine's, measured, and two GTX 580, modelled from the paper's days."""
    found: list[Row] = []
    for run in runs.of("bench"):
        middle, low, high = speed(run)
        found.append(
            {
                "backend": run.record.backend,
                "placement": run.record.placement,
                "devices": len(run.record.devices),
                "batch": run.record.case["batch"],
                "precision": run.record.precision,
                "images_per_second": middle,
                "days": days(middle),
                "days_low": days(high),
                "days_high": days(low),
                "source": "measured",
                "card": run.record.processor,
                "variant": run.variant,
                "threads": run.record.threads,
                "evidence": f"{run.name}/timings.csv",
            }
        )
    for paper_days in PAPER_DAYS:
        found.append(
            {
                "backend": "paper",
                "placement": "columns",
                "devices": 2,
                "batch": 128,
                "precision": "fp32",
                "images_per_second": needed_speed(paper_days),
                "days": paper_days,
                "days_low": None,
                "days_high": None,
                "source": "modelled",
                "card": GTX_580.name,
                "variant": "two_column",
                "threads": None,
                "evidence": "section 1; section 5",
            }
        )
    return found

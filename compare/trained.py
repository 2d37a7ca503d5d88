"""The effect of one change to the baseline run, paired by seed: the seed is the unit of replication."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from compare.load import RunFolder, Runs
from paper.claims import Claim

LEAST_SEEDS = 3
BASELINE = "photos"


@dataclass(frozen=True)
class Effect:
    """Mean of (changed - baseline) over seeds with its 95 % t interval; positive is what the claim says."""

    mean: float
    low: float
    high: float
    seeds: int
    detectable: float  # the half-width: a smaller true effect would not have been told from none

    @property
    def direction(self) -> int:
        """1 as claimed, -1 the other way, 0 not told from no effect at the 5 % level."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def text(self) -> str:
        return f"{self.mean:+.4g} ({self.low:+.4g} to {self.high:+.4g})"


def quantity(run: RunFolder, name: str) -> float:
    """What a claim compares, of one run; infinite where a run never got there."""
    epochs = run.table("epochs")
    one_view = epochs[epochs["views"] == 1]
    last = one_view.iloc[-1]
    match name:
        case "top1_error":
            return float(last["top1_error"])
        case "gap":
            return float(last["top1_error"] - last["train_error"])
        case "train_loss":
            return float(last["train_loss"])
        case "first_epoch_loss":
            return float(one_view.iloc[0]["train_loss"])
        case "epochs_to_25" | "speed_to_25":
            reached = one_view.loc[one_view["train_error"] <= 0.25, "epoch"]
            took = float(reached.iloc[0] + 1) if len(reached) else np.inf
            return took if name == "epochs_to_25" else 1 / took
    raise ValueError(f"no claim compares {name}")


def paired_effect(runs: Runs, backend: str, claim: Claim) -> Effect | None:
    """The effect in one backend, or None without three seeds that both the baseline and the change ran."""
    assert claim.expects
    case, variant = claim.case or BASELINE, claim.variant or "two_column"
    baseline, changed = (
        {
            run.record.seed: quantity(run, claim.expects)
            for run in runs.of("train", backend=backend, case=name)
            if run.variant == kind
        }
        for name, kind in ((BASELINE, "two_column"), (case, variant))
    )
    seeds = sorted(baseline.keys() & changed.keys())
    differences = np.array([changed[seed] - baseline[seed] for seed in seeds])
    if len(seeds) < LEAST_SEEDS or not np.isfinite(differences).all():
        return None
    half = float(stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(differences))
    mean = float(differences.mean())
    return Effect(mean, mean - half, mean + half, len(seeds), half)

"""The effect of one change to the baseline run, paired by seed: the seed is the unit of replication.

Two runs are a pair when their cases are equal but for what the claim changes, on the same seed. Several placements of
one seed are one replication: their mean counts once. A run that never got to a mark within its epochs was not there for
as long as it was watched: times are restricted to that many epochs (the restricted mean of survival analysis), so
that such runs count, and a difference of two of them is a lower bound.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from compare.load import RunFolder, Runs
from paper.claims import Claim
from protocol.experiment.cases import find_case, what

LEAST_SEEDS = 3
BASELINE = "photos"
POWER, LEVEL = 0.8, 0.05
GRAIN = {"epochs_to_25": 1.0, "speed_to_25": 1.0}  # in which a quantity comes
MARK = 0.25  # training error that a run is timed to (figure 1)


@dataclass(frozen=True)
class Effect:
    """Mean of (changed - baseline) over seeds with its 95 % t interval; positive is what the claim says."""

    mean: float
    low: float
    high: float
    seeds: int
    p: float  # two-sided, of no effect
    detectable: float  # the smallest true effect that so many seeds with this spread show with power .8
    equivalence: float  # the smallest margin within which they are equivalent, by two one-sided tests at 5 %

    @property
    def direction(self) -> int:
        """1 as claimed, -1 the other way, 0 not told from no effect at the 5 % level."""
        if self.p > LEVEL:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def text(self) -> str:
        return f"{self.mean:+.4g} ({self.low:+.4g} to {self.high:+.4g})"


def effect_of(differences: Iterable[float], grain: float = 0.0) -> Effect:
    """The effect that paired differences of two seeds or more show.

    ``grain``: what is measured comes in whole multiples of it. Two such figures differ from what they were rounded from
    by a variance of a sixth of its square, so that equal differences are no certainty.
    """
    values = np.array(list(differences))
    count, mean = len(values), float(values.mean())
    # Rounding is no spread.
    spread = 0.0 if np.allclose(values, mean, rtol=1e-9, atol=0) else float(stats.sem(values))
    error = max(spread, grain / np.sqrt(6 * count))
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1)) * error
    one_sided = float(stats.t.ppf(1 - LEVEL, count - 1)) * error
    # Where all are equal, their signs are all that they tell.
    p = 1.0 if mean == 0 else 2.0 ** (1 - count)
    if error > 0:
        p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Effect(mean, mean - half, mean + half, count, p, detectable(error, count), abs(mean) + one_sided)


def detectable(error: float, count: int) -> float:
    """The true mean that a two-sided paired t test finds with power .8, given the standard error of ``count`` seeds."""
    critical = stats.t.ppf(1 - LEVEL / 2, count - 1)

    def missing(noncentrality: float) -> float:
        below, above = stats.nct.cdf([-critical, critical], count - 1, noncentrality)
        return float(1 - above + below) - POWER

    # Searched from below: far beyond, scipy's distribution is no number.
    above = 1.0
    while missing(above) < 0:
        above *= 1.25
    return error * float(optimize.brentq(missing, 0.01, above))


def quantity(run: RunFolder, name: str) -> float:
    """What a claim compares, of one run."""
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
            took = restricted_epochs(run)
            return took if name == "epochs_to_25" else -took
    raise ValueError(f"no claim compares {name}")


def restricted_epochs(run: RunFolder) -> float:
    """Epochs until the training error was 25 %, or all that the run was watched for."""
    one_view = run.table("epochs").query("views == 1")
    reached = one_view.loc[one_view["train_error"] <= MARK, "epoch"]
    return float(reached.iloc[0] + 1) if len(reached) else float(one_view["epoch"].max() + 1)


def never_reached(run: RunFolder) -> bool:
    one_view = run.table("epochs").query("views == 1")
    return not bool((one_view["train_error"] <= MARK).any())


def _compared(claim: Claim) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cases that a claim compares: the baseline, and what it changes."""
    changed = find_case(claim.case or BASELINE, variant=claim.variant)
    return what(find_case(BASELINE).content()), what(changed.content())


def arms(runs: Runs, backend: str, claim: Claim) -> tuple[dict[int, list[RunFolder]], dict[int, list[RunFolder]]]:
    """The baseline's runs and the changed ones, by seed: just those whose cases are the claim's own in every field."""
    found: tuple[dict[int, list[RunFolder]], dict[int, list[RunFolder]]] = ({}, {})
    for run in runs.of("train", backend=backend):
        for arm, case in zip(found, _compared(claim), strict=True):
            if what(run.record.case) == case and run.record.precision == "fp32":
                arm.setdefault(run.record.seed, []).append(run)
    return found


def paired(
    left: dict[int, list[RunFolder]], right: dict[int, list[RunFolder]], measure: Callable[[RunFolder], float]
) -> dict[int, float]:
    """Right minus left by seed, each seed once: the mean over the placements that both have, or over all of them."""
    found = {}
    for seed in sorted(left.keys() & right.keys()):
        common = {run.record.placement for run in left[seed]} & {run.record.placement for run in right[seed]}
        means = [
            np.mean([measure(run) for run in arm[seed] if not common or run.record.placement in common])
            for arm in (left, right)
        ]
        found[seed] = float(means[1] - means[0])
    return found


def paired_effect(runs: Runs, backend: str, claim: Claim) -> Effect | None:
    """The effect in one backend, or None without three seeds that both the baseline and the change ran."""
    name = claim.expects
    assert name
    differences = paired(*arms(runs, backend, claim), lambda run: quantity(run, name))
    return effect_of(differences.values(), GRAIN.get(name, 0.0)) if len(differences) >= LEAST_SEEDS else None


def left_out(runs: Runs, backend: str, claim: Claim) -> int:
    """How many runs of the claim's arms diverged, so that they have no figure to compare."""
    return sum(
        run.record.backend == backend and run.record.precision == "fp32" and what(run.record.case) in _compared(claim)
        for run in runs.diverged
    )


def censored(runs: Runs, backend: str, claim: Claim) -> tuple[int, int]:
    """How many of the claim's runs in a backend never got to the mark, and of how many."""
    if claim.expects not in ("epochs_to_25", "speed_to_25"):
        return 0, 0
    found = [never_reached(run) for arm in arms(runs, backend, claim) for own in arm.values() for run in own]
    return sum(found), len(found)


def holm(values: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values of a family of tests."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for rank, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(values) - rank) * value))
        adjusted[name] = least
    return adjusted

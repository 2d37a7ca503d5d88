"""The effect of a change over seeds: the seed is the unit of replication, and each seed counts once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

LEAST_SEEDS = 3
MARK = 0.25  # training error that a run is timed to (figure 1)
POWER, LEVEL = 0.8, 0.05


@dataclass(frozen=True)
class Effect:
    """Mean of (changed - baseline) over seeds with its 95 % t interval; positive is what the claim says."""

    mean: float
    low: float
    high: float
    seeds: int
    p: float  # two-sided, of no effect
    error: float  # the mean's standard error
    detectable: float  # the smallest true effect that so many seeds with this spread show with power .8
    equivalence: float  # the smallest margin within which they are equivalent, by two one-sided tests at 5 %

    @property
    def direction(self) -> int:
        """1 as claimed, -1 the other way, 0 not told from no effect at the 5 % level."""
        if self.p > LEVEL:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def first_at_most(mark: float, times: np.ndarray, values: np.ndarray) -> float | None:
    """When ``values`` (N,) at ``times`` (N,) first are at most ``mark``, between two in proportion; None if never."""
    reached = np.flatnonzero(values <= mark)
    if not len(reached):
        return None
    at = int(reached[0])
    if at == 0:
        return float(times[0])
    before, start = values[at - 1], times[at - 1]
    return float(start + (times[at] - start) * (before - mark) / (before - values[at]))


def effect_of(differences: Iterable[float]) -> Effect:
    """The effect that paired differences of two seeds or more show."""
    values = np.array(list(differences))
    count, mean = len(values), float(values.mean())
    # Rounding is no spread.
    error = 0.0 if np.allclose(values, mean, rtol=1e-9, atol=0) else float(stats.sem(values))
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1)) * error
    one_sided = float(stats.t.ppf(1 - LEVEL, count - 1)) * error
    # Where all are equal, their signs are all that they tell.
    p = 1.0 if mean == 0 else 2.0 ** (1 - count)
    if error > 0:
        p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Effect(mean, mean - half, mean + half, count, p, error, detectable(error, count), abs(mean) + one_sided)


def power_of(effect: float, error: float, count: int, level: float = LEVEL) -> float:
    """The chance that a two-sided paired t test finds a true mean, given the standard error of ``count`` seeds."""
    if error == 0:
        return 1.0
    # The other tail, of a mean the wrong way round, is no number far beyond, and nothing before.
    return float(stats.nct.sf(stats.t.ppf(1 - level / 2, count - 1), count - 1, effect / error))


def equivalence_power(margin: float, error: float, count: int) -> float:
    """The chance that two one-sided tests show no more than ``margin`` where there is no effect (approximately)."""
    if error == 0:
        return 1.0
    reach = margin / error - stats.t.ppf(1 - LEVEL, count - 1)
    return max(0.0, float(2 * stats.t.cdf(reach, count - 1) - 1))


def jointly_detectable(tests: Sequence[tuple[float, int]], level: float = LEVEL) -> float:
    """The true mean that all of some independent tests find with power .8; of each, its standard error and seeds."""
    errors = [error for error, _ in tests if error > 0]
    if not errors:
        return 0.0

    def missing(effect: float) -> float:
        return float(np.prod([power_of(effect, error, count, level) for error, count in tests])) - POWER

    above = max(errors)
    while missing(above) < 0:
        above *= 1.25
    return float(optimize.brentq(missing, 0.01 * max(errors), above))


def detectable(error: float, count: int) -> float:
    """The true mean that a two-sided paired t test finds with power .8, given the standard error of ``count`` seeds."""
    return error * _detectable_errors(count)


@lru_cache
def _detectable_errors(count: int) -> float:
    return jointly_detectable([(1.0, count)])


def holm(values: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values of a family of tests."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for rank, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(values) - rank) * value))
        adjusted[name] = least
    return adjusted

"""What the runs say of each claim, by the rules that stood in ``comparisons.py`` before the first of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log, prod
from pathlib import Path
from typing import Any

from compare.claims import connectivity, plots, specialise
from compare.claims.arms import STUDY_147, STUDY_SIDES
from compare.claims.clock import Clock
from compare.claims.comparisons import (
    BESIDE,
    COMPARISONS,
    MARGIN,
    PASSES,
    PRIMARY,
    QUANTITIES,
    SECONDS,
    TIMES,
    Comparison,
    difference,
    measure,
    passes_to_mark,
)
from compare.claims.evidence import Evidence
from compare.claims.pack import Kernels
from compare.statistics import LEAST_SEEDS, LEVEL, Effect, effect_of, equivalence_power, holm, jointly_detectable
from protocol.backends import BACKENDS
from protocol.base.tables import write_table

CONSISTENT, OPPOSITE, INCONCLUSIVE = "consistent at small scale", "opposite at small scale", "inconclusive"
VERDICTS = "claims.csv"
EFFECT_COLUMNS = (
    *("claim", "compared", "quantity", "decides", "backend", "effect", "low", "high", "seeds", "p", "could_show"),
    *("equivalent_within", "left_mean", "right_mean", "censored", "diverged"),
)
VERDICT_COLUMNS = (
    *("claim", "primary", "verdict", *BACKENDS, "low", "high", "seeds", "p_holm", "both_could_show", "holm_could_show"),
    "reason",
)
SPECIALISE = "specialise"
STRICTEST = LEVEL / len(PRIMARY)  # what Holm's correction asks of the smallest p-value
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Shown:
    """What one comparison shows in one backend."""

    comparison: Comparison
    backend: str
    effect: Effect
    means: tuple[float, float | None]
    censored: int
    diverged: frozenset[str]  # the runs' keys

    @property
    def text(self) -> str:
        """The effect with its interval, in its unit."""
        return QUANTITIES[self.comparison.quantity].text(self.effect.mean, self.effect.low, self.effect.high)


def show(
    evidence: Evidence, comparison: Comparison, backend: str, pass_seconds: tuple[float, float] = (1.0, 1.0)
) -> Shown | None:
    """The effect of a comparison in a backend; None without three seeds that both arms ran to their end.

    ``pass_seconds``: what a pass takes in the left and in the right arm, where seconds are compared.
    """
    left, lost = evidence.arm(backend, comparison.left)
    right, more = evidence.arm(backend, comparison.right or comparison.left)
    seeds = sorted(left.keys() & right.keys())
    if len(seeds) < LEAST_SEEDS:
        return None
    quantity, (one, other) = comparison.quantity, map(log, pass_seconds)
    lefts = [measure(left[seed], quantity) + one for seed in seeds]
    rights = [measure(right[seed], quantity) + other for seed in seeds] if comparison.right else []
    differences = [difference(left[seed], right[seed], quantity) + other - one for seed in seeds] if rights else lefts
    late = 0
    if quantity in TIMES:
        late = sum(not passes_to_mark(run)[1] for seed in seeds for run in (left[seed], right[seed]))
    means = sum(lefts) / len(seeds), sum(rights) / len(seeds) if rights else None
    return Shown(comparison, backend, effect_of(differences), means, late, lost | more)


def show_all(evidence: Evidence, comparisons: Iterable[Comparison] = COMPARISONS) -> list[Shown]:
    found = [show(evidence, comparison, backend) for comparison in comparisons for backend in BACKENDS]
    return [shown for shown in found if shown]


def show_seconds(evidence: Evidence, clock: Clock) -> list[Shown]:
    """What is compared in passes, in seconds too, where the clock has both nets; that decides nothing."""
    found = []
    for comparison in (one for one in COMPARISONS if one.quantity == PASSES):
        told = replace(comparison, quantity=SECONDS, decides=False)
        for backend in BACKENDS:
            one, other = (clock.pass_seconds.get((backend, str(arm))) for arm in (comparison.left, comparison.right))
            if one and other:
                found.append(show(evidence, told, backend, pass_seconds=(one, other)))
    return [shown for shown in found if shown]


def show_ended(evidence: Evidence, kept: Path) -> list[Shown]:
    """What is shown by arms whose runs have all ended; beside the plan's, in seconds, and of the study in ``kept``."""
    study = Evidence.of_study(STUDY_147, kept)
    found = [(evidence, one) for one in (*show_all(evidence), *show_seconds(evidence, Clock.read(kept)))]
    found += [(study, one) for one in show_all(study, BESIDE)]
    return [
        one
        for source, one in found
        if source.is_whole(one.backend, one.comparison.left, one.comparison.right or one.comparison.left)
    ]


def whole_claims(shown: Iterable[Shown]) -> dict[str, list[Shown]]:
    """The claims that both backends tested in every deciding comparison, with those comparisons."""
    by_claim: dict[str, list[Shown]] = {}
    for one in shown:
        if one.comparison.decides:
            by_claim.setdefault(one.comparison.claim, []).append(one)
    return {claim: own for claim, own in by_claim.items() if len(own) == _deciding(claim) * len(BACKENDS)}


def decide(shown: Iterable[Shown], parted: Sequence[dict[str, Any]] = ()) -> dict[str, str]:
    """The verdict of each claim that was tested whole; ``parted``: what the columns' kernels show."""
    whole = whole_claims(shown)
    adjusted = holm_of(whole, parted)
    found = {claim: _verdict(own, adjusted.get(claim)) for claim, own in whole.items()}
    if SPECIALISE in adjusted:
        found[SPECIALISE] = CONSISTENT if adjusted[SPECIALISE] <= LEVEL else INCONCLUSIVE
    return found


def _deciding(claim: str) -> int:
    return sum(comparison.claim == claim and comparison.decides for comparison in COMPARISONS)


def holm_of(whole: Mapping[str, list[Shown]], parted: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Holm's p-values of the primary claims; a claim's own is its largest, since every backend has to show it.

    Those that are not tested yet count as if they showed nothing: a verdict does not weaken as others come in.
    """
    values = dict.fromkeys(PRIMARY, 1.0)
    values |= {claim: max(one.effect.p for one in own) for claim, own in whole.items() if claim in PRIMARY}
    deciding = [row["p_fisher"] for row in specialise.deciding(parted)]
    if len(deciding) == len(BACKENDS):
        values[SPECIALISE] = max(deciding)
    tested = {*whole, *([SPECIALISE] if len(deciding) == len(BACKENDS) else [])}
    return {claim: p for claim, p in holm(values).items() if claim in tested}


def _verdict(own: list[Shown], p_holm: float | None) -> str:
    if p_holm is not None and p_holm > LEVEL:
        return INCONCLUSIVE
    directions: dict[str, set[int]] = {}
    for one in own:
        directions.setdefault(one.comparison.name, set()).add(one.effect.direction)
    if all(found == {1} for found in directions.values()):
        return CONSISTENT
    return OPPOSITE if any(found == {-1} for found in directions.values()) else INCONCLUSIVE


def effect_rows(shown: Iterable[Shown]) -> Rows:
    """The rows of ``effects.csv``."""
    return [
        {
            "claim": one.comparison.claim,
            "compared": one.comparison.name,
            "quantity": one.comparison.quantity,
            "decides": one.comparison.decides,
            "backend": one.backend,
            "effect": one.effect.mean,
            "low": one.effect.low,
            "high": one.effect.high,
            "seeds": one.effect.seeds,
            "p": one.effect.p,
            "could_show": one.effect.detectable,
            "equivalent_within": one.effect.equivalence,
            "left_mean": one.means[0],
            "right_mean": one.means[1],
            "censored": one.censored,
            "diverged": len(one.diverged),
        }
        for one in shown
    ]


def verdict_rows(shown: list[Shown], parted: Sequence[dict[str, Any]] = ()) -> Rows:
    """The rows of ``claims.csv``: of each claim the verdict, and the effect of its first deciding comparison."""
    verdicts, whole = decide(shown, parted), whole_claims(shown)
    adjusted = holm_of(whole, parted)
    found = []
    for claim, own in whole.items():
        first = [one for one in own if one.comparison == own[0].comparison]
        told = QUANTITIES[own[0].comparison.quantity].told
        every = [one for one in shown if one.comparison.claim == claim]
        found.append(
            {
                "claim": claim,
                "primary": claim in PRIMARY,
                "verdict": verdicts[claim],
                **{one.backend: one.text for one in first},
                "low": told(min(one.effect.low for one in first)),
                "high": told(max(one.effect.high for one in first)),
                "seeds": min(one.effect.seeds for one in own),
                "p_holm": adjusted.get(claim),
                "both_could_show": told(_both_could_show(first)),
                "holm_could_show": told(_both_could_show(first, STRICTEST)) if claim in PRIMARY else None,
                "reason": reason(verdicts[claim], every, adjusted.get(claim)),
            }
        )
    if SPECIALISE in verdicts:
        own_rows = specialise.deciding(parted)
        found.append(
            {
                "claim": SPECIALISE,
                "primary": True,
                "verdict": verdicts[SPECIALISE],
                **{
                    row["backend"]: f"p ≤ {LEVEL:g} in {row['seeds_below_5_percent']} of {row['seeds']} runs"
                    for row in own_rows
                },
                "seeds": min(row["seeds"] for row in own_rows),
                "p_holm": adjusted[SPECIALISE],
                "reason": specialise.reason(parted, adjusted[SPECIALISE]),
            }
        )
    return found


def lost_rows(evidence: Evidence, shown: Iterable[Shown]) -> Rows:
    """The rows of claims whose runs have all ended, but of which too few pairs of seeds diverged in neither arm."""
    there = {(one.comparison, one.backend) for one in shown}
    found: dict[str, set[str]] = {}
    for comparison in COMPARISONS:
        arms = (comparison.left, comparison.right or comparison.left)
        for backend in BACKENDS:
            whole = all(evidence.is_whole(name, *arms) for name in BACKENDS)
            if comparison.decides and whole and (comparison, backend) not in there:
                diverged = frozenset[str]().union(*(evidence.arm(backend, arm)[1] for arm in arms))
                found.setdefault(comparison.claim, set()).update(diverged)
    return [
        {
            "claim": claim,
            "primary": claim in PRIMARY,
            "verdict": INCONCLUSIVE,
            "seeds": 0,
            "reason": f"{len(keys)} runs diverged, so fewer than {LEAST_SEEDS} pairs of seeds are left to compare",
        }
        for claim, keys in found.items()
    ]


def _both_could_show(both: Sequence[Shown], level: float = LEVEL) -> float:
    """The smallest effect that every backend would show by itself, all of them together with power .8."""
    return jointly_detectable([(one.effect.error, one.effect.seeds) for one in both], level)


def reason(verdict: str, own: list[Shown], p_holm: float | None) -> str:
    """What stands behind a verdict, in words."""
    said = []
    by_comparison: dict[Comparison, list[Shown]] = {}
    for one in own:
        by_comparison.setdefault(one.comparison, []).append(one)
    for comparison, both in by_comparison.items():
        quantity, told = QUANTITIES[comparison.quantity], ", ".join(f"{one.backend} {one.text}" for one in both)
        said.append(f"{'' if comparison.decides else 'beside it, '}{comparison.name} in {quantity.said}: {told}")
    deciding = [both for comparison, both in by_comparison.items() if comparison.decides]
    if verdict == INCONCLUSIVE:
        least = max(deciding, key=_both_could_show)
        of = f" ({least[0].comparison.name})" if len(deciding) > 1 else ""
        said.append(_could_show(least, strictly=p_holm is not None) + of)
    if len({one.effect.direction for both in deciding for one in both} - {0}) > 1:
        said.append("backends or comparisons point opposite ways, which is a finding of its own")
    for both in deciding:
        alone = [one.backend for one in both if one.effect.direction]
        if 0 < len(alone) < len(both):
            said.append(f"{both[0].comparison.name} is told from no effect in {' and '.join(alone)} alone")
    if verdict == INCONCLUSIVE and len(deciding) == 1 and deciding[0][0].comparison.quantity == "test_error":
        said.append(_equivalence(deciding[0]))
    if late := sum(one.censored for one in own if one.comparison.quantity != SECONDS):
        said.append(f"{late} runs never got to 25 % and count as if they had at their end")
    if lost := frozenset[str]().union(*(one.diverged for both in deciding for one in both)):
        said.append(f"{len(lost)} runs diverged and have no figure to compare")
    said.append(f"p = {p_holm:.2g} after Holm, over the primary claims" if p_holm is not None else "exploratory")
    return "; ".join(said)


def _could_show(both: Sequence[Shown], *, strictly: bool) -> str:
    quantity = QUANTITIES[both[0].comparison.quantity]
    said = f"with power .8 both backends would show an effect of {quantity.text(_both_could_show(both))}"
    return said + (
        f", and {quantity.text(_both_could_show(both, STRICTEST))} where Holm is strictest" if strictly else ""
    )


def _equivalence(both: Sequence[Shown]) -> str:
    """Whether two arms err alike, to the plan's margin; or if not, whether the right one errs no more than the left."""
    within, compared = max(one.effect.equivalence for one in both), both[0].comparison
    alike = "equivalent" if within <= MARGIN else "not shown to be equivalent"
    power = prod(equivalence_power(MARGIN, one.effect.error, one.effect.seeds) for one in both)
    said = (
        f"{alike} within {100 * MARGIN:.0f} points (two one-sided tests: within {100 * within:.1f}; power "
        f"{power:.2f} if they err alike)"
    )
    if all(one.effect.high < 0 for one in both):
        said += f", but {compared.right} errs no more than {compared.left}: no interval reaches 0"
    return said


def write(evidence: Evidence, kept: Path, folder: Path) -> Rows:
    """Write every table and figure to ``folder``; returns the verdicts' rows.

    ``kept``: where the runs' tensors are, and the clock.

    Raises:
        Damaged: a shard's tensors, or the clock's table, are not as they were written.
    """
    shown = show_ended(evidence, kept)
    kernels = Kernels(kept)
    sources = evidence, Evidence.of_study(STUDY_SIDES, kept)
    by_seed = [row for one in sources for row in specialise.seed_rows(one, kernels)]
    parted, power = specialise.rows(by_seed), specialise.could_show(evidence, kernels)
    for row in specialise.deciding(parted):
        row["could_show"] = power[row["backend"]]
    verdicts = [*verdict_rows(shown, parted), *lost_rows(evidence, shown)]
    tables = {
        "effects": (EFFECT_COLUMNS, effect_rows(shown)),
        "claims": (VERDICT_COLUMNS, verdicts),
        "specialise": (specialise.COLUMNS, parted),
        "specialise_seeds": (specialise.SEED_COLUMNS, by_seed),
        "connectivity": (connectivity.COLUMNS, connectivity.rows(evidence)),
    }
    for name, (columns, rows) in tables.items():
        write_table(folder / f"{name}.csv", columns, rows)
    grown, by_seeds = specialise.growing(evidence, kernels), specialise.ended(evidence, kernels)
    plots.draw(folder, {name: rows for name, (_, rows) in tables.items()}, grown, by_seeds)
    return verdicts

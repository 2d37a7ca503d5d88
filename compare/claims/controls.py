"""Can the analysis be fooled? The same runs, with nothing left to find: it must find nothing beyond its level.

arms dealt out    within each seed the two arms change names or not, at random: a backend alone rejects at its level
A/A               the baseline's seeds against each other, in random pairs
names permuted    within each seed the names of all arms of a claim's family are dealt out anew: no verdict is left
names kept        the same runs by their own names: what the permuted ones would have shown if names did not matter
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from compare.claims.arms import BASELINE
from compare.claims.comparisons import COMPARISONS, QUANTITIES, Comparison, difference, measure
from compare.claims.evidence import Evidence
from compare.claims.judge import INCONCLUSIVE, decide, show_all
from compare.claims.pack import Packed
from compare.statistics import LEAST_SEEDS, effect_of
from protocol.backends import BACKENDS

ENOUGH = 6  # pairs: of fewer, more than one deal in 20 leaves all signs as they are
DEALT, SAME, PERMUTED, NAMED = "arms dealt out", "A/A", "names permuted", "names kept"
DEALS, SPLITS, PERMUTATIONS = 1000, 20, 20
FAMILIES = (("lrn", "two-gpu-acc"), ("pca",))  # claims whose arms are permuted, those of as many seeds together
COLUMNS = ("control", "backend", "compared", "tried", "rejected")


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """The rows of ``controls.csv``, of what there are runs for."""
    permuted = [row for claims in FAMILIES for row in _permuted(evidence, claims)]
    return [*_dealt(evidence), *_splits(evidence), *permuted]


def _row(control: str, backend: str, compared: str, rejected: list[bool]) -> dict[str, Any]:
    told = {"control": control, "backend": backend, "compared": compared}
    return {**told, "tried": len(rejected), "rejected": sum(rejected)}


def _pairs(evidence: Evidence, comparison: Comparison, backend: str) -> np.ndarray:
    left, _ = evidence.arm(backend, comparison.left)
    right, _ = evidence.arm(backend, str(comparison.right))
    seeds = sorted(left.keys() & right.keys())
    return np.array([difference(left[seed], right[seed], comparison.quantity) for seed in seeds])


def _dealt(evidence: Evidence) -> list[dict[str, Any]]:
    found = []
    for comparison in COMPARISONS:
        for backend in BACKENDS:
            if comparison.right and len(pairs := _pairs(evidence, comparison, backend)) >= ENOUGH:
                signs = np.random.default_rng(0).choice((-1, 1), (DEALS, len(pairs)))
                rejected = [effect_of(pairs * own).direction != 0 for own in signs]
                compared = f"{comparison.claim}: {comparison.name} in {QUANTITIES[comparison.quantity].said}"
                found.append(_row(DEALT, backend, compared, rejected))
    return found


def _splits(evidence: Evidence) -> list[dict[str, Any]]:
    found = []
    for backend in BACKENDS:
        runs, _ = evidence.arm(backend, BASELINE.name)
        errors = np.array([measure(run, "test_error") for _, run in sorted(runs.items())])
        if len(errors) < 2 * LEAST_SEEDS:
            continue
        generator, half, rejected = np.random.default_rng(0), len(errors) // 2, []
        for _ in range(SPLITS):
            order = generator.permutation(len(errors))
            rejected.append(effect_of(errors[order[:half]] - errors[order[half : 2 * half]]).direction != 0)
        found.append(_row(SAME, backend, f"{BASELINE.name}, {QUANTITIES['test_error'].said}", rejected))
    return found


def _permuted(evidence: Evidence, claims: tuple[str, ...]) -> list[dict[str, Any]]:
    own = [comparison for comparison in COMPARISONS if comparison.claim in claims and comparison.decides]
    family = [BASELINE.name, *(str(comparison.right) for comparison in own)]
    seeds = {
        backend: sorted(set.intersection(*(set(evidence.arm(backend, arm)[0]) for arm in family)))
        for backend in BACKENDS
    }
    if min(map(len, seeds.values())) < LEAST_SEEDS:
        return []

    def stands(deal: Callable[[list[str]], Iterable[str]]) -> dict[str, bool]:
        dealt: dict[tuple[str, str], dict[int, Packed]] = {}
        for backend, common in seeds.items():
            for seed in common:
                for arm, other in zip(family, deal(family), strict=True):
                    run = evidence.arm(backend, str(other))[0][seed]
                    dealt.setdefault((backend, arm), {})[seed] = replace(run, arm=arm)
        verdicts = decide(show_all(Evidence.of(dealt)))
        return {claim: verdicts.get(claim, INCONCLUSIVE) != INCONCLUSIVE for claim in claims}

    generator = np.random.default_rng(0)
    found = []
    for control, tried in (
        (PERMUTED, [stands(lambda names: list(generator.permutation(names))) for _ in range(PERMUTATIONS)]),
        (NAMED, [stands(list)]),
    ):
        found += [_row(control, "both", claim, [own[claim] for own in tried]) for claim in claims]
    return found

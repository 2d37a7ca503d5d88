"""Do the columns' first kernels part by colour (section 6.1), in every run, because of the split, whichever side?

Of each kernel three measures; of each run, how far the columns' means of a measure lie apart. Whether that is more than
chance is asked of the same kernels dealt out to columns at random: the share of deals that part them as far is the
run's p-value. A run is a seed, and the seeds' p-values are combined by Fisher's method.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from compare.claims.arms import BASELINE, lender
from compare.claims.evidence import Evidence
from compare.claims.pack import Kernels
from compare.statistics import LEAST_SEEDS, LEVEL, POWER
from protocol.backends import BACKENDS

DEALS = 10_000
# To see what would have been found: trials of each size of effect, deals of each, and the sizes' step.
SIMULATED, FEW_DEALS, SHIFT = 100, 200, 0.02
# The paper's columns and what they are held against. A net of one column is dealt into two as if it had them.
SPLIT = BASELINE.name
SWAPPED = "swapped"  # the same, each backend on the other's seeds
CONTROLS = ("merged", "cross_everywhere", "no_crossing", "four_column", "colour")
MEASURES = ("chroma", "orientation", "frequency")
COLUMNS = (
    *("arm", "backend", "measure", "seeds", "columns", "gap", "gap_by_chance", "p_fisher", "p_over_seeds"),
    *("seeds_below_5_percent", "p_below_baseline", "first_column_ahead", "p_side", "same_side", "could_show"),
)
SEED_COLUMNS = ("arm", "backend", "seed", "measure", "columns", "means", "gap", "gap_by_chance", "p")


def measures(kernels: np.ndarray) -> dict[str, np.ndarray]:
    """Of kernels (maps, 3, rows, columns), each (maps,).

    ``chroma``: the share of a kernel's energy that is no grey, 0 for one that reads all three colours alike.
    ``orientation``: how much the spectrum of its grey part lies in one direction, 0 for none and 1 for a grating.
    ``frequency``: the mean frequency of that spectrum, in cycles a pixel.
    """
    kernels = kernels.astype(np.float64)
    grey = kernels.mean(axis=1)  # (maps, rows, columns)
    whole = (kernels**2).sum(axis=(1, 2, 3))
    chroma = 1 - 3 * (grey**2).sum(axis=(1, 2)) / whole
    # Zeros around make the spectrum finer, so that its directions are many.
    power = np.abs(np.fft.fft2(grey, s=(32, 32))) ** 2
    frequencies = np.fft.fftfreq(32)
    down, along = np.meshgrid(frequencies, frequencies, indexing="ij")
    power[:, 0, 0] = 0  # a mean has no direction
    total = power.sum(axis=(1, 2))
    doubled = np.exp(2j * np.arctan2(down, along))
    orientation = np.abs((power * doubled).sum(axis=(1, 2))) / total
    frequency = (power * np.hypot(down, along)).sum(axis=(1, 2)) / total
    return {"chroma": chroma, "orientation": orientation, "frequency": frequency}


def spread(values: np.ndarray, columns: int) -> np.ndarray:
    """How far the means of equal runs of ``values`` (..., maps) lie apart: the greatest less the least, (...)."""
    means = values.reshape(*values.shape[:-1], columns, -1).mean(axis=-1)
    return np.ptp(means, axis=-1)


@dataclass(frozen=True)
class Parted:
    """How far a run's columns are apart in one measure; ``chance``: the mean over random deals of the same kernels."""

    means: tuple[float, ...]
    gap: float
    chance: float
    p: float


def parted(values: np.ndarray, columns: int, generator: np.random.Generator, deals: int = DEALS) -> Parted:
    """Hold the columns of one run (maps,) against random deals of its kernels."""
    dealt = spread(generator.permuted(np.tile(values, (deals, 1)), axis=1), columns)
    gap = float(spread(values, columns))
    # The deal that was made is one of those that there are.
    p = (1 + int((dealt >= gap - 1e-12).sum())) / (1 + deals)
    means = values.reshape(columns, -1).mean(axis=1)
    return Parted(tuple(means.tolist()), gap, float(dealt.mean()), p)


def seed_rows(evidence: Evidence, kernels: Kernels) -> list[dict[str, Any]]:
    """By arm, backend, seed and measure; the kernels as the runs ended."""
    found = []
    for arm in (name for name in (SPLIT, *CONTROLS, SWAPPED) if name in evidence.arms):
        # Two where it has one, as if it had been split.
        columns = max(2, evidence.arms[arm].as_case().network().columns)
        for backend in BACKENDS:
            runs, _ = evidence.arm(backend, arm)
            for seed, run in sorted(runs.items()) if evidence.is_whole(backend, arm) else ():
                for measure, values in measures(kernels.of(run)[-1]).items():
                    own = parted(values, columns, np.random.default_rng(seed))
                    found.append(
                        {
                            "arm": arm,
                            "backend": backend,
                            "seed": seed,
                            "measure": measure,
                            "columns": len(own.means),
                            "means": " ".join(f"{mean:.4f}" for mean in own.means),
                            "gap": own.gap,
                            "gap_by_chance": own.chance,
                            "p": own.p,
                        }
                    )
    return found


def ended(evidence: Evidence, kernels: Kernels) -> dict[str, dict[int, np.ndarray]]:
    """By backend and seed, the baseline's kernels as it ended, (columns, maps a column, 3, k, k), grey ones first."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for backend in BACKENDS:
        runs, _ = evidence.arm(backend, SPLIT)
        for seed, run in sorted(runs.items()) if evidence.is_whole(backend, SPLIT) else ():
            columns = np.split(kernels.of(run)[-1], evidence.arms[SPLIT].as_case().network().columns)
            ordered = [own[np.argsort(measures(own)["chroma"], kind="stable")] for own in columns]
            found.setdefault(backend, {})[seed] = np.stack(ordered)
    return found


def growing(evidence: Evidence, kernels: Kernels) -> dict[str, np.ndarray]:
    """By backend, the kernels of the run that is watched as it trains: (epochs + 1, maps, 3, rows, columns)."""
    found = {}
    for backend in BACKENDS.values():
        runs, _ = evidence.arm(backend.name, SPLIT)
        if watched := runs.get(backend.accuracy_seeds[0]):
            found[f"{backend.name}, seed {watched.record.seed}"] = kernels.of(watched)
    return found


def could_show(evidence: Evidence, kernels: Kernels) -> dict[str, float]:
    """By backend, the smallest gap in chroma that the baseline's runs would have shown with power .8."""
    whole = {name: evidence.arm(name, SPLIT)[0].values() for name in BACKENDS if evidence.is_whole(name, SPLIT)}
    return {name: smallest_seen([kernels.of(run)[-1] for run in runs]) for name, runs in whole.items() if runs}


def deciding(parted: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows over seeds, those that the verdict rests on."""
    return [row for row in parted if (row["arm"], row["measure"]) == (SPLIT, "chroma")]


def rows(seeds: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By arm, backend and measure, over seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    seeds = list(seeds)
    sides = {(row["seed"], row["measure"]): _first_ahead(row) for row in seeds if row["arm"] == SPLIT}
    for row in seeds:
        groups.setdefault((row["arm"], row["backend"], row["measure"]), []).append(row)
    beyond = {key: [row["gap"] - row["gap_by_chance"] for row in own] for key, own in groups.items()}
    found = []
    for (arm, backend, measure), own in groups.items():
        ahead = [_first_ahead(row) for row in own]
        # Of a backend's run and the other's with the same seed.
        same = [sides.get((row["seed"], measure)) == first for row, first in zip(own, ahead, strict=True)]
        two = own[0]["columns"] == 2
        found.append(
            {
                "arm": arm,
                "backend": backend,
                "measure": measure,
                "seeds": len(own),
                "columns": own[0]["columns"],
                "gap": float(np.mean([row["gap"] for row in own])),
                "gap_by_chance": float(np.mean([row["gap_by_chance"] for row in own])),
                "p_fisher": float(stats.combine_pvalues([row["p"] for row in own]).pvalue),
                "p_over_seeds": _over_seeds(beyond[arm, backend, measure]),
                "seeds_below_5_percent": sum(row["p"] <= LEVEL for row in own),
                "p_below_baseline": _below(beyond[arm, backend, measure], beyond.get((SPLIT, backend, measure), [])),
                "first_column_ahead": sum(ahead) if two else None,
                "p_side": float(stats.binomtest(sum(ahead), len(ahead)).pvalue) if two else None,
                "same_side": sum(same) if arm == SWAPPED else None,
            }
        )
    return found


def _first_ahead(row: Mapping[str, Any]) -> bool:
    first, second, *_ = map(float, row["means"].split())
    return first > second


def _over_seeds(excess: list[float]) -> float:
    """Of gaps beyond chance, the p-value of their mean being none: Fisher's says whether *some* run has one."""
    if len(excess) < LEAST_SEEDS or np.ptp(excess) == 0:
        return 1.0
    return float(stats.ttest_1samp(excess, 0, alternative="greater").pvalue)


def _below(control: list[float], split: list[float]) -> float | None:
    """Of gaps beyond chance, Welch's p-value of the control's being no smaller; None where there is no such pair."""
    if control is split or min(len(control), len(split)) < LEAST_SEEDS or np.ptp([*control, *split]) == 0:
        return None
    return float(stats.ttest_ind(control, split, equal_var=False, alternative="less").pvalue)


def reason(parted: Sequence[Mapping[str, Any]], p_holm: float) -> str:
    """What stands behind the verdict, in words."""
    chroma = {(row["arm"], row["backend"]): row for row in parted if row["measure"] == "chroma"}
    sides = [row for (arm, _), row in chroma.items() if arm == SPLIT]
    swapped = [row for (arm, _), row in chroma.items() if arm == SWAPPED]
    told = ", ".join(
        f"{row['backend']} {row['gap']:.3f} against {row['gap_by_chance']:.3f} by chance (p = {row['p_fisher']:.2g})"
        for row in sides
    )
    said = [f"gap in chroma between the columns' kernels: {told}"]
    values = {
        arm: [f"{row['p_fisher']:.2g} in {backend}" for (own, backend), row in chroma.items() if own == arm]
        for arm in CONTROLS
    }
    if told := ", ".join(f"{arm} {' and '.join(own)}" for arm, own in values.items() if own):
        said.append(f"p of the same test of the controls: {told}")
    below = [row for (arm, _), row in chroma.items() if arm == CONTROLS[0] and row["p_below_baseline"] is not None]
    if told := " and ".join(f"{row['p_below_baseline']:.2g} in {row['backend']}" for row in below):
        said.append(f"that {CONTROLS[0]} nets part less beyond chance than the baseline's (Welch): p = {told}")
    alone = [row["backend"] for row in sides if row["p_fisher"] <= LEVEL]
    if 0 < len(alone) < len(sides):
        where = " and ".join(alone)
        # Those that train on the seeds of one that is among them, and no other, part as well.
        by_draw = all((row["p_fisher"] <= LEVEL) == (lender(BACKENDS[row["backend"]]).name in alone) for row in swapped)
        if len(swapped) == len(sides) and by_draw:
            said.append(f"the columns part on {where}'s seeds alone, whichever backend trains them")
        else:
            said.append(f"the columns part in {where} alone, which is a finding of its own")
    told = ", ".join(f"{row['first_column_ahead']} of {row['seeds']} in {row['backend']}" for row in sides)
    said.append(f"the first column has more colour in {told}")
    if told := ", ".join(f"{row['same_side']} of {row['seeds']} in {row['backend']}" for row in swapped):
        ps = " and ".join(f"{row['p_fisher']:.2g} in {row['backend']}" for row in swapped)
        said.append(f"trained on the other backend's seeds p is {ps}")
        said.append(f"there the column with more colour is the same as the other backend's in {told}")
    if p_holm > LEVEL:
        seen = ", ".join(f"{row['could_show']:.2f} ({row['backend']})" for row in sides if row.get("could_show"))
        said.append(f"a gap in every run of at least {seen} would have been found with power .8, at 5 %")
    said.append(f"p = {p_holm:.2g} after Holm, over the primary claims")
    return "; ".join(said)


def smallest_seen(kernels: list[np.ndarray], columns: int = 2) -> float:
    """The gap in chroma that so many seeds would have shown with power .8, if nothing else parted the columns.

    By simulation: each run's kernels are dealt out at random, and the first column's chroma is raised by ever more.
    """
    generator = np.random.default_rng(0)
    chroma = [measures(own)["chroma"] for own in kernels]
    for shift in np.arange(0.0, 1.0, SHIFT):
        found = 0
        for _ in range(SIMULATED):
            values = []
            for own in chroma:
                dealt = generator.permutation(own)
                dealt[: len(dealt) // columns] += shift
                values.append(parted(dealt, columns, generator, FEW_DEALS).p)
            found += stats.combine_pvalues(values).pvalue <= LEVEL
        if found / SIMULATED >= POWER:
            return float(shift)
    return 1.0

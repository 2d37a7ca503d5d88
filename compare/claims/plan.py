"""The plan, made before its first run: every arm, seed and backend, how long that takes, and what it could show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compare.claims.arms import ARMS, BASELINE, STUDIES, Arm, queue_of, seeds_of
from compare.claims.comparisons import COMPARISONS, PRIMARY, QUANTITIES, measure
from compare.claims.pack import Packed
from compare.claims.shards import OWN, Place, Task
from compare.load import read_csv
from compare.statistics import LEVEL, detectable
from paper.cost import train_flops
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.sealed import Damaged
from protocol.base.tables import write_table
from protocol.experiment.cases import what

PLAN = Path("results/reference/claims")
COLUMNS = ("shard", "backend", "arm", "seed", "images", "seconds_modelled")
POWER_COLUMNS = ("claim", "primary", "compared", "quantity", "seeds", "backend", "spread_in_study", "smallest_effect")
SHARD_MINUTES = 30
STUDIED = "batch-32-.001"  # the study's arm that the baseline was taken from
# A step's time is in part that of the products, which grow with the network, and in part of all else, which does not.
PRODUCTS = 0.6


@dataclass(frozen=True)
class Pace:
    """How fast the study went through the baseline's network: images trained on in a second, all told."""

    images_per_second: float

    @classmethod
    def of(cls, runs: Iterable[Packed]) -> "Pace":
        own = [run for run in runs if run.arm == STUDIED]
        if not own:
            raise Misuse("there is no study to plan from: nox -s claims -- --study makes it")
        return cls(float(np.median([_images(run.record.case) / run.record.seconds for run in own])))

    def seconds(self, arm: Arm) -> float:
        ratio = train_flops(arm.as_case().network()) / train_flops(BASELINE.as_case().network())
        return images_of(arm) / self.images_per_second * (1 - PRODUCTS + PRODUCTS * ratio)


def _images(case: Mapping[str, Any]) -> int:
    return int((case["limit"] or 10_000) * case["epochs"])


def images_of(arm: Arm) -> int:
    """Training images that a run of ``arm`` goes through."""
    return _images(arm.as_case().content())


def rows(studied: list[Packed]) -> list[dict[str, Any]]:
    """The plan's runs, each backend's in the order they are carried out, cut into shards by time."""
    found = []
    for backend in BACKENDS.values():
        pace, passed = Pace.of(run for run in studied if run.record.backend == backend.name), 0.0
        for arm, number in queue_of(ARMS):
            seconds = pace.seconds(arm)
            found.append(
                {
                    "shard": f"{int(passed // (60 * SHARD_MINUTES)) + 1:02}",
                    "backend": backend.name,
                    "arm": arm.name,
                    "seed": seeds_of(arm, backend)[number],
                    "images": images_of(arm),
                    "seconds_modelled": round(seconds),
                }
            )
            passed += seconds
    return found


def power_rows(studied: list[Packed]) -> list[dict[str, Any]]:
    """By comparison and backend: the smallest effect that so many seeds would show with power .8.

    Taken from the spread over the study's seeds as if the two arms of a pair had nothing in common; what they share,
    the order and the first weights, can only make it smaller.
    """
    seeds = {arm.name: arm.seeds for arm in ARMS}
    found = []
    for comparison in COMPARISONS:
        count = min(seeds[comparison.left], seeds[comparison.right or comparison.left])
        for name in BACKENDS:
            own = [run for run in studied if run.record.backend == name and run.arm == STUDIED]
            spread = float(np.std([measure(run, comparison.quantity) for run in own], ddof=1))
            error = spread * (2**0.5 if comparison.right else 1.0) / count**0.5
            found.append(
                {
                    "claim": comparison.claim,
                    "primary": comparison.claim in PRIMARY,
                    "compared": comparison.name,
                    "quantity": comparison.quantity,
                    "seeds": count,
                    "backend": name,
                    "spread_in_study": spread,
                    "smallest_effect": detectable(error, count),
                }
            )
    return found


def write(studied: list[Packed], folder: Path = PLAN) -> list[str]:
    """Write the plan to ``folder`` and say what it comes to."""
    runs, shown = rows(studied), power_rows(studied)
    begun = sorted(path.name for path in folder.glob("*.json.gz") if path.name.partition(".")[0] not in STUDIES)
    if begun:
        raise Misuse(f"{folder} has runs of the plan, {begun[0]} the first: a plan is not made anew once it has begun")
    write_table(folder / "plan.csv", COLUMNS, runs)
    write_table(folder / "plan_power.csv", POWER_COLUMNS, shown)
    lanes = {name: sum(row["seconds_modelled"] for row in runs if row["backend"] == name) for name in BACKENDS}
    paces = {name: Pace.of(run for run in studied if run.record.backend == name).images_per_second for name in BACKENDS}
    images = sum(row["images"] for row in runs)
    said = [
        f"{len(runs)} runs of {len(ARMS)} arms, {images / 1e6:.1f} million images; "
        + ", ".join(f"{name} {pace:.0f} images/s" for name, pace in paces.items())
        + " a core, all told, as the study measured them here",
        f"modelled: {max(lanes.values()) / 3600:.1f} hours on two cores, in {max(row['shard'] for row in runs)} shards "
        f"of {SHARD_MINUTES} minutes",
        f"tests: two-sided at {LEVEL:.0%}, each backend by itself; Holm over {', '.join(PRIMARY)}",
    ]
    for comparison in COMPARISONS:
        own = [row for row in shown if row["claim"] == comparison.claim and row["compared"] == comparison.name]
        own = [row for row in own if row["quantity"] == comparison.quantity]
        worst = max(row["smallest_effect"] for row in own)
        said.append(
            f"{comparison.claim}: {comparison.name} in {QUANTITIES[comparison.quantity].said}, "
            f"{own[0]['seeds']} seeds a backend: power .8 for an effect of {worst:.3g}"
        )
    return said


def read(folder: Path = PLAN, place: Place = OWN) -> dict[str, list[Task]]:
    """The plan's tasks by shard; on other data, without the arms whose data are what they are about.

    Raises:
        Misuse: it is damaged, or names an arm or a backend that there is not.
    """
    if not (folder / "plan.csv").is_file():
        raise Misuse(f"there is no plan in {folder}: nox -s compare -- plan makes one from the study")
    arms = {arm.name: arm for arm in ARMS}
    found: dict[str, list[Task]] = {}
    for row in read_csv(folder / "plan.csv", dtype=str).to_dict("records"):
        if missing := [name for name in COLUMNS if not isinstance(row.get(name), str)]:
            raise Damaged(f"{folder / 'plan.csv'} has a row without {missing[0]}: take it from where it came")
        if row["arm"] not in arms:
            raise Misuse(unknown("arm", row["arm"], arms))
        if row["backend"] not in BACKENDS:
            raise Misuse(unknown("backend", row["backend"], BACKENDS))
        if not row["seed"].isdecimal():
            raise Damaged(f"{folder / 'plan.csv'} has a seed that is no number, {row['seed'][:40]!r}")
        task = Task(BACKENDS[row["backend"]], arms[row["arm"]], int(row["seed"]), place)
        if place.store and task.arm.as_case().store != BASELINE.as_case().store:
            continue
        found.setdefault(row["shard"], []).append(task)
    return found


def is_of_plan(run: Packed, arm: Arm, store: str | None = None) -> bool:
    """Whether a run is of an arm as the plan has it now, on its own data or on ``store``: a name says not all of it."""
    if (run.record.placement, run.record.precision) != ("single", "fp32"):
        return False
    own = arm.as_case().content()
    if store:
        own |= {name: run.record.case[name] for name in ("classes", "limit")} | {"store": store}
    return what(run.record.case) == what(own)

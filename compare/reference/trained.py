"""What docs/results.md says of the claims that train: how much of the plan is in, and what it came to so far."""

from pathlib import Path
from typing import Any

import pandas as pd

from compare.claims import again, clock, controls, pack
from compare.claims.arms import BASELINE
from compare.claims.judge import INCONCLUSIVE
from compare.claims.plan import PLAN
from compare.load import read_csv
from compare.statistics import LEVEL
from protocol.backends import BACKENDS

PICTURES = {
    "forest": "Every effect with its 95 % interval; right of the line the claim is right, and filled dots decide",
    "specialise": "How far the columns' first kernels are apart in colour, run by run, beside random deals of them",
    "kernels": "The first kernels of every run of the baseline, each column's from grey to coloured, by seed",
    "growth": "The columns' first kernels as training goes on, of one run a backend",
    "connectivity": "Test error against the bytes that cross between the columns",
    "reading": "How well a linear classifier reads classes off each layer, before and after training",
    **{
        f"{name}-{backend}": f"{what}, {backend}"
        for name, what in (
            ("layers", "What units of four layers are excited by most"),
            ("neighbours", "Test images and their nearest training images, in fc7 and in pixels"),
            ("guesses", "Test images with their five likeliest labels"),
        )
        for backend in BACKENDS
    },
}
HEADS = ("claim", "verdict", *BACKENDS, "seeds", "p, Holm", "power .8 from")


def section(reference: Path) -> list[str]:
    """The section's paragraphs; none where there is no plan."""
    folder = reference / PLAN.name
    if not (folder / "plan.csv").is_file():
        return []
    planned = read_csv(folder / "plan.csv", dtype={"shard": str})
    shards = set(planned["shard"])
    done = [run for run in pack.read(folder) if run.shard in shards]
    machines = sorted({run.record.processor for run in done})
    where = f", on {' and '.join(machines)}" if machines else ""
    found = [
        "## The claims that train",
        f"Of the {len(planned)} runs planned before the first one started, {len(done)} have finished{where} "
        f"([plan]({folder.as_posix()}/plan.csv), [rules](claims.md)). What both backends have shown so far; the unit "
        "is the seed; the claim is right where an effect is above 0, or above 1 where it is told in times:",
    ]
    if (folder / "claims.csv").is_file() and not (table := read_csv(folder / "claims.csv")).empty:
        lines = [HEADS, ["---"] * len(HEADS), *(_cells(row) for row in table.to_dict("records"))]
        found.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        found.append(
            "Effects are those of a claim's first deciding comparison. *Power .8 from*: the smallest effect in it that "
            "both backends together show with power .8, at 5 % and, in brackets, at the strictest level of Holm's "
            "correction."
        )
    if (folder / "controls.csv").is_file() and not (table := read_csv(folder / "controls.csv")).empty:
        found.append(_controls(table))
    if not (table := again.read(folder)).empty:
        found.append(_again(table))
    if not (table := clock.read(folder)).empty:
        found.append(_clock(table))
    for name, caption in PICTURES.items():
        if (folder / f"{name}.png").is_file():
            found.append(f"{caption}:\n\n![{caption}]({folder.as_posix()}/{name}.png)")
    return found


def _controls(table: pd.DataFrame) -> str:
    """How often something is found in the same runs with nothing left to find."""
    kinds = {str(kind): own for kind, own in table.groupby("control")}
    said = []
    if (own := kinds.get(controls.DEALT)) is not None:
        found, tried, most = own["rejected"].sum(), own["tried"].sum(), (own["rejected"] / own["tried"]).max()
        said.append(
            "with the two arms of a comparison dealt out at random within seeds, a backend finds an effect in "
            f"{found / tried:.1%} of {tried:,} deals, {most:.1%} in the worst comparison (nominal {LEVEL:.0%}; six "
            "pairs can be dealt in only 32 ways that differ, so their rates are uneven)"
        )
    if (own := kinds.get(controls.SAME)) is not None:
        told = " and ".join(f"{row['rejected']} in {row['backend']}" for row in own.to_dict("records"))
        said.append(f"of {controls.SPLITS} random splits of the baseline's seeds into halves, {told} differ")
    if (own := kinds.get(controls.PERMUTED)) is not None:
        found, tried = own["rejected"].sum(), own["tried"].sum()
        said.append(
            f"with the names of the arms of {', '.join(own['compared'])} dealt out within seeds, {found} of {tried} "
            f"verdicts are other than {INCONCLUSIVE}"
        )
    named = ""
    if (own := kinds.get(controls.NAMED)) is not None:
        told = " and ".join(own.loc[own["rejected"] > 0, "compared"]) or "none"
        named = f" Under their own names, of these claims {told} alone is decided."
    return f"Can the analysis be fooled? With nothing left to find in the same runs: {'; '.join(said)}.{named}"


def _again(table: pd.DataFrame) -> str:
    """How many runs came out the same when they were trained anew."""
    same = table["differing"] == ""
    where = " and ".join(sorted(set(table["trained_on"])))
    others = "".join(f" Not {row['run']}: {row['differing']}." for row in table[~same].to_dict("records"))
    return (
        f"Trained anew from their seeds on {where}, {same.sum()} of {len(table)} runs came to the same files, bit for "
        f"bit ({', '.join(table['run'])}).{others}"
    )


def _clock(table: pd.DataFrame) -> str:
    """How fast the baseline trains."""
    own = table[table["arm"] == BASELINE.name].groupby("backend", sort=False)[["images_per_second", "of_peak"]].median()
    told = " and ".join(
        f"{row['images_per_second']:.0f} images/s in {backend} ({row['of_peak']:.0%})"
        for backend, row in own.iterrows()
    )
    return f"On one core the baseline trains at {told}; in brackets, of what that core does in large matrix products."


def _cells(row: dict[str, Any]) -> list[str]:
    p, both, strictly = (row.get(name) for name in ("p_holm", "both_could_show", "holm_could_show"))
    adjusted = "exploratory" if pd.isna(p) else f"{p:.2g}"
    shown = "" if pd.isna(both) else f"{both:.2g}" + ("" if pd.isna(strictly) else f" ({strictly:.2g})")
    return [*(str(row[name]) for name in ("claim", "verdict", *BACKENDS, "seeds")), adjusted, shown]

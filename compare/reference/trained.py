"""What docs/results.md says of the claims that train: how much of the plan is in, and what it came to so far."""

from pathlib import Path

import pandas as pd

from compare.claims import pack
from compare.claims.plan import PLAN
from compare.load import read_csv
from protocol.backends import BACKENDS

PICTURES = {
    "forest": "Every effect with its 95 % interval; right of the line the claim is right, and filled dots decide",
    "specialise": "How far the columns' first kernels are apart in colour, run by run, beside random deals of them",
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
HEADS = ("claim", "verdict", *BACKENDS, "seeds", "p, Holm")


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
        f"([plan]({folder.as_posix()}/plan.csv), [rules](claims.md)). What both backends have shown so far: the unit "
        "is the seed, and an effect is positive where the claim is right:",
    ]
    if (folder / "claims.csv").is_file() and not (table := read_csv(folder / "claims.csv")).empty:
        lines = [HEADS, ["---"] * len(HEADS), *(_cells(row) for row in table.to_dict("records"))]
        found.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    for name, caption in PICTURES.items():
        if (folder / f"{name}.png").is_file():
            found.append(f"{caption}:\n\n![{caption}]({folder.as_posix()}/{name}.png)")
    return found


def _cells(row: dict[str, object]) -> list[str]:
    p = row["p_holm"]
    adjusted = "exploratory" if pd.isna(p) else f"{p:.2g}"
    return [str(row["claim"]), str(row["verdict"]), *(str(row[name]) for name in BACKENDS), str(row["seeds"]), adjusted]

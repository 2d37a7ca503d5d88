"""What each layer takes of a step, measured by itself, beside the least that the machine's rates allow."""

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from compare.style import PALETTE, save

COLUMNS = ("backend", "precision", "layer", "seconds", "least_seconds", "times_least")
LEAST = "least (modelled)"
KINDS = {
    "convolutions": ("conv",),
    "dense layers": ("fc",),
    "norms (with their ReLU where that is one operator)": ("norm",),
    "pooling": ("pool",),
}


def rows(samples: pd.DataFrame, roofs: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of ``layers.csv``: each layer's median over rounds; ``roofs``: the float32 roofline."""
    found = samples.groupby(["backend", "precision", "layer"], sort=False)["seconds"].median().reset_index()
    least = found["layer"].map(roofs.set_index("layer")["seconds"])
    # A ReLU that takes no time of its own is part of the operator of the norm after it, and so is its least time.
    joined = (found["seconds"] == 0) & found["layer"].str.startswith("relu")
    least = (least + least.where(joined, 0.0).shift(fill_value=0.0)).where(~joined)
    found["least_seconds"] = least.where(found["precision"] == "fp32")
    # Nor has dropout any time where it is not measured.
    found["times_least"] = (found["seconds"] / found["least_seconds"]).where(found["seconds"] > 0)
    return found.astype(object).where(found.notna(), None)[list(COLUMNS)].to_dict("records")


def sentences(table: pd.DataFrame) -> list[str]:
    """What each kind of layer takes of the time, and of its least time."""
    found = []
    for backend, own in table[table["precision"] == "fp32"].groupby("backend", sort=False):
        parts = []
        for kind, prefixes in KINDS.items():
            chosen = own[own["layer"].str.startswith(prefixes)]
            share = chosen["seconds"].sum() / own["seconds"].sum()
            parts.append(f"{kind} {share:.0%}, {chosen['seconds'].sum() / chosen['least_seconds'].sum():.1f} times")
        found.append(
            f"{backend}, layer by layer on one device: share of the layers' time, and times the least of the roofline "
            f"(modelled): {'; '.join(parts)}."
        )
    return found


def draw(table: pd.DataFrame, path: Path) -> None:
    """Milliseconds of a step by layer: the least, and each backend's."""
    table = table[table["precision"] == "fp32"]
    # Of a layer that one backend joins with the one before it, the least of it alone.
    alone = table.sort_values("least_seconds").drop_duplicates("layer")
    least = alone.assign(backend=LEAST, seconds=lambda own: own["least_seconds"])
    shown = pd.concat([least, table], ignore_index=True)
    shown["milliseconds"] = 1000 * shown["seconds"].astype(float)
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
        sns.barplot(
            shown,
            x="layer",
            y="milliseconds",
            hue="backend",
            order=list(dict.fromkeys(table["layer"])),
            palette={LEAST: "0.75", **PALETTE},
            ax=axes,
            width=0.85,
        )
        axes.set(xlabel="", ylabel="ms of a step")
        axes.tick_params(axis="x", rotation=60)
        axes.legend(title="")
        save(figure, path)

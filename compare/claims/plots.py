"""The claims' figures."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from compare.claims.comparisons import QUANTITIES
from compare.statistics import LEVEL
from compare.style import PALETTE, save, strip
from protocol.backends import BACKENDS

WIDE = ("faster-gpus",)  # a panel of its own: the effects of narrow nets are several times the others'


def forest(effects: pd.DataFrame) -> Figure:
    """Every comparison's effect with its 95 % interval, both backends; right of no effect the claim is right."""
    wide = effects["claim"].isin(WIDE)
    groups = [
        (name, own)
        for name in QUANTITIES
        for own in (effects[~wide & (effects["quantity"] == name)], effects[wide & (effects["quantity"] == name)])
        if len(own)
    ]
    heights = [own.groupby(["claim", "compared"], sort=False).ngroups + 1.6 for _, own in groups]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(9.5, 0.34 * sum(heights) + 0.4 * len(groups)),
        layout="constrained",
        height_ratios=heights,
        squeeze=False,
    )
    for panel, (name, own) in zip(axes[:, 0], groups, strict=True):
        quantity = QUANTITIES[name]
        labels = []
        for place, ((claim, compared), both) in enumerate(own.groupby(["claim", "compared"], sort=False)):
            labels.append(f"{claim}: {compared}" if "<" in compared else claim)
            for row in both.to_dict("records"):
                offset = 0.16 * (list(BACKENDS).index(row["backend"]) - (len(BACKENDS) - 1) / 2)
                mean, low, high = (quantity.told(row[key]) for key in ("effect", "low", "high"))
                colour = PALETTE[row["backend"]]
                panel.plot([low, high], [place + 2 * offset] * 2, color=colour, linewidth=1.6)
                face = colour if row["decides"] else "white"
                panel.plot(mean, place + 2 * offset, "o", color=colour, markerfacecolor=face, markersize=5)
        panel.axvline(quantity.told(0), color="0.4", linewidth=1)
        panel.set_yticks(range(len(labels)), labels, fontsize=9)
        panel.set_ylim(len(labels) - 0.5, -0.5)
        scale = "wider scale" if own["claim"].isin(WIDE).all() else ""
        panel.set_xlabel(", ".join(filter(None, (quantity.said, quantity.unit, scale))), fontsize=9)
        if quantity.unit == "times":
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 8)))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter("{x:g}")
    handles = [Line2D([], [], color=PALETTE[name], marker="o", label=name) for name in BACKENDS]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False)
    figure.suptitle(
        "A < B: the claim says that A has less. Effect: B less A, or in times B over A, with its 95 % interval.\n"
        "Right of the grey line it is as the claim says. Filled dots decide; hollow ones are told beside.",
        x=0.01,
        ha="left",
        fontsize=9,
    )
    return figure


WHAT = {
    "baseline": "baseline: two columns",
    "merged": "merged: one column, halved",
    "cross_everywhere": "two that cross everywhere",
    "no_crossing": "two that cross in the dense layers alone",
    "four_column": "four columns",
    "colour": "baseline, no grey photographs",
    "swapped": "baseline, the other backend's seeds",
}


def specialise(seeds: pd.DataFrame) -> Figure:
    """How far the columns' kernels are apart in colour, a dot a run, beside what a random deal of them gives.

    Right of an arm, how many runs of either backend part more than random deals do, at 5 %.
    """
    own = seeds[seeds["measure"] == "chroma"]
    arms = list(dict.fromkeys(own["arm"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=(3, 2))
    own = own.assign(alone=own["p"] <= LEVEL)
    strip(own, x="gap", y="arm", hue="backend", order=arms, size=5, alpha=0.8, ax=left)
    for place, arm in enumerate(arms):
        chance = own.loc[own["arm"] == arm, "gap_by_chance"].mean()
        left.plot([chance] * 2, [place - 0.4, place + 0.4], color="0.3", linewidth=1.5)
        for at, (backend, runs) in enumerate(own[own["arm"] == arm].groupby("backend", sort=False)):
            text = f"{runs['alone'].sum()} of {len(runs)}"
            style = {"transform": left.get_yaxis_transform(), "color": PALETTE[str(backend)], "fontsize": 9}
            left.text(1.02, place - 0.2 + 0.4 * at, text, va="center", **style)
    left.text(1.02, 1.02, "p ≤ .05", transform=left.transAxes, fontsize=9)
    left.set_yticks(range(len(arms)), [WHAT[arm] for arm in arms])
    left.set(
        xlabel="how far the columns' mean chroma lies apart; line: mean of random deals of the same kernels\n"
        "chroma: share of a kernel's energy that is not grey",
        ylabel="",
        xlim=(0, None),
    )
    sns.move_legend(left, "lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, title="")
    split = own[own["arm"] == arms[0]].reset_index(drop=True)
    means = split["means"].str.split(expand=True).astype(float)
    for place, (row, pair) in enumerate(zip(split.to_dict("records"), means.to_numpy(), strict=True)):
        right.plot(pair, [place] * len(pair), color="0.8", linewidth=1)
        for mean, marker in zip(pair, "os", strict=False):
            right.plot(mean, place, marker, color=PALETTE[row["backend"]], markersize=5, linestyle="")
    right.set_yticks(range(len(split)), split["seed"], fontsize=7)
    right.invert_yaxis()
    right.set(xlabel=f"mean chroma of a column's kernels, {arms[0]}", ylabel="seed")
    handles = [Line2D([], [], color="0.4", linestyle="", marker=marker) for marker in "os"]
    right.legend(handles, ("column 0", "column 1"), frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


APART = 0.008  # of the widest x: between the backends' marks
CROSSES = {
    "baseline": "conv3, dense layers\n(the paper's)",
    "merged": "one column",
    "cross_everywhere": "everywhere",
    "no_crossing": "dense layers",
    "cross_fc8": "fc8 alone (about half\nthe parameters)",
    "cross_early": "conv2, dense layers",
    "four_column": "four columns",
}


def connectivity(table: pd.DataFrame) -> Figure:
    """Test error against the bytes that cross; nearer to the corner is better.

    The line joins the split nets that no other split net beats in both, by the mean of the backends.
    """
    figure, axes = plt.subplots(figsize=(10.5, 5), layout="constrained")
    for number, (backend, own) in enumerate(table.groupby("backend", sort=False)):
        colour = PALETTE[str(backend)]
        spread = np.array([own["test_error"] - own["low"], own["high"] - own["test_error"]]) * 100
        beside = (number - 0.5) * APART * table["bytes_crossing"].max()  # intervals would lie on each other
        axes.errorbar(
            (own["bytes_crossing"] + beside) / 2**20,
            100 * own["test_error"],
            yerr=spread,
            fmt="o",
            color=colour,
            capsize=2,
            label=backend,
        )
    split = table[table["columns"] > 1]
    means = split.groupby("arm")[["bytes_crossing", "test_error"]].mean().sort_values("bytes_crossing")
    best = means[means["test_error"] < means["test_error"].cummin().shift(fill_value=np.inf)]
    axes.plot(best["bytes_crossing"] / 2**20, 100 * best["test_error"], color="0.7", linewidth=1, zorder=0)
    for place, (arm, own) in enumerate(table.sort_values("bytes_crossing").groupby("arm", sort=False)):
        at, above = own.iloc[0], place % 2 == 1  # neighbours' words would lie on each other
        axes.annotate(
            CROSSES[arm] + (f"\n{at['share_of_step_modelled']:.1%} of the step" if at["columns"] > 1 else ""),
            (at["bytes_crossing"] / 2**20, 100 * (own["high"].max() if above else own["low"].min())),
            textcoords="offset points",
            xytext=(0, 5 if above else -5),
            ha="center",
            va="bottom" if above else "top",
            fontsize=8,
        )
    axes.set(
        xlabel="MiB that cross for an image at full size, there and back; share of the paper's step: modelled\n"
        "Words: where columns cross. Bars: 95 % intervals. Line: the split nets that no other split net beats in both",
        ylabel="test error, %",
    )
    axes.margins(x=0.12, y=0.2)
    axes.legend(frameon=False)
    return figure


def growth(kernels: dict[str, np.ndarray], columns: int) -> Figure:
    """conv1's kernels as training goes on, one run a backend: (epochs + 1, maps, 3, k, k); blocks are columns."""
    figure, axes = plt.subplots(
        len(kernels), columns, figsize=(6, 3.2 * len(kernels)), layout="constrained", squeeze=False
    )
    for row, (name, own) in zip(axes, kernels.items(), strict=True):
        epochs = {"start": 0, "1 epoch": 1, "2 epochs": 2, f"{len(own) - 1} epochs": len(own) - 1}
        for column, panel in enumerate(row):
            blocks = [_tiles(own[epoch], column, columns) for epoch in epochs.values()]
            panel.imshow(np.concatenate(blocks, axis=0), interpolation="nearest")
            middles = [len(blocks[0]) * (place + 0.4) for place in range(len(blocks))]
            panel.set_yticks(middles, epochs if column == 0 else [""] * len(epochs))
            panel.set_xticks([])
            panel.tick_params(length=0)
            for spine in panel.spines.values():
                spine.set_visible(False)
            panel.set_title(f"{name}, column {column}", fontsize=10, loc="left")
    return figure


def by_seed(kernels: dict[str, dict[int, np.ndarray]]) -> Figure:
    """Every run's kernels in a row (columns, maps a column, 3, k, k), side by side those of its columns."""
    columns = max(len(own) for seeds in kernels.values() for own in seeds.values())
    rows = max(map(len, kernels.values()))
    size = (5.5 * len(kernels), 0.27 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns * len(kernels), figsize=size, layout="constrained", squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for block, (backend, seeds) in enumerate(kernels.items()):
        for row, (seed, own) in enumerate(seeds.items()):
            for column, part in enumerate(own):
                panel = axes[row, block * columns + column]
                panel.imshow(np.concatenate(list(_own_range(part)), axis=1), interpolation="nearest")
                if column == 0:
                    panel.text(
                        -0.02, 0.5, f"seed {seed}", ha="right", va="center", fontsize=8, transform=panel.transAxes
                    )
                if row == 0:
                    panel.set_title(f"{backend}, column {column}: grey → coloured", fontsize=8, loc="left")
    return figure


def _own_range(kernels: np.ndarray) -> np.ndarray:
    """Kernels (maps, 3, k, k) as pictures (maps, k + 1, k + 1, 3), each between its own darkest and brightest."""
    part = kernels.astype(np.float64).transpose(0, 2, 3, 1)
    low, high = (edge.reshape(-1, 1, 1, 1) for edge in (part.min((1, 2, 3)), part.max((1, 2, 3))))
    return np.pad((part - low) / (high - low), ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1)


def _tiles(weight: np.ndarray, column: int, columns: int) -> np.ndarray:
    """One column's kernels (maps, 3, k, k) in two rows."""
    share = len(weight) // columns
    tiles = _own_range(weight[column * share : (column + 1) * share])
    half = len(tiles) // 2
    rows = [np.concatenate(list(tiles[place : place + half]), axis=1) for place in (0, half)]
    return np.asarray(np.pad(np.concatenate(rows), ((0, 2), (0, 0), (0, 0)), constant_values=1))


def draw(
    folder: Path,
    tables: dict[str, list[dict[str, Any]]],
    kernels: dict[str, np.ndarray],
    by_seeds: dict[str, dict[int, np.ndarray]],
) -> None:
    """Write the figures that there is something for."""
    made = {}
    if tables["effects"]:
        made["forest"] = forest(pd.DataFrame(tables["effects"]))
    if tables["specialise_seeds"]:
        made["specialise"] = specialise(pd.DataFrame(tables["specialise_seeds"]))
    if len({row["arm"] for row in tables["connectivity"]}) > 1:
        made["connectivity"] = connectivity(pd.DataFrame(tables["connectivity"]))
    if kernels:
        made["growth"] = growth(kernels, 2)
    if by_seeds:
        made["kernels"] = by_seed(by_seeds)
    for name, figure in made.items():
        save(figure, folder / f"{name}.png")

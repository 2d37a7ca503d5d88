"""The audit's figures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from compare.ladder import RUNGS
from compare.load import Runs
from compare.style import LIMIT, PALETTE, save, strip
from paper.days import PAPER_DAYS
from paper.recipe import PRESETS

KIND_COLOURS = {"parameters": "#31572c", "gradients": "#90a955", "momentum": "#ecf39e", "activations": "#f2a65a"}
GIB = 2**30


def training(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """Loss by step and test error by epoch, both backends; dashed: what colour statistics alone achieve."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for run in runs.twins():
        steps = run.table("steps")
        colour = PALETTE[run.record.backend]
        left.plot(steps["step"], steps["loss"], color=colour, alpha=0.2, linewidth=0.7)
        smooth = steps["loss"].rolling(25, min_periods=1, center=True).mean()
        left.plot(steps["step"], smooth, color=colour, label=f"{run.record.backend}, {run.record.placement}")
        epochs = run.table("epochs")
        one = epochs[epochs["views"] == 1]
        right.plot(
            one["epoch"] + 1, 100 * one["top1_error"], color=colour, marker="o", markersize=4, label=run.record.backend
        )
    for name, style in (("linear", "--"), ("forest", ":")):
        error = 100 * (1 - tables["colour_bar"][name].iloc[0])
        right.axhline(error, color="0.4", linestyle=style, linewidth=1, label=f"colour statistics, {name}")
    left.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="top-1 test error, %", ylim=(0, None))
    left.legend(frameon=False)
    right.legend(frameon=False)
    return figure


def parity(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """Every quantity's difference as a share of its tolerance, by rung: all should be left of 1."""
    table = tables["parity"]
    table = table[(table["tolerance"] > 0) & (table["rung"] != "draws")].copy()
    table["share"] = (table["difference"] / table["tolerance"]).clip(lower=1e-4)
    table["backend"] = table["left"].str.split().str[0]
    order = [rung for rung in RUNGS if (table["rung"] == rung).any()]
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(order) + 1.2), layout="constrained")
    strip(table, x="share", y="rung", hue="backend", order=order, size=3, alpha=0.6, ax=axes)
    axes.axvline(1, color="0.3", linewidth=1)
    axes.set(xscale="log", xlabel="difference / tolerance (1 would fail; floor 0.0001)", ylabel="")
    sns.move_legend(axes, "lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, title="")
    return figure


def memory(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """Left: measured bytes a device at batch 32, by kind. Right: modelled bytes at batch 128 against 3 GiB."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(3, 2))
    table = tables["memory"]
    table = table[table["batch"] == table["batch"].min()]
    table = table.assign(
        where=table["backend"]
        + " "
        + table["variant"].where(table["variant"] != "two_column", table["placement"])
        + "\n"
        + table["device"]
    )
    kinds = table[table["kind"].isin(KIND_COLOURS)].pivot_table(
        index="where", columns="kind", values="measured_bytes", sort=False
    )
    kinds = kinds[list(KIND_COLOURS)] / GIB
    bottom = np.zeros(len(kinds))
    for kind, colour in KIND_COLOURS.items():
        left.barh(kinds.index, kinds[kind], left=bottom, color=colour, edgecolor="white", label=kind)
        bottom += kinds[kind].to_numpy()
    left.invert_yaxis()
    left.set(xlabel=f"GiB, measured, batch {table['batch'].iloc[0]}")
    left.tick_params(axis="y", labelsize=8)
    left.legend(frameon=False, fontsize=8)
    fits = tables["fits_3gb"].assign(
        where=lambda t: t["variant"] + "\n" + t["devices"].map({1: "one device", 2: "each of two"}),
        gib=lambda t: t["modelled_bytes"] / GIB,
    )
    sns.barplot(fits, y="where", x="gib", hue="policy", palette=["#8d99ae", "#2b2d42"], ax=right)
    right.axvline(3, color=LIMIT, linewidth=1.5)
    right.text(2.95, 0.98, "3 GiB", ha="right", va="top", transform=right.get_xaxis_transform(), fontsize=9)
    right.set(xlabel="GiB, modelled, batch 128", ylabel="", xlim=(0, 3.2))
    right.tick_params(axis="y", labelsize=8)
    right.legend(
        frameon=False, title="buffer policy", fontsize=8, title_fontsize=8, loc="lower right", bbox_to_anchor=(0.93, 0)
    )
    return figure


def days(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """Days for 90 passes over 1.2 million images: measured here, solid; the paper's five to six, shaded."""
    table = tables["scaling"]
    table = table[(table["source"] == "measured")].copy()
    label = table["backend"] + ", " + table["placement"] + ", batch " + table["batch"].astype(str)
    table["label"] = label + table["variant"].map(lambda name: "" if name == "two_column" else f", {name}")
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(table) + 1.3), layout="constrained")
    places = np.arange(len(table))
    colours = [PALETTE[name] for name in table["backend"]]
    axes.scatter(table["days"], places, c=colours, zorder=3)
    axes.hlines(places, table["days_low"], table["days_high"].replace(np.inf, np.nan), colors=colours)
    axes.axvspan(*PAPER_DAYS, color="0.8", label="paper: two GTX 580, five to six days")
    axes.set(
        xscale="log", xlabel="days, with the 95 % interval of the speed", yticks=places, yticklabels=table["label"]
    )
    axes.set_xlim(4, None)
    axes.xaxis.set_major_locator(FixedLocator([5, 10, 20, 30, 50, 100, 200, 500, 1000]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16))
    return figure


def kernels(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """conv1's kernels of each trained run, a row for each column ("GPU") of the network."""
    trained = runs.twins()
    shape = trained[0].tensors("features")["conv1.weight"].shape
    half = shape[0] // 2
    figure, axes = plt.subplots(
        2 * len(trained), 1, figsize=(10, 2.1 * len(trained)), layout="constrained", squeeze=False
    )
    for number, run in enumerate(trained):
        weight = run.tensors("features")["conv1.weight"]  # (maps, 3, rows, columns)
        for column in (0, 1):
            part = weight[column * half : (column + 1) * half].transpose(0, 2, 3, 1)
            low, high = (edge.reshape(-1, 1, 1, 1) for edge in (part.min((1, 2, 3)), part.max((1, 2, 3))))
            tiles = np.pad((part - low) / (high - low), ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=1)
            panel = axes[2 * number + column, 0]
            panel.imshow(np.concatenate(list(tiles), axis=1), interpolation="nearest")
            panel.set_title(f"{run.record.backend}, seed {run.record.seed}, column {column}", fontsize=9, loc="left")
            panel.axis("off")
    return figure


def recipes(tables: dict[str, pd.DataFrame], runs: Runs) -> Figure:
    """The loss of each interpretation of the recipe from the start, at full size."""
    colours = dict(zip(PRESETS, sns.color_palette("deep"), strict=False))
    table = tables["first_steps"].copy()
    table["smooth"] = table.groupby(["preset", "backend"])["loss"].transform(
        lambda losses: losses.rolling(16, min_periods=1).mean()
    )
    backends = sorted(table["backend"].unique(), reverse=True)
    figure, axes = plt.subplots(
        1, len(backends), figsize=(5 * len(backends), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    for panel, backend in zip(axes[0], backends, strict=True):
        own = table[table["backend"] == backend]
        there = [preset for preset in PRESETS if (own["preset"] == preset).any()]
        sns.lineplot(own, x="step", y="smooth", hue="preset", hue_order=there, ax=panel, palette=colours)
        # A reading that diverges leaves the frame at the top.
        panel.set(title=backend, xlabel="step of 16 images", ylabel="training loss, mean of 16 steps", ylim=(0, 8))
        panel.legend(frameon=False, title="")
    return figure


FIGURES: dict[str, tuple[str, Callable[[dict[str, pd.DataFrame], Runs], Figure]]] = {
    "training": ("Loss and error of both backends on photographs, the same seed and samples.", training),
    "parity": ("Every quantity's distance from the oracle and between backends, as a share of its tolerance.", parity),
    "recipes": (
        "The full-size network's first steps, by interpretation of the recipe; one that diverges leaves the frame.",
        recipes,
    ),
    "memory": ("Memory by kind and device: measured at batch 32; modelled at batch 128 against 3 GiB.", memory),
    "days": ("Days to train 90 passes over 1.2 million images, measured on this machine's processor.", days),
    "kernels": (
        "conv1's kernels in both columns, each scaled to its own range. Shown, not scored: see claim specialise.",
        kernels,
    ),
}


def draw(folder: Path, tables: dict[str, pd.DataFrame], runs: Runs) -> list[str]:
    """Draw every figure there is data for to ``folder``; return their names."""
    needs = {
        "training": "colour_bar",
        "parity": "parity",
        "memory": "memory",
        "days": "scaling",
        "kernels": "colour_bar",
        "recipes": "first_steps",
    }
    drawn = []
    with sns.axes_style("whitegrid"):
        for name, (_, function) in FIGURES.items():
            if tables[needs[name]].empty:
                continue
            figure = function(tables, runs)
            save(figure, folder / f"{name}.png")
            drawn.append(name)
    return drawn

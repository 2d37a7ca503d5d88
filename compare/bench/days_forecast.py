"""Days to train on more devices, or on other cards, by the step model; and what connecting the columns costs there.

A card is taken to reach the same shares of its published rates as a core of this machine reached of its measured ones.
Its band goes from all of what is published to the share that the paper's six days come to on two GTX 580.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

from compare.bench.step_model import Rates, Setting, parts, seconds
from compare.style import PALETTE, save
from paper.architecture import network
from paper.cards import CARDS, Card
from paper.cost import layer_train_flops
from paper.days import PAPER_DAYS, days, needed_share_of_peak
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.placement.cuts import cut_evenly

Row = dict[str, Any]
COLUMNS = ("backend", "card", "placement", "devices", "batch", "images_per_second", "days", "days_low", "days_high")
PATTERN_COLUMNS = ("backend", "variant", "card", "link", "share")
PLACEMENTS = (
    *("single", "columns", "columns=2,replicas=2", "columns=2,replicas=4"),
    *(f"{axis}={count}" for axis in ("stages", "replicas") for count in (2, 4, 8)),
)
PATTERNS = ("no_crossing", "two_column", "cross_everywhere")
LINKS = {"GTX 580 3 GB": (1e9, 4e9, 8e9, 16e9)}
BATCH = 128
FORECAST = next(name for name, backend in BACKENDS.items() if not backend.takes_turns)  # drawn on cards
HERE = "a core of this machine"


def setting(placement: str, backend: str, variant: str = "two_column") -> Setting:
    """The network on devices of one thread, stages cut where the operations are even."""
    net = network(variant, PRESETS["paper"])
    found = Setting(net, placement, BATCH, BATCH, 1, added_up=BACKENDS[backend].adds_up)
    stages = found.grid.stages
    if stages > 1:
        runs = cut_evenly(net.layers, [layer_train_flops(net, layer) for layer in net], stages)
        size = BACKENDS[backend].micro_batches.size(stages, BATCH)
        found = replace(found, cut=tuple(layers[0].name for layers in runs), micro_batch=size)
    return found


def of_card(card: Card, flops_share: float, bytes_share: float) -> Rates:
    return Rates(1 / (card.flops * flops_share), 1 / (card.bandwidth * bytes_share), 1 / card.link)


def rows(fitted: dict[str, Rates], core: tuple[float, float], off: dict[str, float]) -> list[Row]:
    """The rows of ``forecast.csv`` (modelled).

    ``core``: operations and bytes a second that a core has at the most. ``off``: for each backend, how many times too
    long or too short the worst prediction of what was held out was; its band on this machine.
    """
    lowest = needed_share_of_peak(max(PAPER_DAYS))
    found = []
    for backend, rates in fitted.items():
        shares = _shares(rates, core)
        for placement in PLACEMENTS:
            one = setting(placement, backend)
            if not BACKENDS[backend].takes_turns:
                took = seconds(one, rates)
                found.append(_row(backend, HERE, one, took, took / off[backend], took * off[backend]))
            for card in CARDS:
                spread = [of_card(card, *shares), of_card(card, 1.0, 1.0), of_card(card, lowest, lowest)]
                found.append(_row(backend, card.name, one, *(seconds(one, each) for each in spread)))
    return found


def _shares(rates: Rates, core: tuple[float, float]) -> tuple[float, float]:
    """Of a core's operations and bytes a second, the shares that a backend reaches."""
    return 1 / rates.per_flop / core[0], 1 / rates.per_byte / core[1]


def _row(backend: str, card: str, one: Setting, took: float, least: float, most: float) -> Row:
    return {
        "backend": backend,
        "card": card,
        "placement": one.placement,
        "devices": one.grid.devices,
        "batch": BATCH,
        "images_per_second": BATCH / took,
        "days": days(BATCH / took),
        "days_low": days(BATCH / least),
        "days_high": days(BATCH / most),
    }


def patterns(fitted: dict[str, Rates], core: tuple[float, float]) -> list[Row]:
    """The rows of ``patterns.csv``: the share of a step of two devices that goes into crossing (modelled)."""
    found = []
    for backend, rates in fitted.items():
        for card in CARDS:
            for link in LINKS.get(card.name, (card.link,)):
                for variant in PATTERNS:
                    there = of_card(replace(card, link=link), *_shares(rates, core))
                    spent = parts(setting("columns", backend, variant), there)
                    share = spent["crossing"] / sum(spent.values())
                    found.append(
                        {"backend": backend, "variant": variant, "card": card.name, "link": link, "share": share}
                    )
    return found


def draw(forecast: pd.DataFrame, measured: pd.DataFrame, pattern: pd.DataFrame, path: Path) -> None:
    """Days against devices: solid what was measured here, dashed the model with its band; and what crossing costs.

    ``measured``: backend, cores in use, days.
    """
    machine, gtx = forecast[forecast["card"] == HERE], forecast[forecast["card"] == CARDS[0].name]
    with sns.axes_style("whitegrid"):
        figure, (here, there, share) = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
        for panel, table, title in ((here, machine, "cores of this machine"), (there, gtx, CARDS[0].name)):
            for (backend, axis), group in table.groupby(["backend", table["placement"].str.partition("=")[0]]):
                if axis == "single" or (panel is there and backend != FORECAST):
                    continue
                style = {"columns": "o", "stages": "s", "replicas": "^"}[axis]
                group = group.sort_values("devices")
                panel.plot(
                    *(group["devices"], group["days"]),
                    **{"color": PALETTE[backend], "linestyle": "--", "marker": style, "fillstyle": "none"},
                    label=f"{backend} {axis}, modelled",
                )
                panel.fill_between(
                    group["devices"], group["days_low"], group["days_high"], color=PALETTE[backend], alpha=0.07
                )
            panel.axhspan(*PAPER_DAYS, color="0.8", label="paper: five to six days")
            panel.set(
                xscale="log",
                yscale="log",
                title=title,
                xlabel="cores" if panel is here else "cards",
                ylabel="days to train",
            )
            for scale, places in ((panel.xaxis, [1, 2, 4, 8]), (panel.yaxis, [1, 2, 5, 10, 20, 50, 100])):
                scale.set_major_locator(FixedLocator(places))
                scale.set_major_formatter(ScalarFormatter())
                scale.set_minor_locator(NullLocator())
        for backend, group in measured.groupby("backend"):
            here.plot(group["cores"], group["days"], "o", color=PALETTE[backend], label=f"{backend}, measured")
        here.legend(frameon=False, fontsize=7)
        there.legend(frameon=False, fontsize=7)
        slow = pattern[(pattern["card"] == CARDS[0].name) & (pattern["backend"] == FORECAST)].assign(
            link=lambda table: (table["link"] / 1e9).map("{:g} GB/s".format)
        )
        sns.barplot(slow, x="variant", y="share", hue="link", ax=share, palette="crest")
        share.set(title="crossing, of a step on two GTX 580 (modelled)", xlabel="", ylabel="")
        share.yaxis.set_major_formatter(PercentFormatter(1.0))
        save(figure, path)

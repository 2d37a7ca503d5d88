"""Who computed, waited and sent when in a pipeline's step, and how much of it was idle."""

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from compare.style import save
from protocol.placement.grid import Grid

COLUMNS = ("backend", "placement", "precision", "micro_batches", "stages", "idle", "idle_of_even_stages", "busiest")
COLOURS = {
    "forward": "#31572c",
    "backward": "#90a955",
    "update": "#f2a65a",
    "data": "#0b6e99",
    "send": "#c8553d",
    "receive": "#e6c9c2",
}
COMPUTING = ("forward", "backward", "update")


def rows(timeline: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each pipeline.

    ``idle``: the share of all stages' time in which they did not compute; ``idle_of_even_stages``: what it would be,
    (p - 1) / (m + p - 1), if all of p stages took as long and sending took none; ``busiest``: the share of the step in
    which the stage with the most to do computed.
    """
    found = []
    for (backend, placement, precision, count), group in timeline.groupby(
        ["backend", "placement", "precision", "micro_batches"], sort=False
    ):
        stages = Grid.parse(placement).stages
        if stages == 1:
            continue
        span = (group["start"] + group["seconds"]).max() - group["start"].min()
        busy = group[group["doing"].isin(COMPUTING)].groupby("device")["seconds"].sum()
        found.append(
            {
                "backend": backend,
                "placement": placement,
                "precision": precision,
                "micro_batches": count,
                "stages": stages,
                "idle": 1 - busy.sum() / (len(busy) * span),
                "idle_of_even_stages": (stages - 1) / (count + stages - 1),
                "busiest": busy.max() / span,
            }
        )
    return found


def sentences(table: pd.DataFrame) -> list[str]:
    return [
        f"{row['backend']} {row['placement']} {row['precision']}, {row['micro_batches']} micro-batches: "
        f"{row['idle']:.1%} of the stages' "
        f"time is idle, where even stages would idle {row['idle_of_even_stages']:.1%}; the busiest computes for "
        f"{row['busiest']:.1%} of the step."
        for row in table.to_dict("records")
    ]


def draw(timeline: pd.DataFrame, path: Path) -> None:
    """A line for each stage of each pipeline, coloured by what it does."""
    pipelines = timeline[[Grid.parse(placement).stages > 1 for placement in timeline["placement"]]]
    groups = list(pipelines.groupby(["backend", "placement", "precision"], sort=False))
    with sns.axes_style("white"):
        figure, panels = plt.subplots(
            len(groups), 1, figsize=(10, 0.9 + 1.5 * len(groups)), layout="constrained", squeeze=False
        )
        for panel, (name, group) in zip(panels[:, 0], groups, strict=True):
            devices = sorted(group["device"].unique())
            for row in group.to_dict("records"):
                place = devices.index(row["device"])
                panel.broken_barh([(row["start"], row["seconds"])], (place - 0.4, 0.8), color=COLOURS[row["doing"]])
            panel.set(yticks=range(len(devices)), yticklabels=devices)
            count = group["micro_batches"].iloc[0]
            panel.set_title(f"{' '.join(name)}: one step of {count} micro-batches", loc="left")
            panel.invert_yaxis()
        panels[-1, 0].set_xlabel("seconds")
        handles = [Patch(color=colour, label=doing) for doing, colour in COLOURS.items()]
        figure.legend(handles=handles, ncols=len(handles), loc="outside lower center", frameon=False)
        save(figure, path)

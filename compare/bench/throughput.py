"""Images a second of every placement, beside its peers and what the machine can do at the most."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from compare.bench import days_forecast, layer_times, memory_forecast, pipeline, step_model
from compare.bench.measure import BASELINE, PEERS
from compare.load import read_csv
from compare.style import PALETTE, save
from paper.architecture import Network, network
from paper.cost import activations_moved, layer_train_flops, train_flops, weights_moved
from paper.days import days
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.base.tables import write_table
from protocol.placement.grid import Grid

Row = dict[str, Any]
COLUMNS = (
    *("backend", "placement", "precision", "batch", "threads", "images_per_second", "low", "high", "peer"),
    *("ratio_to_peer", "fraction_of_limit"),
)
ROOF_COLUMNS = ("layer", "flops", "bytes", "seconds", "bound")
PHASE_COLUMNS = ("backend", "placement", "precision", "device", "phase", "seconds")
KEYS = ["backend", "placement", "variant", "precision"]
WIDTH = 4  # bytes
RATE_COLUMNS = ("backend", "per_flop", "per_byte", "per_crossing_byte", "threads_gain")


def trained_network() -> Network:
    """The network that all of them train."""
    return network(BASELINE, PRESETS["paper"])


def speeds(samples: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """A row for each placement and each peer at its best number of threads.

    ``low`` and ``high`` are the slowest and the fastest round's medians.
    """
    found = []
    flops = train_flops(trained_network())
    samples = samples[samples["variant"] == BASELINE]
    for (backend, placement, precision, batch), group in samples.fillna("").groupby(
        ["backend", "placement", "precision", "batch"], sort=False
    ):
        # The first round tried more of them than went on.
        rounds_of = group.groupby("threads")["repeat"].nunique()
        tried = group[group["threads"].isin(rounds_of[rounds_of == rounds_of.max()].index)]
        threads = tried.groupby("threads")["seconds"].median().idxmin()
        own = group[group["threads"] == threads]
        rounds = batch / own.groupby("repeat")["seconds"].median()
        middle = batch / own["seconds"].median()
        found.append(
            {
                "backend": backend,
                "placement": placement,
                "precision": precision,
                "batch": batch,
                "threads": threads,
                "images_per_second": middle,
                "low": rounds.min(),
                "high": rounds.max(),
                "fraction_of_limit": middle * flops / limits[precision].median(),
            }
        )
    return pd.DataFrame(found)


def rows(samples: pd.DataFrame, limits: pd.DataFrame) -> list[Row]:
    """The rows of ``throughput.csv``: ours once for each peer, then the peers."""
    measured = speeds(samples, limits)
    is_peer = measured["backend"].isin(list(PEERS))
    peers = measured[is_peer].set_index(["backend", "precision"])["images_per_second"]
    ours = [
        # Peers that were not timed in a precision stand in it as they are in float32.
        {**row, "peer": peer, "ratio_to_peer": row["images_per_second"] / own.get(row["precision"], own.get("fp32"))}
        for row in measured[~is_peer].to_dict("records")
        for peer, own in peers.groupby(level=0, sort=False)
        for own in [own.droplevel(0)]
    ]
    return [*ours, *measured[is_peer].to_dict("records")]


def roofline(limits: pd.DataFrame, batch: int) -> list[Row]:
    """Each layer's least time in a step, in seconds, and whether arithmetic or memory sets it (modelled).

    Layers are carried out one after the other, each reading and writing whole tensors of float32.
    """
    flops_per_second, bytes_per_second = limits["fp32"].median(), limits["copy"].median()
    net, found = trained_network(), []
    for layer in net:
        flops = batch * layer_train_flops(net, layer)
        moved = WIDTH * (batch * activations_moved(net, layer) + weights_moved(net, layer))
        arithmetic, memory = flops / flops_per_second, moved / bytes_per_second
        found.append(
            {
                "layer": layer.name,
                "flops": flops,
                "bytes": moved,
                "seconds": max(arithmetic, memory),
                "bound": "arithmetic" if arithmetic > memory else "memory",
            }
        )
    return found


def phases(samples: pd.DataFrame) -> list[Row]:
    """The median over steps of what each device spends in each phase."""
    keys = ["backend", "placement", "precision", "device", "phase"]
    return samples.groupby(keys, sort=False)["seconds"].median().reset_index().to_dict("records")


def sentences(folder: Path) -> list[str]:
    """What the figures come to."""
    throughput, roofs = read(folder)
    batch = int(throughput["batch"].iloc[0])
    whole = batch / roofs["seconds"].sum()
    memory = roofs.loc[roofs["bound"] == "memory", "seconds"].sum() / roofs["seconds"].sum()
    found = [
        f"The machine's matrix products and copies allow {whole:.0f} images/s for this layer table at batch {batch}, "
        f"layer by layer and unfused (modelled), where layers that memory bounds take {memory:.0%} of the time."
    ]
    best = throughput[throughput["peer"].notna()].sort_values("images_per_second", ascending=False)
    for (backend, precision), group in best.groupby(["backend", "precision"], sort=True):
        placement = group["placement"].iloc[0]
        own = group[group["placement"] == placement]
        ratios = ", ".join(f"{row['ratio_to_peer']:.2f} times {row['peer']} in fp32" for row in own.to_dict("records"))
        found.append(
            f"{backend} in {precision} is fastest in placement {placement}, {own['images_per_second'].iloc[0]:.0f} "
            f"images/s, {own['fraction_of_limit'].iloc[0]:.0%} of what matrix products alone allow: {ratios}."
        )
    if "bf16" not in throughput["precision"].to_numpy():
        found.append("The processor has no bfloat16 of its own, so nothing was timed in it.")
    found += _stages_beside_columns(best)
    found += layer_times.sentences(read_csv(folder / "layers.csv"))
    found += pipeline.sentences(read_csv(folder / "pipeline.csv"))
    found += [_fed(folder), _accounted(read_csv(folder / "memory.csv"))]
    return [*found, step_model.sentence(read_csv(folder / "step_model.csv"))]


def _stages_beside_columns(ours: pd.DataFrame) -> list[str]:
    """How near pipeline stages come to the paper's way of using two devices."""
    own = ours[ours["precision"] == "fp32"].drop_duplicates(["backend", "placement"])
    speed = own.pivot(index="backend", columns="placement", values="images_per_second")
    if not {"stages", "columns"} <= set(speed.columns):
        return []
    shares = (speed["stages"] / speed["columns"]).dropna()
    return [f"{backend} stages reach {share:.0%} of its columns' speed in fp32." for backend, share in shares.items()]


def _fed(folder: Path) -> str:
    """How fast images come, and how long training waits for them."""
    feeds = read_csv(folder / "feed.csv").groupby(["backend", "augmented_by"], sort=False, dropna=False)
    speeds = feeds["images_per_second"].median()
    samples = read_csv(folder / "phase_samples.csv")
    waiting = samples[samples["phase"] == "data"].groupby([*KEYS, "device"])["seconds"].median()
    samples = read_csv(folder / "samples.csv").fillna("")
    most = samples.groupby(KEYS)["threads"].transform("max")
    steps = samples[samples["threads"] == most].groupby(KEYS)["seconds"].median()
    share = max(seconds / steps[key[:-1]] for key, seconds in waiting.items())
    fed = " and ".join(f"{speed:,.0f} (in {backend}'s environment, by {by})" for (backend, by), speed in speeds.items())
    return (
        f"One core augments {fed} images of 227 x 227 a second; no device waits for them for more than {share:.1%} of "
        "its median step."
    )


def _accounted(memory: pd.DataFrame) -> str:
    """How far the frameworks' allocations are from the prediction."""
    total = memory[memory["kind"] == "total"]
    off = (total["predicted_bytes"] / total["measured_bytes"] - 1).abs()
    worst = total.loc[off.idxmax()]
    return (
        f"Each device's memory, predicted from the layer table alone, is within {off.max():.1%} of what its framework "
        f"allocated beside the libraries' workspace, on {len(total)} devices in all placements, widths and precisions "
        f"(the furthest: {worst['backend']} {worst['placement']} {worst['variant']} {worst['precision']}, "
        f"{worst['device']})."
    )


def write(folder: Path) -> None:
    """Write the tables and the plot that follow from ``folder``'s samples."""
    samples, limits = read_csv(folder / "samples.csv"), read_csv(folder / "limit.csv")
    found = rows(samples, limits)
    write_table(folder / "throughput.csv", COLUMNS, found)
    write_table(folder / "roofline.csv", ROOF_COLUMNS, roofline(limits, found[0]["batch"]))
    layers = layer_times.rows(read_csv(folder / "layer_samples.csv"), read_csv(folder / "roofline.csv"))
    write_table(folder / "layers.csv", layer_times.COLUMNS, layers)
    layer_times.draw(pd.DataFrame(layers), folder / "layers.png")
    write_table(folder / "phases.csv", PHASE_COLUMNS, phases(read_csv(folder / "phase_samples.csv")))
    timeline = read_csv(folder / "timeline.csv")
    write_table(folder / "pipeline.csv", pipeline.COLUMNS, pipeline.rows(timeline))
    pipeline.draw(timeline, folder / "timeline.png")
    draw(folder)
    write_table(folder / "ledger.csv", memory_forecast.LEDGER_COLUMNS, memory_forecast.ledger(samples))
    write_table(folder / "largest_batch.csv", memory_forecast.BATCH_COLUMNS, memory_forecast.largest_batches(samples))
    _forecast(folder, samples, limits)


def _forecast(folder: Path, samples: pd.DataFrame, limits: pd.DataFrame) -> None:
    """Fit the step model, and write what it says of other machines."""
    modelled, fitted = step_model.rows(samples, limits)
    write_table(folder / "step_model.csv", step_model.COLUMNS, modelled)
    rates = [{"backend": backend, **asdict(found)} for backend, found in fitted.items()]
    write_table(folder / "rates.csv", RATE_COLUMNS, rates)
    cores = samples["threads"].max()
    core = (limits["fp32"].median() / cores, limits["copy"].median() / cores)
    table = pd.DataFrame(modelled)
    held_out = table[table["role"] == "held out"]
    off = np.exp(np.log1p(held_out["off"]).abs().groupby(held_out["backend"]).max()).to_dict()
    forecasts = days_forecast.rows(fitted, core, off)
    write_table(folder / "forecast.csv", days_forecast.COLUMNS, forecasts)
    patterns = days_forecast.patterns(fitted, core)
    write_table(folder / "patterns.csv", days_forecast.PATTERN_COLUMNS, patterns)
    measured = table[table["variant"] == BASELINE]
    devices = [
        1 if BACKENDS[backend].takes_turns else Grid.parse(placement).devices
        for backend, placement in zip(measured["backend"], measured["placement"], strict=True)
    ]
    points = measured.assign(cores=devices * measured["threads"], days=days(measured["batch"] / measured["seconds"]))
    days_forecast.draw(pd.DataFrame(forecasts), points, pd.DataFrame(patterns), folder / "forecast.png")


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Throughput and roofline."""
    return read_csv(folder / "throughput.csv"), read_csv(folder / "roofline.csv")


def draw(folder: Path) -> None:
    """Images a second of each, slowest to fastest round; dashed: what the machine's limits allow in fp32."""
    throughput, roofs = read(folder)
    table = throughput.drop_duplicates(["backend", "placement", "precision"]).fillna({"placement": ""})
    table = table.sort_values("images_per_second", ascending=False)
    table["precision"] = table["precision"].replace("fp32", "")
    labels = table[["backend", "placement", "precision"]].agg(" ".join, axis=1).str.strip()
    colours = [PALETTE.get(name, "0.6") for name in table["backend"]]
    with sns.axes_style("whitegrid"):
        figure, axes = plt.subplots(figsize=(8, 0.36 * len(table) + 1.3), layout="constrained")
        axes.barh(labels, table["images_per_second"], color=colours)
        spread = [
            table["images_per_second"] - table["low"],
            table["high"] - table["images_per_second"],
        ]
        axes.errorbar(table["images_per_second"], labels, xerr=np.maximum(spread, 0), fmt="none", ecolor="0.2")
        best = table[table["precision"] == ""].iloc[0]
        for speed, text in (
            (best["images_per_second"] / best["fraction_of_limit"], "fp32 matrix products alone"),
            (best["batch"] / roofs["seconds"].sum(), "with memory, layer by layer"),
        ):
            axes.axvline(speed, color="0.3", linestyle="--", linewidth=1)
            axes.text(speed, 0.02, text, transform=axes.get_xaxis_transform(), rotation=90, ha="right", fontsize=7)
        axes.set(xlabel=f"images/s, full size, batch {best['batch']}")
        axes.invert_yaxis()
        save(figure, folder / "throughput.png")

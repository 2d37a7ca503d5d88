"""The four interpretations of the recipe: how they differ, what of the image their logits show, how they train."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from compare.load import RunFolder, Runs
from paper.architecture import Conv, Network, network
from paper.recipe import ALL_MAPS, LAYERS, PRESETS, STANDARD_ORDER, Preset
from protocol.oracle.quantities import READINGS, TAKEN, centred

CURVES = "recipes"  # the case that trains every preset from the start


def differences() -> list[dict[str, Any]]:
    """A row for each fact that the presets do not share: the fact, and each preset's reading of it."""
    found = {name: _facts(preset, network("two_column", preset)) for name, preset in PRESETS.items()}
    facts = next(iter(found.values()))
    rows = [{"fact": fact, **{name: own[fact] for name, own in found.items()}} for fact in facts]
    return [row for row in rows if len({row[name] for name in PRESETS}) > 1]


def _facts(preset: Preset, table: Network) -> dict[str, str]:
    """What a preset says, in words."""
    norm, order = preset.norm, preset.order or STANDARD_ORDER
    first = next(layer for layer in table if isinstance(layer, Conv))
    facts = {
        "source": preset.source,
        "input": f"{first.shape_in[1]} pixels, conv1 sized by {'ceil' if first.pad_end else 'floor'}",
        "after conv1": ", ".join(order["conv1"]),
        "after conv2": ", ".join(order["conv2"]),
        "norm: what multiplies the sum": f"{norm.sum_scale:g}",
        "norm: k": f"{norm.k:g}",
        "norm: window": "all of a layer's maps" if norm.window == ALL_MAPS else "a column's own maps",
    }
    for layer in LAYERS:
        facts[f"initial deviation, {layer}"] = f"{preset.deviation[layer]:g}"
    facts["biases that do not start at 0"] = f"{', '.join(sorted(preset.ones))}: {preset.bias_start:g}"
    facts["rate of biases"] = f"{preset.bias_rate:g} times the weights'"
    facts["decay of biases"] = "yes" if preset.bias_decay else "no"
    facts["dropout"] = "doubled in training" if preset.inverted_dropout else "halved at test"
    facts["conv3 reads"] = f"{next(layer for layer in table.weighted() if layer.name == 'conv3').weight_shape[1]} maps"
    return facts


def signal(runs: Runs) -> list[dict[str, Any]]:
    """Which share of the logits depends on the image at step 0, at full size, by interpretation and backend."""
    return [row for run in runs.of("parity") if run.record.case["size"] == "full" for row in _signal(run)]


def _signal(run: RunFolder) -> Iterator[dict[str, Any]]:
    kept = run.tensors("probe")
    for reading in TAKEN:
        logits = kept.get(f"{reading}.test.start")
        if logits is None:
            continue
        logits = logits.astype(np.float64)
        yield {
            "preset": run.record.case["preset"],
            "deviations": run.record.case["deviations"] or run.record.case["preset"],
            "variant": run.variant,
            "backend": run.record.backend,
            "placement": run.record.placement,
            "precision": READINGS[reading].precision,
            "share": float(np.linalg.norm(centred(logits)) / np.linalg.norm(logits)),
            "evidence": run.name,
        }


def curves(runs: Runs) -> list[dict[str, Any]]:
    """Losses of the first few hundred steps at full size."""
    return [
        {"preset": run.record.case["preset"], "backend": run.record.backend, "placement": run.record.placement, **row}
        for run in (*runs.of("train", case=CURVES), *(run for run in runs.diverged if run.case == CURVES))
        for row in run.table("steps")[["step", "loss"]].to_dict("records")
    ]


def sentences(table: pd.DataFrame, losses: pd.DataFrame) -> list[str]:
    """What the signal and the first losses come to, from their figures."""
    found = []
    single = table[(table["variant"] == "two_column") & (table["precision"] == "fp32")]
    for (preset, deviations), group in single.groupby(["preset", "deviations"], sort=False):
        whose = preset if preset == deviations else f"{preset} with {deviations}'s deviations"
        low, high = group["share"].min(), group["share"].max()
        found.append(f"{whose}: {low:.2%} of the logits' size depends on the image at step 0 ({_span(low, high)}).")
    for preset, group in losses.groupby("preset", sort=False):
        ends = group[group["step"] > group["step"].max() - 32].groupby("backend")["loss"].mean()
        first = group[group["step"] == 0]["loss"].mean()
        last = ", ".join(f"{loss:.2f} ({backend})" for backend, loss in ends.items() if np.isfinite(loss))
        lost = " and ".join(str(backend) for backend, loss in ends.items() if not np.isfinite(loss))
        goes = " and ".join([f"goes to {last}"] * bool(last) + [f"diverges in {lost}"] * bool(lost))
        found.append(f"{preset}: from {first:.2f} the loss {goes} within {group['step'].max() + 1} steps.")
    return found


def _span(low: float, high: float) -> str:
    return "both backends and all placements alike" if np.isclose(low, high, rtol=1e-3) else f"up to {high:.2%}"

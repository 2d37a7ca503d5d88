"""The ladder: do the backends carry out one network? Rung by rung, each resting on the one before.

counts       parameters on each device
draws        the random numbers of the experiment are spread as the paper says
start        initial weights on the devices
data         images and labels that reach the network
forward      every layer's output
loss         logits and loss
gradients    every parameter's
update       momentum and weights after updates across a rate drop
test         without dropout, one view and ten
figures      the errors that are reported, counted once more
resume       a run that was stopped and went on in another placement or backend, across a rate drop and an epoch's end
pair         two backends or placements, without the oracle between them
trajectory   the losses of the first steps
accuracy     at the end of training, over seeds
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from compare.load import RunFolder, Runs
from compare.tables import COLUMNS
from paper.cost import column_parameters, parameters
from protocol.backends import BACKENDS
from protocol.experiment.cases import ACCURACY_MARGIN, find_case, what
from protocol.oracle.quantities import FIGURES, LOWERED, READINGS, RESUMED, centred, is_asked
from protocol.placement.grid import Grid

Row = dict[str, Any]
RUNGS = (
    "counts",
    "draws",
    "start",
    "data",
    "forward",
    "loss",
    "gradients",
    "update",
    "test",
    "figures",
    "resume",
    "pair",
    "trajectory",
    "accuracy",
)
RUNG_OF_KIND = {
    "draws": "draws",
    "start": "start",
    "images": "data",
    "labels": "data",
    "forward": "forward",
    "logits": "loss",
    "gradient": "gradients",
    "backward": "gradients",
    "step": "update",
    "weight": "update",
    "momentum": "update",
    "test": "test",
    "report": "figures",
}
BACKWARDS = ("gradient", "backward")  # of which a layer's rests on those above it
LATE = ("weight", "momentum")  # rest on the losses before them
KINDS = (*(kind for kind in RUNG_OF_KIND if kind not in LATE), "loss", *LATE, *FIGURES)
TESTS = ("start", "1", "10")
ALL = {**READINGS, RESUMED.name: RESUMED}
LEVEL = 0.05  # of each of the two one-sided tests


def rows(runs: Runs) -> list[Row]:
    """The rows of ``parity.csv``, run by run, in the order of the rungs and, within one, of cause and effect."""
    return [
        *_counts(runs),
        *_draws(runs),
        *_against_oracle(runs),
        *_between(runs),
        *_trajectories(runs),
        *_accuracies(runs),
    ]


def table(found: list[Row]) -> pd.DataFrame:
    """The rows as ``parity.csv`` has them."""
    return pd.DataFrame(found, columns=list(COLUMNS["parity"]))


def rung_of(quantity: str, reading: str = "") -> str:
    """The rung that a quantity of :mod:`protocol.oracle.quantities` belongs to."""
    kind, _, rest = quantity.partition(".")
    if reading == RESUMED.name:
        return "resume"
    if kind == "loss":
        return "loss" if rest == "0" else "update"
    return RUNG_OF_KIND[kind]


def first_divergence(table: pd.DataFrame) -> dict[str, Any] | None:
    """The first row of ``parity.csv`` that does not agree, lowest rung first; None when all agree."""
    failing = table[~table["agrees"].astype(bool)] if not table.empty else table
    if failing.empty:
        return None
    lowest = failing["rung"].map(RUNGS.index)
    return failing.loc[lowest.idxmin()].to_dict()


def _row(run: RunFolder, rung: str, quantity: str, right: str, difference: float, tolerance: float, where: str) -> Row:
    return {
        "rung": rung,
        "quantity": quantity,
        "left": run.title,
        "right": right,
        "preset": run.record.case["preset"],
        "precision": run.record.precision,
        "difference": _brief(difference),
        "tolerance": _brief(tolerance),
        "agrees": bool(difference <= tolerance),
        "where": where,
        "reading": "",
        "case": run.case,
        "variant": run.variant,
        "evidence": run.name,
    }


def _brief(value: float) -> float:
    """As many digits as say something of a distance; whether it is within its tolerance is decided by all of them."""
    return float(f"{value:.5g}")


def _counts(runs: Runs) -> Iterator[Row]:
    """Parameters on each device against the table's."""
    for run in (*runs.of("bench"), *runs.of("parity")):
        held, grid = run.record.parameters, Grid.parse(run.record.placement)
        whole = parameters(run.network)
        expected = {"total": whole * grid.replicas}
        found = {"total": sum(held.values())} | held
        if grid.stages == 1 and grid.devices > 1:
            # Columns count fastest, so every replica's devices stand together.
            each = column_parameters(run.network) if grid.columns > 1 else [whole]
            expected |= dict(zip(held, each * grid.replicas, strict=True))
        for device, count in expected.items():
            difference = abs(found[device] - count)
            yield _row(run, "counts", f"parameters, {device}", "layer table", difference, 0, f"{found[device]:,}")


def oracles(runs: Runs) -> dict[str, RunFolder]:
    """The oracle's runs by plan hash: only runs of one experiment have a common truth."""
    return {run.record.plan_hash: run for run in runs.of("oracle")}


def _bounds(oracle: RunFolder) -> pd.DataFrame:
    """The oracle's tolerances by reading and quantity."""
    return oracle.table("tolerances").set_index(["reading", "quantity"])


def _draws(runs: Runs) -> Iterator[Row]:
    for run in runs.of("oracle"):
        if not run.has("tolerances.csv"):
            continue
        for quantity, found in _bounds(run).loc["draws"].iterrows():
            where = "" if pd.isna(found["where"]) else found["where"]
            yield _row(run, "draws", str(quantity), "paper", found["difference"], found["tolerance"], where)


def _place(run: RunFolder, reading: str, quantity: str) -> tuple[int, int, int]:
    """Where a quantity stands on the ladder: its rung, its kind, and its layer's place there.

    A layer's gradient rests on those of the layers above it; later losses and weights rest on the first step.
    """
    order = [layer.name for layer in run.network]
    kind, _, rest = quantity.partition(".")
    name = rest.partition(".")[0]
    place = order.index(name) if name in order else TESTS.index(rest) if kind == "test" else 0
    return RUNGS.index(rung_of(quantity, reading)), KINDS.index(kind), -place if kind in BACKWARDS else place


def _against_oracle(runs: Runs) -> Iterator[Row]:
    truths = oracles(runs)
    held = [run for run in runs.of("train") if run.has("ladder.csv")]
    for run in (*runs.of("parity"), *held):
        truth = truths.get(run.record.plan_hash)
        if truth is None:
            continue
        bounds = _bounds(truth)["tolerance"].drop("draws", level="reading")
        found = {(row["reading"], row["quantity"]): row for row in run.table("ladder").to_dict("records")}
        taken = run.record.result.get("readings", [reading for reading, _ in found])
        # What the oracle bounds and the run does not tell is as far off as can be.
        expected = [key for key in bounds.index if key[0] in taken and is_asked(key[1], ALL[key[0]])]
        order = list(ALL)
        # What stands at one place of the ladder keeps the order it was seen in.
        for key in sorted(
            dict.fromkeys([*found, *expected]), key=lambda key: (order.index(key[0]), *_place(run, *key))
        ):
            reading, quantity = key
            row = found.get(key, {"difference": float("inf"), "where": "not measured"})
            where = "" if pd.isna(row["where"]) else row["where"]
            tolerance = bounds.get(key, 0.0)
            made = _row(run, rung_of(quantity, reading), quantity, "oracle", row["difference"], tolerance, where)
            yield {**made, "reading": reading, "precision": ALL[reading].precision}


def _between(runs: Runs) -> Iterator[Row]:
    """Pairs of runs of one experiment, from the samples each kept.

    Two that are each within the oracle's tolerance may differ by twice that.
    """
    truths = oracles(runs)
    parity = [run for run in runs.of("parity") if run.record.plan_hash in truths]
    for left, right in combinations(parity, 2):
        if left.record.plan_hash != right.record.plan_hash:
            continue
        bounds = _bounds(truths[left.record.plan_hash])["tolerance"]
        mine, other = left.tensors("probe"), right.tensors("probe")
        for name in sorted(set(mine) & set(other)):
            reading, _, quantity = name.partition(".")
            if reading in LOWERED:
                continue
            if quantity != "logits" and not quantity.startswith(("gradient.", "test.")):
                continue
            a, b = mine[name].astype(np.float64), other[name].astype(np.float64)
            if not quantity.startswith("gradient."):
                a, b = centred(a), centred(b)
            difference = float(np.linalg.norm(a - b) / np.linalg.norm(b))
            row = _row(left, "pair", quantity, right.title, difference, 2 * bounds[reading, quantity], "sampled")
            yield {**row, "reading": reading, "precision": READINGS[reading].precision}


def _trajectories(runs: Runs) -> Iterator[Row]:
    """The losses of a training run against the bounds that the oracle's perturbed runs set."""
    truths = oracles(runs)
    for run in runs.of("train"):
        truth = truths.get(run.record.plan_hash)
        if truth is None or not truth.has("envelope.csv") or not run.is_as_planned:
            continue
        bounds = truth.table("envelope").set_index("step")
        losses = run.table("steps").set_index("step")["loss"].reindex(bounds.index)
        # How far the loss is from the oracle's, as a share of how far it may be.
        share = ((losses - bounds["loss"]).abs() / (bounds["high"] - bounds["loss"])).fillna(float("inf"))
        worst = int(share.idxmax())
        quantity = f"loss of {len(bounds)} steps"
        yield _row(run, "trajectory", quantity, "oracle", float(share.max()), 1.0, f"step {worst}")


def _accuracies(runs: Runs) -> Iterator[Row]:
    """Equivalence of test errors over seeds, by two one-sided tests (Welch): of the backends', of bf16's and fp32's.

    The difference is the confidence interval's end that is farther from zero; it must be within the margin that the
    case states.
    """
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    first: dict[tuple[str, str], RunFolder] = {}
    asked = what(find_case("accuracy").content())
    for run in runs.of("train", case="accuracy", lowered=True):
        if what(run.record.case) == asked and run.is_as_planned:
            key = (run.record.backend, run.record.precision)
            first.setdefault(key, run)
            found.setdefault(key, {}).setdefault(run.record.seed, []).append(_error(run))
    pairs = list(combinations([(name, "fp32") for name in BACKENDS], 2))
    pairs += [((name, low), (name, "fp32")) for name, backend in BACKENDS.items() for low in backend.lowered]
    for left, right in pairs:
        if min(len(found.get(left, ())), len(found.get(right, ()))) < 2:
            continue
        # A seed counts once, however many placements carried it out.
        mine, other = ([np.mean(own) for own in found[key].values()] for key in (left, right))
        interval = stats.ttest_ind(mine, other, equal_var=False).confidence_interval(1 - 2 * LEVEL)
        farther = max(abs(interval.low), abs(interval.high))
        told = f"{len(mine)} and {len(other)} seeds, {100 * interval.low:+.1f} to {100 * interval.high:+.1f} points"
        right_title = " ".join(right)
        row = _row(first[left], "accuracy", "top-1 error", right_title, float(farther), ACCURACY_MARGIN, told)
        yield {**row, "left": " ".join(left)}


def _error(run: RunFolder) -> float:
    epochs = run.table("epochs")
    return float(epochs.loc[epochs["views"] == 1, "top1_error"].iloc[-1])

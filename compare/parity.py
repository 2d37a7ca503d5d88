"""Do the backends carry out one network? Every quantity against the oracle's, and against each other's."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from compare.load import RunFolder, Runs
from paper.cost import column_parameters, parameters
from protocol.probe import centred

Row = dict[str, Any]


def rows(runs: Runs) -> list[Row]:
    """The rows of ``parity.csv``: counts, distances from the oracle, distances between backends, trajectories."""
    return [*_counts(runs), *_against_oracle(runs), *_between(runs), *_trajectories(runs)]


def _row(run: RunFolder, rung: str, quantity: str, right: str, difference: float, tolerance: float, where: str) -> Row:
    return {
        "rung": rung,
        "quantity": quantity,
        "left": f"{run.record.backend} {run.record.placement}",
        "right": right,
        "preset": run.record.case["deviations"] or run.record.case["preset"],
        "precision": run.record.precision,
        "difference": difference,
        "tolerance": tolerance,
        "agrees": bool(difference <= tolerance),
        "where": where,
        "variant": run.variant,
        "evidence": run.name,
    }


def _counts(runs: Runs) -> Iterator[Row]:
    """Parameters on each device against the table's."""
    for run in runs.of("bench"):
        held = run.record.parameters
        expected = {"total": parameters(run.network)}
        found = {"total": sum(held.values())}
        if run.record.placement == "columns":
            expected |= dict(zip(held, column_parameters(run.network), strict=True))
            found |= held
        for device, count in expected.items():
            difference = abs(found[device] - count)
            yield _row(run, "counts", f"parameters, {device}", "layer table", difference, 0, f"{found[device]:,}")


def oracles(runs: Runs) -> dict[str, RunFolder]:
    """The oracle's runs by plan hash: only runs of one experiment have a common truth."""
    return {run.record.plan_hash: run for run in runs.of("oracle")}


def rung_of(run: RunFolder) -> str:
    """Which of the oracle's tolerances a parity run answers to."""
    if run.record.precision == "fp64":
        return "fp64"
    return "imposed" if run.imposed else "free"


def _against_oracle(runs: Runs) -> Iterator[Row]:
    truths = oracles(runs)
    for run in runs.of("parity"):
        truth = truths.get(run.record.plan_hash)
        if truth is None:
            continue
        rung = rung_of(run)
        tolerances = truth.record.result["tolerances"][rung]
        for quantity, difference in run.record.result["distances"].items():
            where = run.record.result["where"][quantity]
            yield _row(run, rung, quantity, "oracle", difference, tolerances[quantity], where)


def _between(runs: Runs) -> Iterator[Row]:
    """Pairs of runs of one experiment, from the samples each kept.

    Two that are each within the oracle's tolerance may differ by twice that.
    """
    truths = oracles(runs)
    parity = [run for run in runs.of("parity") if run.record.plan_hash in truths]
    for left, right in combinations(parity, 2):
        alike = left.record.plan_hash == right.record.plan_hash and rung_of(left) == rung_of(right)
        if not alike:
            continue
        tolerances = truths[left.record.plan_hash].record.result["tolerances"][rung_of(left)]
        mine, other = left.tensors("probe"), right.tensors("probe")
        name = f"{right.record.backend} {right.record.placement}"
        for quantity in ("logits", *(key for key in mine if key.startswith("gradient."))):
            a, b = mine[quantity].astype(np.float64), other[quantity].astype(np.float64)
            if quantity == "logits":
                a, b = centred(a), centred(b)
            difference = float(np.linalg.norm(a - b) / np.linalg.norm(b))
            yield _row(left, f"{rung_of(left)}, pair", quantity, name, difference, 2 * tolerances[quantity], "sampled")


def _trajectories(runs: Runs) -> Iterator[Row]:
    """The losses of a training run against the bounds that the oracle's perturbed runs set."""
    truths = oracles(runs)
    for run in runs.of("train"):
        truth = truths.get(run.record.plan_hash)
        if truth is None or not truth.has("envelope.csv"):
            continue
        bounds = truth.table("envelope").set_index("step")
        losses = run.table("steps").set_index("step")["loss"].reindex(bounds.index)
        # How far the loss is from the oracle's, as a share of how far it may be.
        share = (losses - bounds["loss"]).abs() / (bounds["high"] - bounds["loss"])
        worst = int(share.idxmax())
        row = _row(
            run, "trajectory", f"loss of {len(bounds)} steps", "oracle", float(share.max()), 1.0, f"step {worst}"
        )
        yield row

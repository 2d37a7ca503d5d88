"""What a parity run observes, and how far it is from what the oracle saw.

A parity run is a short training run, watched from its first weights to a test after its last update. It takes up to
three *readings*, each from the start:

    fp64      float64
    imposed   float32, kept to the oracle's choices in ReLU and pooling, so that no near-tie falls the other way
    free      float32 as it is

In each it observes these quantities, in an order in which each can be the cause of the next:

    start.X                 weights at step 0, read back from the devices
    images.S, labels.S      what the network and its loss are given at step S
    forward.L               layer L's output at step 0, dropout on
    logits, loss.0          of step 0
    gradient.X              at step 0
    backward.X              the same, against float64 with this backend's own choices; of the free reading alone
    step.X                  by how much the first update moved X
    loss.S, weight.X,       of the later steps; after the last update
    momentum.X
    test.start              logits of step 0's images without dropout, before any update
    test.1, test.10         class probabilities of the test images at the end, with one view and with ten
    report.error.S,         the share of wrong guesses that the backend reports of a step, and of the test images:
    report.top1.V, .top5.V  against a count from its own logits and probabilities

Where precision is given up for speed, two more can be asked for, imposed as well: ``tf32``, in which a GPU's products
and convolutions round what they take to 11 bits, and ``bf16``, to 8.

A training run that was stopped and went on elsewhere is compared in its losses, last weights and momentum, and exactly
in ``error.S``, ``top1.V`` and ``top5.V``, which are the oracle's own (:data:`RESUMED`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from protocol.base.random_bits import Purpose, below, words
from protocol.experiment.experiment import Experiment
from protocol.oracle.network import Arrays

LOWERED = ("tf32", "bf16")  # precisions below float32
RELU_AT = (-100.0, -1.0, -1e-9, 1e-9, 1.0, 10.0, 100.0)  # where each backend is asked for ReLU's gradient
SAMPLED = 256  # entries kept of each tensor, to compare backends with each other
SAMPLED_KINDS = ("logits", "gradient", "test")
LADDER_COLUMNS = ("reading", "precision", "quantity", "difference", "where")


@dataclass(frozen=True)
class Reading:
    """One way of carrying out a parity run."""

    name: str
    precision: str
    imposed: bool = False


# What a training run in float64 is compared in, which was stopped and went on in another placement or backend.
RESUMED = Reading("resumed", "fp64")
RESUMED_KINDS = ("loss", "weight", "momentum")
FIGURES = ("error", "top1", "top5")  # shares of wrong guesses, which near-ties of float32 may tip
READINGS = {
    reading.name: reading
    for reading in (
        Reading("fp64", "fp64"),
        Reading("imposed", "fp32", imposed=True),
        Reading("free", "fp32"),
        *(Reading(name, name, imposed=True) for name in LOWERED),
    )
}
TAKEN = ("fp64", "imposed", "free")  # unless others are asked for


@dataclass(frozen=True)
class Distance:
    """``where`` is the index of the entry that differs most."""

    difference: float
    where: str


def centred(values: np.ndarray) -> np.ndarray:
    """Without the mean over the batch, which is nearly all of the logits at the paper's initial weights."""
    return values - values.mean(axis=0)


def distance(value: np.ndarray, expected: np.ndarray, scale: float | None = None) -> Distance:
    """Norm of the difference relative to ``scale``, by default the norm of ``expected``."""
    # Whole networks are compared: few temporaries, and norms by the BLAS.
    difference = np.subtract(value, expected, dtype=np.float64)
    size = _norm(expected) if scale is None else scale
    norm = _norm(difference)
    relative = norm / size if size > 0 else float(norm > 0)
    return Distance(_finite(relative), _largest(np.abs(difference, out=difference)).where)


def _norm(values: np.ndarray) -> float:
    # In the order of memory, which spares a copy.
    flat = values.astype(np.float64, copy=False).ravel("K")
    return float(flat @ flat) ** 0.5


def _largest(apart: np.ndarray) -> Distance:
    worst = np.unravel_index(int(apart.argmax()), apart.shape)
    return Distance(_finite(float(apart[worst])), str([int(index) for index in worst]))


def _finite(difference: float) -> float:
    """What is no number is infinitely far."""
    return difference if np.isfinite(difference) else float("inf")


def reports(experiment: Experiment) -> list[str]:
    """What a backend reports of its guesses in a parity run."""
    tests = [f"report.{name}.{views}" for views in (1, 10) for name in ("top1", "top5")]
    return [*(f"report.error.{step}" for step in range(experiment.total_steps)), *tests]


def is_asked(quantity: str, reading: Reading | None) -> bool:
    """Whether a reading has a quantity of the oracle's. One that keeps to imposed choices can't test other images."""
    kind = quantity.partition(".")[0]
    if reading == RESUMED:
        return kind in (*RESUMED_KINDS, *FIGURES)
    return kind not in FIGURES and not (kind == "test" and reading is not None and reading.imposed)


def distances(
    seen: Mapping[str, np.ndarray],
    expected: Iterable[tuple[str, np.ndarray]],
    start: Mapping[str, np.ndarray],
    reading: Reading | None = None,
) -> dict[str, Distance]:
    """Distance of every quantity that ``reading`` has from the oracle's; ``start`` holds the weights at step 0.

    Images differ by grey levels, labels by how many are others; a weight's difference is relative to how far it moved,
    any other quantity's to its norm. What was not seen, or has another shape, is infinitely far.
    """
    found: dict[str, Distance] = {}
    for name, truth in expected:
        if not is_asked(name, reading):
            continue
        kind, _, rest = name.partition(".")
        value = seen.get(name)
        if value is None or value.shape != truth.shape:
            shape = "not seen" if value is None else f"shape {value.shape}, expected {truth.shape}"
            found[name] = Distance(float("inf"), shape)
        elif kind == "images":
            found[name] = _largest(np.abs(value - truth))
        elif kind == "labels":
            others = np.flatnonzero(value != truth)
            found[name] = Distance(float(len(others)), f"samples {others[:8].tolist()}" if len(others) else "")
        elif kind in FIGURES:
            off = abs(float(value.item()) - float(truth.item()))
            # Kept in float32, a share of so many images is off by less than any image.
            off = off if off > 1e-6 else 0.0
            found[name] = Distance(off, f"{value.item():.4f}, expected {truth.item():.4f}")
        elif kind in ("logits", "test"):
            found[name] = distance(centred(value), centred(truth))
        elif kind == "weight":
            found[name] = distance(value, truth, _norm(np.subtract(truth, start[rest], dtype=np.float64)))
        else:
            found[name] = distance(value, truth)
    return found


def rows(reading: Reading, found: Mapping[str, Distance]) -> Iterator[dict[str, Any]]:
    """The rows of a parity run's ``ladder.csv``."""
    for quantity, apart in found.items():
        yield {
            "reading": reading.name,
            "precision": reading.precision,
            "quantity": quantity,
            "difference": apart.difference,
            "where": apart.where,
        }


def outputs(seen: Arrays) -> dict[str, int]:
    """How many outputs each weighted layer gave for an image: what figure 2 calls neurons."""
    found = {}
    for name, value in seen.items():
        kind, _, layer = name.partition(".")
        if kind == "forward" and layer.startswith(("conv", "fc")):
            found[layer] = prod(value.shape[1:])
    return found


def samples(reading: Reading, seen: Arrays) -> Arrays:
    """What is kept of a reading to compare backends by: fixed random entries of each large tensor."""
    kept: Arrays = {}
    for name, value in seen.items():
        if name.partition(".")[0] not in SAMPLED_KINDS or name.startswith("logits."):
            continue  # the logits of later steps are compared with the oracle's alone
        if value.size > SAMPLED and name.startswith("gradient."):
            value = value.ravel()[below(words(value.size, Purpose.CROPS, SAMPLED), value.size)]
        kept[f"{reading.name}.{name}"] = value
    return kept

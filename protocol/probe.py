"""What a parity run measures, and the distance between two of them.

A probe is a short training run, observed: the logits, the loss and every gradient of step 0, the loss of each step,
and every weight at the end. ``Distances`` compares one with the oracle's, quantity by quantity:

    logits       the batch mean removed (nearly all of the logits is the same for every image at the start)
    gradient.X   relative norm of the difference
    weight.X     the same, relative to how far the parameter moved in all steps
    loss         the largest relative difference over the steps
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from protocol.errors import Misuse
from protocol.random_bits import Purpose, below, words

SAMPLED = 1024  # entries kept of each tensor, to compare backends with each other


@dataclass
class Probe:
    """Observations of a run; gradients and weights by canonical parameter name."""

    logits: np.ndarray | None = None
    losses: list[float] = field(default_factory=list)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def tensors(self) -> dict[str, np.ndarray]:
        assert self.logits is not None
        named = {"logits": self.logits, "losses": np.array(self.losses)}
        named |= {f"gradient.{name}": value for name, value in self.gradients.items()}
        return named | {f"weight.{name}": value for name, value in self.weights.items()}


@dataclass(frozen=True)
class Distance:
    """``difference`` is relative; ``where`` is the index of the entry that differs most."""

    difference: float
    where: str


def centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=0)


def distance(value: np.ndarray, expected: np.ndarray, scale: float | None = None) -> Distance:
    """Norm of the difference relative to ``scale``, by default the norm of ``expected``."""
    if value.shape != expected.shape:
        return Distance(float("inf"), f"shape {value.shape}, expected {expected.shape}")
    difference = value.astype(np.float64) - expected
    size = float(np.linalg.norm(expected)) if scale is None else scale
    norm = float(np.linalg.norm(difference))
    worst = np.unravel_index(int(np.abs(difference).argmax()), difference.shape)
    relative = norm / size if size > 0 else float(norm > 0)
    return Distance(relative if np.isfinite(relative) else float("inf"), str([int(index) for index in worst]))


def distances(probe: Probe, oracle: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> dict[str, Distance]:
    """Distance of every quantity of ``probe`` from the oracle's tensors; ``start`` holds the weights at step 0."""
    found: dict[str, Distance] = {}
    for name, value in probe.tensors().items():
        expected = oracle[name]
        if name == "logits":
            found[name] = distance(centred(value), centred(expected))
        elif name == "losses":
            relative = np.abs(value - expected) / np.abs(expected)
            found["loss"] = Distance(float(relative.max()), f"step {int(relative.argmax())}")
        elif name.startswith("weight."):
            moved = float(np.linalg.norm(expected - start[name.removeprefix("weight.")]))
            found[name] = distance(value, expected, moved)
        else:
            found[name] = distance(value, expected)
    return found


def samples(probe: Probe) -> dict[str, np.ndarray]:
    """The probe cut down to fixed random entries of each tensor, and all logits and losses."""
    kept: dict[str, np.ndarray] = {}
    for name, value in probe.tensors().items():
        flat = value.ravel()
        if name in ("logits", "losses") or flat.size <= SAMPLED:
            kept[name] = np.ascontiguousarray(value)
        else:
            kept[name] = flat[below(words(flat.size, Purpose.CROPS, SAMPLED), flat.size)]
    return kept


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise Misuse(f"there is no {path}; the oracle writes it: python -m protocol oracle")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise Misuse(f"{path} is damaged ({error})") from None


def check_tensors(path: Path) -> None:
    """Look whether a safetensors file is there and whole.

    Raises:
        Misuse: it is absent or damaged.
    """
    with _opened(path):
        pass


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file whole.

    Raises:
        Misuse: it is absent or damaged.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}

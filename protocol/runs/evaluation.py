"""How outputs become errors, the same for both backends: views averaged as probabilities, every image once."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from protocol.experiment.experiment import Experiment
from protocol.oracle.network import softmax

# Takes images (batch, 3, crop, crop), all batches of one shape, and returns their logits (batch, classes).
Predict = Callable[[np.ndarray], np.ndarray]


def test_batches(experiment: Experiment, batch: int) -> Iterator[np.ndarray]:
    """Indices (batch,) of the test images in order; the last batch is filled up with the last image."""
    count = len(experiment.testing)
    for start in range(0, count, batch):
        yield np.minimum(np.arange(start, start + batch), count - 1)


def predict_all(experiment: Experiment, predict: Predict, batch: int, *, ten: bool) -> np.ndarray:
    """Probabilities (test images, classes), averaged over the views (section 4.1: softmax outputs, not logits)."""
    parts = []
    for samples in test_batches(experiment, batch):
        views = experiment.test_views(samples, ten=ten)
        parts.append(np.mean([softmax(predict(view).astype(np.float64)) for view in views], axis=0))
    return np.concatenate(parts)[: len(experiment.testing)]


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes are put before the right one, int64 (images,); ties count against it, and so does NaN."""
    right = probabilities[np.arange(len(labels)), labels]
    return (~(probabilities < right[:, None])).sum(axis=1) - 1


def reported(probabilities: np.ndarray, labels: np.ndarray, views: int) -> dict[str, np.ndarray]:
    """What a run would report of these test probabilities (images, classes), as a parity run keeps it."""
    found = errors(probabilities, labels)
    return {f"report.{name}.{views}": np.array([found[f"{name}_error"]]) for name in ("top1", "top5")}


def errors(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Mean loss, and the share of images whose label is not the first, or not among the first five."""
    right = probabilities[np.arange(len(labels)), labels]
    rank = ranks(probabilities, labels)
    return {
        "validation_loss": float(-np.log(np.maximum(right, 1e-300)).mean()),
        "top1_error": float((rank >= 1).mean()),
        "top5_error": float((rank >= 5).mean()),
    }

"""What claims ask of a training run beyond its errors: measured as it goes, on clean crops and without dropout.

checks.csv            loss and error of the first CHECKED training images, twice an epoch
gradients.csv         norm of the gradient by each layer's weights, of the first step and of the last
neighbours.csv        how many of a test image's nearest training images share its class, by what they are compared in
kernels.safetensors   conv1's kernels at the start of every epoch and at the end: (epochs + 1, maps, 3, rows, columns)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from protocol.base.tables import write_table
from protocol.base.tensors import save_tensors
from protocol.experiment.experiment import Experiment
from protocol.oracle.network import softmax
from protocol.runs import evaluation

CHECKED = 1000  # training images
CHECKS = 2  # in an epoch
SOUGHT = 2000  # images at the most, on either side of a search
NEIGHBOURS = 6  # as many as figure 4 shows

CHECK_COLUMNS = ("step", "epochs", "loss", "error")
GRADIENT_COLUMNS = ("step", "layer", "norm")
NEIGHBOUR_COLUMNS = ("space", "same_class", "images", "neighbours")


Images = Callable[[np.ndarray], np.ndarray]


class Observed(Protocol):
    """What is looked at: :class:`protocol.runs.training.Trainee` is one."""

    @property
    def experiment(self) -> Experiment: ...

    def logits(self, images: np.ndarray) -> np.ndarray: ...

    def features(self, images: np.ndarray) -> np.ndarray: ...

    def gradient_norms(self) -> dict[str, float]: ...

    def kernels(self) -> np.ndarray: ...


class Observer:
    """Looks at a run of one process on one device, from its first step to its last."""

    def __init__(self, start: Observed) -> None:
        self.kernels = [start.kernels()]
        self.checks: list[dict[str, float]] = []
        self.gradients: list[dict[str, float | str]] = []

    def looks(self, experiment: Experiment, done: int) -> bool:
        """Whether it wants to see the network after ``done`` steps."""
        return done in (1, experiment.total_steps) or self._checks(experiment, done)

    def _checks(self, experiment: Experiment, done: int) -> bool:
        return done * CHECKS // experiment.steps_per_epoch != (done - 1) * CHECKS // experiment.steps_per_epoch

    def look(self, seen: Observed, done: int) -> None:
        """After ``done`` steps."""
        experiment = seen.experiment
        if done in (1, experiment.total_steps):
            norms = seen.gradient_norms()
            self.gradients += [{"step": done, "layer": layer, "norm": norm} for layer, norm in norms.items()]
        if done % experiment.steps_per_epoch == 0:
            self.kernels.append(seen.kernels())
        if self._checks(experiment, done):
            self.checks.append({"step": done, "epochs": done / experiment.steps_per_epoch, **self._check(seen)})

    def _check(self, seen: Observed) -> dict[str, float]:
        experiment = seen.experiment
        count = min(CHECKED, len(experiment.training))
        found = _by_batch(experiment, count, lambda samples: seen.logits(experiment.clean_views(samples)))
        errors = evaluation.errors(softmax(found.astype(np.float64)), experiment.labels(np.arange(count)))
        return {"loss": errors["validation_loss"], "error": errors["top1_error"]}

    def end(self, seen: Observed, folder: Path) -> None:
        """Write what was seen to the run's folder."""
        write_table(folder / "checks.csv", CHECK_COLUMNS, self.checks)
        write_table(folder / "gradients.csv", GRADIENT_COLUMNS, self.gradients)
        write_table(folder / "neighbours.csv", NEIGHBOUR_COLUMNS, _neighbours(seen))
        save_tensors(folder / "kernels.safetensors", {"conv1.weight": np.stack(self.kernels)})


def _by_batch(experiment: Experiment, count: int, what: Images) -> np.ndarray:
    """``what`` of the images 0 to ``count``, a batch at a time, all batches of one length."""
    batch = experiment.case.batch
    starts = range(0, count, batch)
    parts = [what(np.minimum(np.arange(start, start + batch), count - 1)) for start in starts]
    return np.concatenate(parts)[:count]


def _neighbours(seen: Observed) -> list[dict[str, float | str]]:
    """Section 6.1: of each test image's nearest training images, the share of its own class; in fc7 and in pixels."""
    experiment = seen.experiment
    known, asked = min(SOUGHT, len(experiment.training)), min(SOUGHT, len(experiment.testing))

    def place_all(images: Images, count: int, place: Images) -> np.ndarray:
        return _by_batch(experiment, count, lambda samples: place(images(samples)))

    def testing(samples: np.ndarray) -> np.ndarray:
        (found,) = experiment.test_views(samples, ten=False)
        return found

    def pixels(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)

    rows: list[dict[str, float | str]] = []
    for space, place in (("fc7", seen.features), ("pixels", pixels)):
        memory = place_all(experiment.clean_views, known, place)
        queries = place_all(testing, asked, place)
        # Squared distances, less what is the same for all that a query is compared with.
        distances = (memory * memory).sum(axis=1) - 2 * queries @ memory.T  # (asked, known)
        nearest = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        same = experiment.labels(nearest) == experiment.testing.labels[:asked, None]
        rows.append({"space": space, "same_class": float(same.mean()), "images": asked, "neighbours": NEIGHBOURS})
    return rows

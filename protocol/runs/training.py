"""The course of a training run, the same in every backend: steps, what is logged of them, saves, tests.

Backends keep what is theirs: how a batch gets to the devices, a step, the probabilities, and who writes which shard.
"""

import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from protocol.base.log import log
from protocol.base.tensors import save_tensors
from protocol.experiment.experiment import Experiment
from protocol.runs import evaluation, stopping
from protocol.runs.observation import Observer
from protocol.runs.rate import falls
from protocol.runs.run import Run

LOGGED_TOGETHER = 10  # steps, at the most
# What may be wished: a state, since the last is old; a state, and an end; that the rate falls.
LATE, STOP, FALL = 1, 2, 4


@dataclass(frozen=True)
class Saving:
    """What saving ``states`` has cost: seconds, of those since the process began to train until the last of them."""

    states: int = 0
    seconds: float = 0.0
    of_seconds: float = 0.0


class Trainee(Protocol):
    """A network that a backend has on its devices. Of several processes, each has one and does all of this."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def keeps_record(self) -> bool:
        """Whether this process, of several, writes the run's folder."""

    def batches(self, steps: range) -> Iterator[Any]:
        """The batch of each step, augmented, on the devices."""

    def update(self, batch: Any, rate: float) -> tuple[Any, Any]:
        """One step. Returns the batch's mean loss and its share of wrong first guesses, which may still be computed."""

    def hold(self, layers: Collection[str]) -> None:
        """From here on, let the weights of ``layers``, and of no others, stay as they are."""

    def number(self, value: Any) -> float:
        """What :meth:`update` returned, when it is there."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What the network makes of a batch (batch, 3, crop, crop) without dropout: (batch, classes)."""

    def features(self, images: np.ndarray) -> np.ndarray:
        """The outputs of the last hidden layer, without dropout: (batch, units of fc7). On one device."""

    def gradient_norms(self) -> dict[str, float]:
        """By layer, the Euclidean norm of the mean gradient by its weights, of the last update. On one device."""

    def kernels(self) -> np.ndarray:
        """The first convolution's weights (maps, 3, rows, columns). On one device."""

    def save(self, run: Run, done: int) -> None:
        """Save the state after ``done`` steps."""

    def agreed(self, wish: int) -> int:
        """What the process that keeps the record wishes, told to all of the run's processes."""


def probabilities(trainee: Trainee, *, ten: bool) -> np.ndarray:
    """Class probabilities (test images, classes), of one view or the mean over ten."""
    experiment = trainee.experiment
    return evaluation.predict_all(experiment, trainee.logits, experiment.case.batch, ten=ten)


def train(
    trainee: Trainee, run: Run, steps: range, observer: Observer | None = None, save_minutes: float | None = None
) -> None:
    """Carry out ``steps``, and the last test if they end the training. ``observer`` looks on.

    The state is saved as often as the case says, or every ``save_minutes``.

    Raises:
        KeyboardInterrupt: the run was asked to stop, and has saved its state.
    """
    experiment = trainee.experiment
    waiting: list[tuple[int, float, Any, Any]] = []
    patience = experiment.case.patience
    fallen = falls(patience, run.epochs, run.record.history)
    clock = saved = began = time.perf_counter()
    saving = Saving()
    for step, batch in zip(steps, trainee.batches(steps), strict=True):
        if step == steps.start or experiment.held(step) != experiment.held(step - 1):
            trainee.hold(experiment.held(step))
        rate = experiment.rate(step) * 10.0**-fallen
        loss, error = trainee.update(batch, rate)
        waiting.append((step, rate, loss, error))
        done = step + 1
        ends_epoch = done % experiment.steps_per_epoch == 0
        saves = save_minutes is None and done % experiment.case.checkpoint_steps == 0
        looks = observer is not None and observer.looks(experiment, done)
        # Reading a number makes the host wait for the devices, so losses are read a few at a time.
        if ends_epoch or saves or looks or done == steps.stop or len(waiting) == LOGGED_TOGETHER:
            rows = [(at, of, trainee.number(own), trainee.number(wrong)) for at, of, own, wrong in waiting]
            run.log_steps(experiment, rows, time.perf_counter() - clock)
            waiting.clear()
            if observer and looks:
                observer.look(trainee, done)
            if ends_epoch:
                found = evaluation.errors(probabilities(trainee, ten=False), experiment.testing.labels)
                if trainee.keeps_record:
                    run.log_epoch(experiment, done // experiment.steps_per_epoch - 1, found, views=1)
            late = save_minutes is not None and time.perf_counter() - saved > 60 * save_minutes
            falls_now = ends_epoch and trainee.keeps_record and falls(patience, run.epochs, run.record.history) > fallen
            wish = trainee.agreed(LATE * late + STOP * stopping.is_asked(run.folder) + FALL * falls_now)
            fallen += bool(wish & FALL)
            if saves or wish & (LATE | STOP) or done == steps.stop:
                before = time.perf_counter()
                trainee.save(run, done)
                saved = time.perf_counter()
                saving = Saving(saving.states + 1, saving.seconds + saved - before, saved - began)
                run.record.result["saving"] = asdict(saving)
            if wish & STOP and done < steps.stop:
                if trainee.keeps_record:
                    stopping.forget(run.folder)
                raise KeyboardInterrupt
            clock = time.perf_counter()
    if steps.stop == experiment.total_steps:
        _last_test(trainee, run)
        if observer:
            observer.end(trainee, run.folder)


def _last_test(trainee: Trainee, run: Run) -> None:
    experiment = trainee.experiment
    test = experiment.testing
    kept: dict[str, np.ndarray] = {
        "labels": np.asarray(test.labels, np.int16),
        "tiles": np.asarray(test.tiles, np.int32),
    }
    for views in (1, 10):
        found = probabilities(trainee, ten=views == 10)
        kept[f"ranks_{views}"] = evaluation.ranks(found, test.labels).astype(np.int16)
    if trainee.keeps_record:
        run.log_epoch(experiment, experiment.case.epochs - 1, evaluation.errors(found, test.labels), views=10)
        save_tensors(run.folder / "predictions.safetensors", kept)


def evaluate(trainee: Trainee) -> None:
    """Say the test errors, with one view and with ten."""
    for ten in (False, True):
        found = evaluation.errors(probabilities(trainee, ten=ten), trainee.experiment.testing.labels)
        if trainee.keeps_record:
            log(
                f"{'ten views' if ten else 'one view'}: top-1 error {found['top1_error']:.2%}, "
                f"top-5 error {found['top5_error']:.2%}, loss {found['validation_loss']:.4f}"
            )

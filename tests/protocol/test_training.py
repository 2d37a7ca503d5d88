"""When a state is saved: as often as the case says, or by the clock; and what a wish to stop does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs import training
from protocol.runs.rate import stalls
from protocol.runs.request import make_train
from protocol.runs.stopping import STOP, heeding, is_asked
from tests.support.refusals import refused


class Trainee:
    """Trains nothing, and notes when it is told to save."""

    keeps_record = True

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.saved = experiment, list[int]()
        self.updates, self.held = 0, list[tuple[int, list[str]]]()

    def batches(self, steps: range) -> Iterator[int]:
        return iter(steps)

    def update(self, batch: int, rate: float) -> tuple[float, float]:
        self.updates += 1
        return 1.0, 0.5

    def hold(self, layers: frozenset[str]) -> None:
        self.held.append((self.updates, sorted(layers)))

    def number(self, value: float) -> float:
        return value

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), self.experiment.case.classes))

    def agreed(self, wish: int) -> int:
        return wish

    def save(self, run: Any, done: int) -> None:
        self.saved.append(done)


class Run:
    """A run that keeps nothing; asked to stop once so many steps are logged."""

    def __init__(self, folder: Path, asked_after: int = 10**6) -> None:
        self.folder, self.asked_after, self.rates = folder, asked_after, list[float]()
        self.epochs = list[dict[str, Any]]()
        self.record = SimpleNamespace(history=list[dict[str, Any]](), result=dict[str, Any]())

    @property
    def logged(self) -> int:
        return len(self.rates)

    def log_steps(self, experiment: Experiment, rows: list[Any], seconds: float) -> None:
        self.rates += [rate for _, rate, _, _ in rows]
        if self.logged >= self.asked_after:
            (self.folder / STOP).touch()

    def log_epoch(self, _: Experiment, epoch: int, errors: dict[str, Any], *, views: int) -> None:
        self.epochs.append({"epoch": epoch, "views": views, **errors})


@pytest.fixture
def trainee(data: Path) -> Trainee:
    return Trainee(open_experiment(CASES["tiny"], data, 0))


def train(trainee: Trainee, run: Run, steps: range, minutes: float | None = None) -> None:
    training.train(trainee, run, steps, None, minutes)  # type: ignore[arg-type]


def test_a_state_is_saved_as_often_as_the_case_says(trainee: Trainee, tmp_path: Path) -> None:
    run = Run(tmp_path)
    train(trainee, run, range(7))
    assert trainee.saved == [2, 4, 6, 7]
    saving = run.record.result["saving"]
    assert saving["states"] == 4
    assert 0 < saving["seconds"] < saving["of_seconds"]


def test_or_by_the_clock(trainee: Trainee, tmp_path: Path) -> None:
    train(trainee, Run(tmp_path), range(19), minutes=1000)
    assert trainee.saved == [19]
    trainee.saved.clear()
    train(trainee, Run(tmp_path), range(19), minutes=1e-9)
    assert trainee.saved == [10, 19]  # whenever losses are read


def test_the_rate_falls_where_the_test_error_stalls_and_by_hand(trainee: Trainee, tmp_path: Path) -> None:
    # A network that never learns: its first test is the lowest so far, and none after it is lower.
    case = replace(trainee.experiment.case, epochs=9, patience=2, drops=(), limit=64, test_limit=32)
    trainee = Trainee(replace(trainee.experiment, case=case))
    run = Run(tmp_path)
    train(trainee, run, range(17), minutes=1000)
    tenths = [rate / case.rate for rate in run.rates]
    # Two steps an epoch: falls after the third epoch, the fifth and the seventh.
    assert tenths == pytest.approx([1] * 6 + [0.1] * 4 + [0.01] * 4 + [0.001] * 3)

    # Gone on from there, with the rate once more divided by hand.
    again = Run(tmp_path)
    again.epochs, again.record.history = run.epochs[:4], [{"step": 8, "fallen": 1}]
    train(trainee, again, range(8, 12), minutes=1000)
    assert [rate / case.rate for rate in again.rates] == pytest.approx([0.01] * 2 + [0.001] * 2)


def test_layers_are_held_from_their_epoch_on_also_by_who_goes_on_there(trainee: Trainee, tmp_path: Path) -> None:
    case = replace(trainee.experiment.case, frozen=("conv2",), conv1_epochs=1)
    experiment = replace(trainee.experiment, case=case)
    whole, later = Trainee(experiment), Trainee(experiment)
    train(whole, Run(tmp_path), range(19), minutes=1000)
    assert whole.held == [(0, ["conv2"]), (10, ["conv1", "conv2"])]
    train(later, Run(tmp_path), range(12, 19), minutes=1000)
    assert later.held == [(0, ["conv1", "conv2"])]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.9, 0.8, 0.7], 0),
        ([0.9, 0.9], 0),
        ([0.9, 0.9, 0.9], 1),
        ([0.9, 0.91, 0.8, 0.85, 0.7], 0),
        ([0.9, 0.95, 0.95, 0.92, 0.91, 0.89, 0.9], 2),
        ([0.5] * 20, 3),  # no more often than in the paper
    ],
)
def test_a_stall_is_so_many_epochs_without_a_lower_error_than_all_before(errors: list[float], expected: int) -> None:
    assert stalls(errors, 2) == expected


def test_who_is_asked_to_stop_saves_first(trainee: Trainee, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(trainee, Run(tmp_path, asked_after=3), range(19), minutes=1000)
    assert trainee.saved == [10]
    assert not is_asked(tmp_path)


def test_asked_at_the_last_step_it_is_simply_at_its_end(trainee: Trainee, tmp_path: Path) -> None:
    train(trainee, Run(tmp_path, asked_after=8), range(8))
    assert trainee.saved == [2, 4, 6, 8]


def test_what_was_asked_of_an_earlier_process_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / STOP).touch()
    with heeding(tmp_path, anew=False):
        assert is_asked(tmp_path)
    with heeding(tmp_path):
        assert not is_asked(tmp_path)


def test_a_wish_that_makes_no_sense_is_refused(data: Path) -> None:
    for minutes in (0.0, -1.0, float("nan"), float("inf")):
        with refused("--save-minutes"):
            make_train("gluon", case="tiny", save_minutes=minutes, data=data)
    with refused("--patience"):
        make_train("gluon", case="tiny", patience=0, data=data)
    with refused("--colour-epochs must be at least 1"):
        make_train("gluon", case="tiny", colour_epochs=0, data=data)
    with refused("shifts no colours"):
        make_train("gluon", case="no-colour", colour_epochs=3, data=data)
    with refused("--conv1-epochs", "below the run's 2 epochs"):
        make_train("gluon", case="tiny", conv1_epochs=2, data=data)
    with refused("leaves no layer"):
        every = "conv2,conv3,conv4,conv5,fc6,fc7,fc8"
        make_train("gluon", case="tiny", conv1_epochs=1, freeze=every, data=data)
    with refused("has no conv1"):
        make_train("gluon", case="tiny", variant="without_conv1", conv1_epochs=1, data=data)
    with refused("--fallen"):
        make_train("gluon", case="tiny", fallen=-1, data=data)
    with refused("--keep"):
        make_train("gluon", case="tiny", keep=0, data=data)

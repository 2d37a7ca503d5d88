"""The slow way to the data agrees with the fast one bit for bit, and notices draws that are not spread as said."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol import dropout, literal
from protocol.cases import find_case
from protocol.experiment import Experiment, open_experiment


@pytest.fixture
def experiment(data: Path) -> Experiment:
    return open_experiment(find_case("ladder"), data, 3)


@pytest.mark.parametrize("step", [0, 4])
def test_training_images_are_the_same_bit_for_bit(experiment: Experiment, step: int) -> None:
    fast = experiment.images(step, experiment.samples(step))
    slow = literal.Pixels(experiment).training(step)
    assert fast.dtype == slow.dtype == np.float32
    assert np.array_equal(fast, slow)


@pytest.mark.parametrize("ten", [False, True])
def test_views_are_the_same_bit_for_bit(experiment: Experiment, ten: bool) -> None:
    fast = experiment.test_views(np.arange(5), ten=ten)
    pixels = literal.Pixels(experiment)
    assert np.array_equal(fast, np.stack([pixels.views(sample, ten=ten) for sample in range(5)], axis=1))


def far(experiment: Experiment) -> set[str]:
    return {name for name, (apart, bound) in literal.draws(experiment).items() if not apart.difference <= bound}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_drawn_is_spread_as_the_paper_says(data: Path, seed: int) -> None:
    assert far(open_experiment(find_case("ladder"), data, seed)) == set()


Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda t: t | {"conv3.weight": 1.1 * t["conv3.weight"]}, {"draws.conv3.weight"}),
        (lambda t: t | {"conv2.bias": 0 * t["conv2.bias"]}, {"draws.conv2.bias"}),
    ],
)
def test_weights_of_another_spread_are_noticed(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, change: Change, names: set[str]
) -> None:
    tensors = change(experiment.weights())
    monkeypatch.setattr(Experiment, "weights", lambda self: tensors)
    assert far(experiment) == names


def test_masks_that_repeat_are_noticed(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dropout.keep
    monkeypatch.setattr(dropout, "keep", lambda seed, step, *rest: right(seed, 0, *rest))
    assert far(experiment) == {"draws.drop6.steps", "draws.drop7.steps"}


def test_shifts_by_the_variance_are_noticed(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    right = literal.plan_epoch

    def squared(*arguments: object) -> object:
        plan = right(*arguments)
        plan.shifts[:] *= 40
        return plan

    monkeypatch.setattr(literal, "plan_epoch", squared)
    assert far(experiment) == {"draws.shifts"}

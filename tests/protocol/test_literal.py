"""The slow way to the data agrees with the fast one bit for bit, and notices draws that are not spread as said."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.datasets.store import Split
from protocol.experiment import augmentation, dropout
from protocol.experiment.augmentation import EpochPlan, Policy
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle import literal
from protocol.runs import evaluation


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


NAMES = [layer.name for layer in find_case("ladder").network().weighted()]


def uniform(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """fc7 drawn evenly, with the deviation it should have."""
    weight = tensors["fc7.weight"]
    other = np.random.default_rng(1).uniform(-1, 1, weight.shape) * 3**0.5 * weight.std()
    return tensors | {"fc7.weight": other.astype(np.float32)}


def both_columns_alike(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The second column starts from the first one's weights."""
    return {
        name: np.concatenate([np.split(value, 2)[0]] * 2) if name.endswith(".weight") else value
        for name, value in tensors.items()
    }


def one_stream(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every layer's weights begin with the same draws."""
    largest = max((value for name, value in tensors.items() if name.endswith(".weight")), key=lambda value: value.size)
    draws = largest.ravel() / largest.std()
    return {
        name: (value.std() * draws[: value.size]).reshape(value.shape) if name.endswith(".weight") else value
        for name, value in tensors.items()
    }


Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda t: t | {"conv3.weight": 1.1 * t["conv3.weight"]}, {"draws.conv3.weight", "draws.conv3.shape"}),
        (lambda t: t | {"conv2.bias": 0 * t["conv2.bias"]}, {"draws.conv2.bias"}),
        (lambda t: t | {"fc6.weight": t["fc6.weight"] + 0.05 * t["fc6.weight"].std()}, {"draws.fc6.mean"}),
        (uniform, {"draws.fc7.shape"}),
        (both_columns_alike, {f"draws.{name}.columns" for name in NAMES}),
        (one_stream, {f"draws.{name}.layers" for name in NAMES[1:]}),
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
    right: Callable[..., EpochPlan] = augmentation.plan_epoch

    def squared(*arguments: Any) -> EpochPlan:
        plan = right(*arguments)
        plan.shifts[:] *= 40
        return plan

    monkeypatch.setattr(literal, "plan_epoch", squared)
    assert "draws.shifts" in far(experiment)


Plan = Callable[..., EpochPlan]


def same_order(right: Plan, split: Split, crop: int, policy: Policy, seed: int, epoch: int) -> EpochPlan:
    return replace(right(split, crop, policy, seed, epoch), order=right(split, crop, policy, seed, 0).order)


def square_crops(right: Plan, *arguments: Any) -> EpochPlan:
    plan = right(*arguments)
    return replace(plan, columns=plan.rows)


def shifted(right: Plan, *arguments: Any) -> EpochPlan:
    plan = right(*arguments)
    return replace(plan, shifts=plan.shifts + np.float32(4))


def red_follows_flips(right: Plan, *arguments: Any) -> EpochPlan:
    plan = right(*arguments)
    return replace(plan, flips=plan.shifts[:, 0] > 0)


def sorted_by_class(right: Plan, split: Split, *arguments: Any) -> EpochPlan:
    return replace(right(split, *arguments), order=np.argsort(split.labels, kind="stable"))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (same_order, {"draws.order.epochs"}),
        (square_crops, {"draws.crops"}),
        (shifted, {f"draws.shifts.{name}" for name in ("red", "green", "blue")}),
        (red_follows_flips, {"draws.shifts.red.flips"}),
        (sorted_by_class, {"draws.order.labels", "draws.order.epochs"}),
    ],
)
def test_draws_that_follow_from_others_are_noticed(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, change: Callable[..., EpochPlan], names: set[str]
) -> None:
    monkeypatch.setattr(literal, "plan_epoch", partial(change, augmentation.plan_epoch))
    assert names <= far(experiment)


def test_masks_of_two_layers_that_are_one_are_noticed(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    right = dropout.keep
    monkeypatch.setattr(dropout, "keep", lambda a, b, c, d, layer, units: right(a, b, c, d, 6, units))
    assert far(experiment) == {"draws.drop7.layers"}


def test_the_rate_is_the_papers_by_another_clock(experiment: Experiment) -> None:
    for step in range(experiment.total_steps):
        assert literal.rate(experiment.case, step // experiment.steps_per_epoch) == pytest.approx(experiment.rate(step))
    assert [literal.rate(replace(experiment.case, drops=(1, 2)), epoch) for epoch in range(4)] == pytest.approx(
        [0.01, 0.001, 0.0001, 0.0001]
    )


def seen_of(experiment: Experiment) -> dict[str, np.ndarray]:
    """What a backend that guesses at random sees and, rightly, reports."""
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(experiment.case.batch, 20))
    probabilities = generator.dirichlet(np.ones(20), len(experiment.testing))
    wrong = (logits.argmax(axis=1) != experiment.labels(experiment.samples(2))).mean()
    seen = {"logits.2": logits, "report.error.2": np.array([wrong]), "test.10": probabilities}
    return seen | evaluation.reported(probabilities, experiment.testing.labels, 10)


def test_what_is_reported_is_what_is_counted(experiment: Experiment) -> None:
    found = literal.recount(experiment, seen_of(experiment))
    assert {name: apart.difference for name, apart in found.items()} == {
        "report.error.2": 0,
        "report.top1.10": 0,
        "report.top5.10": 0,
    }


@pytest.mark.parametrize("name", ["report.error.2", "report.top1.10", "report.top5.10"])
def test_a_share_of_what_is_right_is_noticed(experiment: Experiment, name: str) -> None:
    seen = seen_of(experiment)
    seen[name] = 1 - seen[name]
    found = literal.recount(experiment, seen)
    assert {other for other, apart in found.items() if apart.difference > 0} == {name}
    del seen["logits.2"], seen["test.10"]
    assert all(np.isinf(apart.difference) for apart in literal.recount(experiment, seen).values())

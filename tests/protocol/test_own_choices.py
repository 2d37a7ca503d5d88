"""A gradient that jumps because a near-tie fell the other way is told from one that is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paper.architecture import Pool
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle import bounds as oracle
from protocol.oracle import own_choices, quantities
from protocol.oracle.bounds import OracleRun
from protocol.oracle.network import Arrays, places

CASE = replace(find_case("ladder"), size="tiny", epochs=1, batch=8, test_limit=5)


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    return open_experiment(CASE, data, 0)


@pytest.fixture(scope="module")
def truth(experiment: Experiment) -> OracleRun:
    return oracle.observe(experiment, np.float64)


def largest(found: dict[str, quantities.Distance]) -> float:
    return max(apart.difference for apart in found.values())


def test_the_choices_that_are_read_off_the_outputs_are_those_that_were_made(
    experiment: Experiment, truth: OracleRun
) -> None:
    found = own_choices.choices(experiment.network, truth.seen)
    assert found is not None
    made = {name.removeprefix("0."): value for name, value in truth.choices.items() if name.startswith("0.")}
    assert found.keys() == made.keys()
    for name, value in made.items():
        assert np.array_equal(found[name].reshape(value.shape), value), name


def test_with_the_oracles_choices_its_own_gradients_come_out(experiment: Experiment, truth: OracleRun) -> None:
    found = own_choices.backward(experiment, truth.seen)
    assert len(found) == 16
    assert largest(found) == 0


def otherwise(experiment: Experiment, truth: OracleRun) -> Arrays:
    """What a run sees in which one unit of ReLU 3, just below zero in float64, came out just above."""
    seen = {name: value for name, value in truth.seen.items() if name.startswith("forward.")}
    tipped = {name.removeprefix("0."): value for name, value in truth.choices.items() if name.startswith("0.")}
    before, own = seen["forward.conv3"], tipped["relu3"].copy()
    at = np.unravel_index(np.where(before < 0, before, -np.inf).argmax(), before.shape)
    own[at] = True
    run, _, _ = oracle.Trainee(experiment, np.float64).take(0, tipped | {"relu3": own})
    seen["forward.relu3"] = np.where(own & ~tipped["relu3"], 1e-12, seen["forward.relu3"])
    return seen | {f"gradient.{name}": value for name, value in run.gradients.items()}


def test_a_tie_that_fell_the_other_way_moves_the_gradient_and_not_what_explains_it(
    experiment: Experiment, truth: OracleRun
) -> None:
    seen = otherwise(experiment, truth)
    gradient = "gradient.conv3.weight"
    assert quantities.distance(seen[gradient], truth.seen[gradient]).difference > 1e-6
    found = own_choices.backward(experiment, seen)
    assert found["backward.conv3.weight"].difference < 1e-9


def test_a_wrong_gradient_is_not_explained_by_any_tie(experiment: Experiment, truth: OracleRun) -> None:
    seen = otherwise(experiment, truth)
    seen["gradient.conv3.weight"] = seen["gradient.conv3.weight"] * (1 + 1e-4)
    found = own_choices.backward(experiment, seen)
    assert found["backward.conv3.weight"].difference == pytest.approx(1e-4, rel=1e-3)


def test_of_equal_ones_the_first_is_chosen(experiment: Experiment) -> None:
    pool = next(layer for layer in experiment.network if isinstance(layer, Pool))
    assert not places(pool, np.zeros((1, *pool.shape_in))).any()


def test_layers_that_were_not_seen_whole_explain_nothing(experiment: Experiment, truth: OracleRun) -> None:
    seen = dict(truth.seen)
    seen["forward.pool2"] = seen["forward.pool2"][:, :-1]
    assert own_choices.backward(experiment, seen) == {}
    del seen["forward.pool2"]
    assert own_choices.backward(experiment, seen) == {}

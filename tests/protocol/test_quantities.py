"""Distances: each kind of quantity in its own measure, and nothing missing passes."""

import numpy as np
import pytest

from protocol.oracle.quantities import READINGS, RESUMED, SAMPLED, Reading, distances, rows, samples

START = {"conv1.weight": np.zeros((2, 3))}
TRUTH = {
    "start.conv1.weight": np.zeros((2, 3), np.float32),
    "images.0": np.full((2, 3, 4, 4), 100.0),
    "labels.0": np.array([1.0, 2.0]),
    "forward.conv1": np.array([[3.0, 4.0]]),
    "logits": np.array([[101.0, 100.0], [99.0, 100.0]]),
    "weight.conv1.weight": np.full((2, 3), 0.5),
    "test.1": np.array([[0.25, 0.75], [0.75, 0.25]]),
}


def apart(reading: Reading | None = None, **changes: np.ndarray) -> dict[str, float]:
    seen = TRUTH | {name.replace("__", "."): value for name, value in changes.items()}
    found = distances(seen, TRUTH.items(), START, reading)
    return {name: value.difference for name, value in found.items() if value.difference}


def test_what_is_the_same_is_not_apart() -> None:
    assert apart() == {}


def test_images_differ_by_grey_levels_and_labels_by_how_many() -> None:
    images = TRUTH["images.0"].copy()
    images[1, 2, 3, 0] += 0.5
    found = distances(TRUTH | {"images.0": images}, TRUTH.items(), START)["images.0"]
    assert (found.difference, found.where) == (0.5, "[1, 2, 3, 0]")
    assert apart(labels__0=np.array([1.0, 7.0])) == {"labels.0": 1.0}


def test_a_layer_differs_relative_to_its_norm_and_a_weight_to_how_far_it_moved() -> None:
    assert apart(forward__conv1=np.array([[3.0, 4.5]])) == pytest.approx({"forward.conv1": 0.1})
    assert apart(weight__conv1__weight=np.full((2, 3), 0.55)) == pytest.approx({"weight.conv1.weight": 0.1})


def test_what_all_logits_share_does_not_count() -> None:
    assert apart(logits=TRUTH["logits"] + 7) == {}
    assert apart(logits=TRUTH["logits"] * 2) == pytest.approx({"logits": 1.0})


def test_a_bias_that_should_be_zero_and_is_not_differs() -> None:
    assert apart(start__conv1__weight=np.full((2, 3), 1e-9, np.float32)) == {"start.conv1.weight": 1.0}


def test_another_shape_a_missing_quantity_and_nan_are_infinitely_far() -> None:
    assert apart(forward__conv1=np.zeros((1, 3))) == {"forward.conv1": np.inf}
    assert apart(forward__conv1=np.array([[np.nan, 4.0]])) == {"forward.conv1": np.inf}
    seen = {name: value for name, value in TRUTH.items() if name != "logits"}
    found = distances(seen, TRUTH.items(), START)["logits"]
    assert (found.difference, found.where) == (np.inf, "not seen")


def test_imposed_choices_leave_out_the_test() -> None:
    assert apart(READINGS["imposed"], test__1=np.zeros((2, 2))) == {}
    assert "test.1" in apart(test__1=np.array([[0.5, 0.5], [0.7, 0.3]]))


def test_a_resumed_run_is_compared_in_what_training_leaves_alone() -> None:
    expected = {"loss.1": np.ones(1), "momentum.conv1.weight": np.ones(3)}
    expected |= {"error.1": np.array([0.25]), "logits": np.ones(2)}
    seen = expected | {"error.1": np.array([0.75], np.float32), "logits": np.zeros(2)}
    found = distances(seen, expected.items(), START, RESUMED)
    assert {name: apart.difference for name, apart in found.items()} == {
        "loss.1": 0,
        "momentum.conv1.weight": 0,
        "error.1": 0.5,
    }
    # What float32 near-ties may tip is no quantity of the other readings.
    assert set(distances(seen, expected.items(), START)) == {"loss.1", "momentum.conv1.weight", "logits"}


def test_rows_say_which_reading_they_are_of() -> None:
    found = distances(TRUTH, TRUTH.items(), START, READINGS["imposed"])
    made = list(rows(READINGS["imposed"], found))
    assert {(row["reading"], row["precision"]) for row in made} == {("imposed", "fp32")}
    assert [row["quantity"] for row in made] == [name for name in TRUTH if name != "test.1"]


def test_samples_are_the_same_entries_of_every_run() -> None:
    large = np.arange(5000.0)
    left, right = (samples(READINGS["free"], {"gradient.fc8.weight": large + shift}) for shift in (0, 1))
    (name,) = left
    assert name == "free.gradient.fc8.weight"
    assert len(left[name]) == SAMPLED
    assert np.array_equal(left[name] + 1, right[name])
    assert samples(READINGS["free"], {"forward.conv1": large, "start.conv1.weight": large}) == {}

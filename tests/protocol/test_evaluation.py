"""Every test image once, views averaged as probabilities, ranks and errors counted out by hand."""

from pathlib import Path

import numpy as np
import pytest

from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle.network import softmax
from protocol.runs import evaluation


@pytest.fixture
def experiment(data: Path) -> Experiment:
    return open_experiment(CASES["tiny"], data, 0)


def logits_of(images: np.ndarray) -> np.ndarray:
    """Twenty numbers that depend on the image alone, and on its orientation."""
    return images[:, :, 3:8, 4].reshape(len(images), -1)[:, :5].repeat(4, axis=1) / 50 + np.arange(20) / 10


@pytest.mark.parametrize("batch", [1, 9, 32, 69, 70, 71, 200])
@pytest.mark.parametrize("ten", [False, True])
def test_every_image_is_predicted_once_and_padding_is_dropped(experiment: Experiment, batch: int, ten: bool) -> None:
    seen: list[np.ndarray] = []

    def predict(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return logits_of(images)

    found = evaluation.predict_all(experiment, predict, batch, ten=ten)
    count = len(experiment.store.test)
    assert {images.shape for images in seen} == {(batch, 3, 31, 31)}
    views = experiment.test_views(np.arange(count), ten=ten)
    expected = np.mean([softmax(logits_of(view)) for view in views], axis=0)
    assert found.shape == (count, 20)
    assert np.allclose(found, expected, rtol=1e-12)
    # All batches of one view, in order, are the test images in order, then copies of the last.
    first_view = np.concatenate(seen[:: len(views)])
    assert np.array_equal(first_view[:count], views[0])
    assert all(np.array_equal(image, views[0, -1]) for image in first_view[count:])
    assert len(first_view) - count < batch


def test_probabilities_are_averaged_and_not_logits(experiment: Experiment) -> None:
    calls = iter([[0.0, 0.0], [4.0, 0.0]] * 5)

    def predict(images: np.ndarray) -> np.ndarray:
        return np.tile(next(calls), (len(images), 1))

    found = evaluation.predict_all(experiment, predict, 70, ten=True)
    expected = (0.5 + 1 / (1 + np.exp(-4))) / 2
    assert np.allclose(found[:, 0], expected, rtol=1e-12)
    assert abs(expected - 1 / (1 + np.exp(-2))) > 0.05


def test_ranks_count_the_classes_before_the_right_one_and_ties_against_it() -> None:
    probabilities = np.array([[0.1, 0.6, 0.3], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    assert evaluation.ranks(probabilities, np.array([1, 0, 0, 2])).tolist() == [0, 2, 1, 2]


def test_a_network_that_diverged_guesses_nothing_right() -> None:
    probabilities = np.full((4, 20), np.nan)
    labels = np.array([0, 3, 19, 7])
    assert (evaluation.ranks(probabilities, labels) == 19).all()
    found = evaluation.errors(probabilities, labels)
    assert found["top1_error"] == found["top5_error"] == 1.0
    assert np.isnan(found["validation_loss"])


def test_top_1_and_top_5_errors_and_the_loss() -> None:
    # Image n's right class is put in place n of seven.
    order = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02])
    found = evaluation.errors(np.tile(order, (7, 1)), np.arange(7))
    assert found["top1_error"] == pytest.approx(6 / 7)
    assert found["top5_error"] == pytest.approx(2 / 7)
    assert found["validation_loss"] == pytest.approx(-np.log(order).mean())


def test_a_probability_of_zero_gives_a_finite_loss() -> None:
    assert np.isfinite(evaluation.errors(np.array([[1.0, 0.0]]), np.array([1]))["validation_loss"])

"""Classes are read off the right numbers, by a classifier that finds what is linear and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compare.claims import reading
from compare.claims.seen import AT_ONCE, Trained
from protocol.backends import BACKENDS
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import open_experiment
from protocol.experiment.weights import initial_weights
from protocol.oracle.network import ForwardPass, forward


def test_a_layer_is_read_where_the_next_one_reads_it() -> None:
    case = replace(find_case("claims"), size="tiny")
    network = case.network()
    drawn = initial_weights(network, case.initial_deviations(), case.recipe(), 0)
    weights = {name: value.astype(np.float32) for name, value in drawn.items()}
    images = np.random.default_rng(0).normal(size=(AT_ONCE + 3, *network.input_shape)).astype(np.float32)
    made = reading.made_of(images, network, weights)
    assert list(made) == ["pixels", "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    for name, last in (("conv1", "pool1"), ("conv3", "relu3"), ("fc7", "drop7")):
        (end,) = (place for place, layer in enumerate(network.layers) if layer.name == last)
        until = replace(network, layers=network.layers[: end + 1])
        whole, _ = forward(
            until, images, ForwardPass({key: value.astype(np.float32) for key, value in weights.items()})
        )
        assert made[name] == pytest.approx(whole.reshape(len(images), -1), rel=1e-4, abs=1e-6)


def test_a_linear_classifier_reads_what_is_linear() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 4, 600)
    linear = generator.normal(size=(4, 30))[labels] + 0.3 * generator.normal(size=(600, 30))
    known, asked = slice(0, 400), slice(400, 600)
    assert reading.error(linear[known], labels[known], linear[asked], labels[asked]) < 0.02
    # Whether two signs agree is there to be read, but not by lines.
    signs = generator.choice((-1.0, 1.0), (600, 2))
    agree = (signs.prod(axis=1) > 0).astype(int)
    assert 0.3 < reading.error(signs[known], agree[known], signs[asked], agree[asked]) < 0.7


def test_a_network_is_read_before_and_after_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network that answers nothing any more, no class can be read; of its pixels as before."""
    monkeypatch.setattr(reading, "LOOKED_THROUGH", 100)
    experiment = open_experiment(replace(find_case("claims"), size="tiny"), data, 0)
    silent = {name: np.zeros_like(value) for name, value in experiment.weights().items()}
    monkeypatch.setattr(Trained, "of", lambda backend, folder: Trained(experiment, silent))
    assert reading.write(tmp_path, data) == ["reading.csv", "reading.png"]
    table = pd.read_csv(tmp_path / "reading.csv")
    for backend in BACKENDS:
        own = table[table["backend"] == backend]
        drawn, trained = (
            own[own["weights"] == state].set_index("layer")["error"].to_dict() for state in ("drawn", "trained")
        )
        assert drawn["pixels"] == trained["pixels"] < 0.9
        assert drawn["conv1"] < 0.7
        assert trained["conv1"] > 0.85
    assert (tmp_path / "reading.png").stat().st_size > 10_000

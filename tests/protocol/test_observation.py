"""What an observed run keeps, looked at with a network that is no framework's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.base.tensors import read_tensors
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs.observation import CHECKED, CHECKS, NEIGHBOURS, Observer
from tests.support.commands import rows, texts


class Network:
    """Knows an image's class where it has seen ``known`` updates, and else guesses class 0."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.updates = experiment, 0
        labels = np.asarray(experiment.training.labels)
        images = experiment.clean_views(np.arange(len(labels)))
        self.answers = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
        (tests,) = experiment.test_views(np.arange(len(experiment.testing)), ten=False)
        self.answers |= {i.tobytes(): int(own) for i, own in zip(tests, experiment.testing.labels, strict=True)}

    def logits(self, images: np.ndarray) -> np.ndarray:
        found = np.zeros((len(images), 20), np.float32)
        for place, image in enumerate(images):
            label = self.answers[image.tobytes()]
            found[place, label if label < 2 * self.updates else 0] = 9
        return found

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.eye(20, dtype=np.float32)[[self.answers[image.tobytes()] for image in images]]

    def gradient_norms(self) -> dict[str, float]:
        return {"conv1": float(self.updates), "fc8": 1.0}

    def kernels(self) -> np.ndarray:
        return np.full((4, 3, 5, 5), float(self.updates), np.float32)


@pytest.fixture
def experiment(data: Path) -> Experiment:
    return open_experiment(replace(CASES["tiny"], batch=32, limit=320, epochs=2), data, 0)


def test_a_run_is_looked_at_twice_an_epoch_and_at_its_ends(experiment: Experiment, tmp_path: Path) -> None:
    network = Network(experiment)
    observer = Observer(network)
    looked = []
    for done in range(1, experiment.total_steps + 1):
        network.updates = done
        if observer.looks(experiment, done):
            looked.append(done)
            observer.look(network, done)
    observer.end(network, tmp_path)
    assert looked == [1, 5, 10, 15, 20]
    checks = rows(tmp_path / "checks.csv")
    assert [row["step"] for row in checks] == [5, 10, 15, 20]
    assert [row["epochs"] for row in checks] == [0.5, 1, 1.5, 2]
    # Half of the classes are known after 5 updates, and all after 10.
    assert checks[0]["error"] == pytest.approx(0.5)
    assert [row["error"] for row in checks[1:]] == [0, 0, 0]
    assert checks[0]["loss"] > 1 > checks[1]["loss"]
    assert CHECKS == 2
    assert len(experiment.training) < CHECKED
    gradients = texts(tmp_path / "gradients.csv")
    assert [(row["step"], row["layer"], float(row["norm"])) for row in gradients] == [
        ("1", "conv1", 1.0),
        ("1", "fc8", 1.0),
        ("20", "conv1", 20.0),
        ("20", "fc8", 1.0),
    ]
    kernels = read_tensors(tmp_path / "kernels.safetensors")["conv1.weight"]
    assert kernels[:, 0, 0, 0, 0].tolist() == [0, 10, 20]


def test_neighbours_are_those_of_the_space_they_are_sought_in(experiment: Experiment, tmp_path: Path) -> None:
    network = Network(experiment)
    observer = Observer(network)
    observer.end(network, tmp_path)
    found = {row["space"]: row for row in texts(tmp_path / "neighbours.csv")}
    assert float(found["fc7"]["same_class"]) == 1
    assert int(found["fc7"]["images"]) == len(experiment.testing)
    # By hand: the share of the nearest in pixels, of the centre crops that the network sees.
    memory = experiment.clean_views(np.arange(len(experiment.training))).reshape(len(experiment.training), -1)
    (queries,) = experiment.test_views(np.arange(len(experiment.testing)), ten=False)
    same = []
    for query, label in zip(queries.reshape(len(queries), -1), experiment.testing.labels, strict=True):
        nearest = np.argsort(((memory - query) ** 2).sum(axis=1))[:NEIGHBOURS]
        same.append((experiment.labels(nearest) == label).mean())
    assert float(found["pixels"]["same_class"]) == pytest.approx(np.mean(same), abs=0.01)

"""What it means to begin with somebody's weights, the same in both backends."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from protocol.datasets.store import open_store
from protocol.exchange.model import Card, Model, Spec, write_model
from protocol.experiment.augmentation import views
from protocol.oracle.network import ForwardPass, forward, softmax
from protocol.runs.outputs import read
from protocol.runs.record import read_record
from protocol.runs.trained import trained
from tests.support.commands import Backend
from tests.support.refusals import refused

SPEC = Spec("merged", "caffe", "tiny", 20)
MEAN = np.array([120, 110, 100], np.float32)


def write(folder: Path, spec: Spec = SPEC, classes: tuple[str, ...] = (), seed: int = 8) -> Model:
    """A model with weights of its own, in ``folder``."""
    random = np.random.default_rng(seed)
    shapes = spec.network().parameter_shapes()
    tensors = {
        name: random.normal(0, 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors["conv1.weight"] /= 50
    model = Model(spec, tensors, MEAN)
    write_model(folder, model, Card(network={}, classes=list(classes), source="a test"))
    return model


class StartTests:
    """``backend`` is set by the class that inherits this."""

    backend: Backend

    def test_frozen_layers_stay_and_the_last_is_drawn_for_other_classes(self, data: Path, tmp_path: Path) -> None:
        model = write(tmp_path / "model", classes=tuple(f"other {number}" for number in range(20)))
        where = ("--start", tmp_path / "model", "--data", data, "--out", tmp_path / "run")
        self.backend.call("train", "--case", "tiny", "--epochs", 1, "--freeze", "conv1,conv2,fc6", *where, cwd=tmp_path)
        found = load_file(tmp_path / "run" / "weights.safetensors")
        for name, value in model.tensors.items():
            if name.partition(".")[0] in ("conv1", "conv2", "fc6"):
                np.testing.assert_array_equal(found[name], value)
            else:
                assert np.abs(found[name] - value).max() > 0
        alike = {
            name: np.corrcoef(found[f"{name}.weight"].ravel(), model.tensors[f"{name}.weight"].ravel())[0, 1]
            for name in ("fc7", "fc8")
        }
        assert alike["fc7"] > 0.9 > 0.3 > alike["fc8"]
        case = read_record(tmp_path / "run").case
        assert (case["frozen"], case["fresh"]) == (["conv1", "conv2", "fc6"], ["fc8"])
        assert case["start"] == json.loads((tmp_path / "model" / "card.json").read_text())["sha256"]
        assert (case["variant"], case["preset"]) == ("merged", "caffe")

        # As a model by itself it takes off what the first one did.
        with refused("began with a model", "--start"):
            trained(tmp_path / "run", data)
        made, _ = trained(tmp_path / "run", data, tmp_path / "model")
        np.testing.assert_array_equal(made.mean, MEAN)

    def test_its_outputs_are_the_oracles(self, data: Path, tmp_path: Path) -> None:
        model = write(tmp_path / "model")
        where = ("--start", tmp_path / "model", "--store", "photos-small", "--data", data, "--out", tmp_path / "out")
        self.backend.call("outputs", *where, cwd=tmp_path)
        record, arrays = read(tmp_path / "out")
        assert record.views == 1
        store = open_store(data / "photos-small")
        for split, part in ((store.train, "train"), (store.test, "test")):
            assert len(arrays[f"{part}_features"]) == len(split)
            few = np.arange(5)
            (images,) = views(split, 31, few, ten=False)
            images = images.astype(np.float64) + split.mean[2:33, 2:33].transpose(2, 0, 1) - MEAN[:, None, None]
            tensors = {name: value.astype(np.float64) for name, value in model.tensors.items()}
            seen = ForwardPass(tensors)
            logits, _ = forward(SPEC.network(), images, seen)
            np.testing.assert_allclose(arrays[f"{part}_probabilities"][few], softmax(logits), atol=1e-5)
            hidden = seen.activations["relu7"].reshape(5, -1)
            np.testing.assert_allclose(arrays[f"{part}_features"][few], hidden, atol=1e-4 * np.abs(hidden).max())

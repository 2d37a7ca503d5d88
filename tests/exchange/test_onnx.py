"""What leaves as ONNX computes, in onnxruntime, what the oracle computes from the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from paper.architecture import Network
from protocol.exchange.model import Model, Spec
from protocol.exchange.onnx_graph import write_onnx
from protocol.exchange.reading import read_foreign
from protocol.oracle.network import ForwardPass, forward
from tests.support.foreign import run

SPECS = [
    *(Spec("two_column", name, "small", 20) for name in ("paper", "chm-145", "caffe", "notes")),
    *(
        Spec(name, "paper", "small", 20)
        for name in ("merged", "half", "no_crossing", "cross_everywhere", "four_column", "cross_at=conv2", "owt")
    ),
    Spec("without_conv1", "paper", "small", 20),
    Spec("two_column", "paper", "small", 20, activation="tanh"),
    Spec("two_column", "paper", "small", 20, pool_window=2, as_147=True),
    Spec("two_column", "paper", "small", 20, activation="sigmoid", norm=False, pool_window=2, dropout=False),
]


def weights(made: Network) -> dict[str, np.ndarray]:
    random = np.random.default_rng(2)
    return {
        name: random.normal(0, 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in made.parameter_shapes().items()
    }


def model_of(spec: Spec, mean: np.ndarray | None = None) -> Model:
    return Model(spec, weights(spec.network()), np.array([120, 110, 100], np.float32) if mean is None else mean)


def expected(model: Model, images: np.ndarray) -> np.ndarray:
    """The oracle's logits, in float64."""
    mean = model.mean[:, None, None] if model.mean.ndim == 1 else model.mean
    tensors = {name: value.astype(np.float64) for name, value in model.tensors.items()}
    out, _ = forward(model.spec.network(), images.astype(np.float64) - mean, ForwardPass(tensors))
    return out


def images_for(made: Network) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, *made.input_shape)).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.variant} {spec.preset} {spec.activation}")
def test_every_layer_means_the_same_there(tmp_path: Path, spec: Spec) -> None:
    model, images = model_of(spec), images_for(spec.network())
    write_onnx(tmp_path / "model.onnx", model)
    own = expected(model, images)
    assert np.abs(run(tmp_path / "model.onnx", images) - own).max() < 1e-5 * np.abs(own).max()


def test_a_mean_image_is_taken_off_inside(tmp_path: Path) -> None:
    spec = SPECS[0]
    images = images_for(spec.network())
    model = model_of(spec, np.random.default_rng(4).uniform(90, 140, images.shape[1:]).astype(np.float32))
    write_onnx(tmp_path / "model.onnx", model)
    own = expected(model, images)
    assert np.abs(run(tmp_path / "model.onnx", images) - own).max() < 1e-5 * np.abs(own).max()


OWT = [Spec("owt", name, "small", 20) for name in ("paper", "caffe")]


@pytest.mark.parametrize("spec", [*SPECS[:3], *OWT], ids=lambda spec: f"{spec.variant} {spec.preset}")
def test_what_left_comes_back_bit_for_bit(tmp_path: Path, spec: Spec) -> None:
    model = model_of(spec)
    write_onnx(tmp_path / "model.onnx", model)
    again, _ = read_foreign(tmp_path / "model.onnx")
    assert again.spec == model.spec
    np.testing.assert_array_equal(again.mean, model.mean)
    for name, value in model.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)


def test_alpha_is_what_onnx_divides_by_the_window(tmp_path: Path) -> None:
    for name, alpha in (("paper", 5e-4), ("chm-145", 1e-4), ("caffe", 1e-4)):
        write_onnx(tmp_path / "model.onnx", model_of(Spec("two_column", name, "small", 20)))
        nodes = [node for node in onnx.load(tmp_path / "model.onnx").graph.node if node.op_type == "LRN"]
        found = {own.name: onnx.helper.get_attribute_value(own) for own in nodes[0].attribute}
        assert found["alpha"] == pytest.approx(alpha)
        assert found["bias"] == (1.0 if name == "caffe" else 2.0)


def test_another_alpha_would_be_seen(tmp_path: Path) -> None:
    """The comparison with the oracle is not blind to the norm."""
    spec = SPECS[0]
    model, images = model_of(spec), images_for(spec.network())
    write_onnx(tmp_path / "model.onnx", model)
    own = expected(model, images)
    write_onnx(tmp_path / "other.onnx", replace(model, spec=replace(spec, preset="caffe")))
    assert np.abs(run(tmp_path / "other.onnx", images) - own).max() > 1e-2 * np.abs(own).max()

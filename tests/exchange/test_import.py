"""Somebody else's weights come in and give the outputs that they are known for; what does not fit is named."""

import pickle
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from protocol.base.errors import Misuse
from protocol.base.pickles import STAND_INS, read_pickle
from protocol.exchange.model import Model, read_model, write_model
from protocol.exchange.reading import read_foreign
from protocol.oracle.network import ForwardPass, forward
from tests.support import foreign
from tests.support.refusals import refused

OWN = foreign.weights()
TOLERANCE = 1e-5  # of the largest logit


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return foreign.known(OWN)


def logits(model: Model) -> np.ndarray:
    """What the oracle makes of the images with a model's weights (3, 7): two columns share 8 units, one to spare."""
    mean = model.mean[:, None, None] if model.mean.ndim == 1 else model.mean
    images = (foreign.images() - mean).astype(np.float64)
    tensors = {name: value.astype(np.float64) for name, value in model.tensors.items()}
    out, _ = forward(model.spec.network(), images, ForwardPass(tensors))
    assert (np.exp(out[:, foreign.CLASSES :] - out.max()) == 0).all()
    return np.asarray(out[:, : foreign.CLASSES])


def write_caffe(path: Path) -> None:
    path.write_bytes(foreign.caffemodel(OWN))


def write_old_caffe(path: Path) -> None:
    path.write_bytes(foreign.caffemodel(OWN, old=True))


def write_npy(path: Path) -> None:
    foreign.write_npy(path, OWN)


def write_onnx(path: Path) -> None:
    path.write_bytes(foreign.graph(OWN).SerializeToString())


MEAN = ",".join(map(str, foreign.MEAN.tolist()))
KINDS: list[tuple[str, Callable[[Path], None], dict[str, str]]] = [
    ("net.caffemodel", write_caffe, {}),
    ("old.caffemodel", write_old_caffe, {}),
    ("net.npy", write_npy, {}),
    ("net.onnx", write_onnx, {"channels": "bgr"}),
]


@pytest.mark.parametrize(("name", "write", "flags"), KINDS, ids=[name for name, _, _ in KINDS])
def test_known_weights_give_known_outputs(
    known: np.ndarray, tmp_path: Path, name: str, write: Callable[[Path], None], flags: dict[str, str]
) -> None:
    write(tmp_path / name)
    model, card = read_foreign(tmp_path / name, mean=MEAN, **flags)
    assert (model.spec.variant, model.spec.preset, model.spec.size) == ("two_column", "caffe", "small")
    assert np.abs(logits(model) - known).max() < TOLERANCE * np.abs(known).max()
    assert any("blue, green, red" in line for line in model.said)
    write_model(tmp_path / "model", model, card)
    again, read = read_model(tmp_path / "model")
    assert read.source.startswith(name)
    for tensor, value in model.tensors.items():
        np.testing.assert_array_equal(again.tensors[tensor], value)
    assert "8 classes" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("suffix", [".npy", ".binaryproto"])
def test_a_mean_image_is_cut_to_the_crop_and_turned(known: np.ndarray, tmp_path: Path, suffix: str) -> None:
    write_caffe(tmp_path / "net.caffemodel")
    image = foreign.mean_image(36)
    if suffix == ".npy":
        np.save(tmp_path / "mean.npy", image)
    else:
        (tmp_path / "mean.binaryproto").write_bytes(foreign.binaryproto(image))
    model, _ = read_foreign(tmp_path / "net.caffemodel", mean=str(tmp_path / f"mean{suffix}"))
    assert model.mean.shape == (3, foreign.CROP, foreign.CROP)
    assert np.abs(logits(model) - known).max() < TOLERANCE * np.abs(known).max()


def test_colours_that_are_divided_divide_the_first_weights(known: np.ndarray, tmp_path: Path) -> None:
    scaled = {**OWN, "conv1": (OWN["conv1"][0] * np.array([4, 3, 2], np.float32)[:, None, None], OWN["conv1"][1])}
    (tmp_path / "net.caffemodel").write_bytes(foreign.caffemodel(scaled))
    model, _ = read_foreign(tmp_path / "net.caffemodel", mean=MEAN, deviation="2,3,4")
    assert np.abs(logits(model) - known).max() < TOLERANCE * np.abs(known).max()


def with_layer(name: str, shape: tuple[int, ...]) -> foreign.Weights:
    random = np.random.default_rng(0)
    return {**OWN, name: (random.normal(size=shape).astype("f4"), np.zeros(shape[0], "f4"))}


def test_layers_that_no_variant_has_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(foreign.caffemodel(with_layer("conv3", (96, 64, 5, 5))))
    with refused("nearest is two_column at small size", "conv3 has (96, 64, 5, 5) for (96, 64, 3, 3)"):
        read_foreign(tmp_path / "net.caffemodel")


def test_norms_that_no_preset_has_are_named(tmp_path: Path) -> None:
    model = foreign.graph(OWN, lrn={**foreign.LRN, "alpha": 2e-4})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with refused("alpha 0.0002", "no preset"):
        read_foreign(tmp_path / "net.onnx")
    (tmp_path / "net.onnx").write_bytes(foreign.graph(OWN, order=("pool", "norm", "relu")).SerializeToString())
    with refused("pool, norm, relu", "no preset"):
        read_foreign(tmp_path / "net.onnx")


def test_pooling_before_the_norm_is_caffenet(tmp_path: Path) -> None:
    order = ("relu", "pool", "norm")
    (tmp_path / "net.onnx").write_bytes(foreign.graph(OWN, order=order).SerializeToString())
    model, _ = read_foreign(tmp_path / "net.onnx", channels="bgr", mean=MEAN)
    assert model.spec.preset == "caffenet"
    centred = foreign.images() - foreign.MEAN[:, None, None]
    own = foreign.run(foreign.graph(OWN, order=order).SerializeToString(), np.ascontiguousarray(centred[:, ::-1]))
    assert np.abs(logits(model) - own).max() < TOLERANCE * np.abs(own).max()


def test_what_is_done_to_images_is_not_dropped(tmp_path: Path) -> None:
    model = foreign.graph(OWN)
    model.graph.node.insert(0, onnx.helper.make_node("Div", ["data", "conv1_b"], ["divided"]))
    model.graph.node[1].input[0] = "divided"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with refused("before the first convolution", "Div"):
        read_foreign(tmp_path / "net.onnx")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (print, ("run",), None, None, None) if self.mark is None else (Path.touch, (self.mark,))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    for name, held in (("net.npy", {"conv1": Hostile(mark)}), ("net.pth", {"conv1.weight": Hostile(mark)})):
        if name == "net.npy":
            with (tmp_path / name).open("wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
                pickle.dump(np.array(held, object), file, protocol)
        else:
            (tmp_path / name).write_bytes(pickle.dumps(held, protocol))
        with refused(name, "not run"):
            read_foreign(tmp_path / name)
        assert not mark.exists()


HOSTILE = {
    "a memo of four billion places": b"\x80\x02K\x01r\xff\xff\xff\x0f.",
    # numpy.core.multiarray._reconstruct, told to be something else
    "a state for a stand-in": b"\x80\x02cnumpy\nndarray\n}X\x08\x00\x00\x00__init__K\x01sb.",
    "a state for a function": b"\x80\x02c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__K\x01s\x86b.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_alters_nothing_and_takes_no_more_than_it_holds(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(Misuse):
        read_pickle(HOSTILE[name], "it")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert STAND_INS["_codecs", "encode"].__defaults__ == ("latin-1",)
    assert "__init__" not in vars(STAND_INS["numpy", "ndarray"])


def test_what_is_held_many_times_is_unwrapped_once() -> None:
    own: Any = [1, 2]
    for _ in range(15):
        own = [own] * 8
    read_pickle(pickle.dumps(own), "it")  # 8 ** 15 lists, if each were made anew


@pytest.mark.parametrize("change", ["alpha", "beta", "stride", "pool"])
def test_a_graph_that_does_something_else_between_its_layers_is_refused(tmp_path: Path, change: str) -> None:
    model = foreign.graph(OWN)
    by_kind = {node.op_type: node for node in model.graph.node}
    if change == "alpha":
        by_kind["Gemm"].attribute.append(onnx.helper.make_attribute("alpha", 0.5))
    elif change == "beta":
        by_kind["Gemm"].attribute.append(onnx.helper.make_attribute("beta", 0.0))
    elif change == "stride":  # the last pooling goes on by one pixel less, over a window of one more
        pools = [node for node in model.graph.node if node.op_type == "MaxPool"]
        pools[-1].ClearField("attribute")
        pools[-1].attribute.append(onnx.helper.make_attribute("kernel_shape", [2, 2]))
        pools[-1].attribute.append(onnx.helper.make_attribute("strides", [2, 2]))
    else:
        by_kind["MaxPool"].op_type = "AveragePool"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with refused("net.onnx", "between its layers"):
        read_foreign(tmp_path / "net.onnx", channels="bgr")


@pytest.mark.parametrize(("name", "write", "flags"), KINDS, ids=[name for name, _, _ in KINDS])
def test_a_cut_or_damaged_file_is_refused_in_a_sentence(
    tmp_path: Path, name: str, write: Callable[[Path], None], flags: dict[str, str]
) -> None:
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0, 0.001, 0.3, 0.99):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with refused(name):
            read_foreign(tmp_path / name, **flags)
    random = np.random.default_rng(1)
    for _ in range(20):
        data = bytearray(whole)
        for place in random.integers(0, min(4000, len(data)), 8):
            data[place] = random.integers(0, 256)
        (tmp_path / name).write_bytes(bytes(data))
        with suppress(Misuse):  # what it hit may have been weights
            read_foreign(tmp_path / name, **flags)


def test_wrong_flags_are_refused(tmp_path: Path) -> None:
    write_caffe(tmp_path / "net.caffemodel")
    for flags, words in (
        ({"channels": "cmyk"}, ("--channels", "rgb or bgr")),
        ({"mean": "1,2"}, ("--mean", "three numbers")),
        ({"mean": "nan,1,2"}, ("--mean", "three numbers")),
        ({"mean": "absent.npy"}, ("no file absent.npy",)),
        ({"deviation": "1,0,1"}, ("--deviation", "0.001 or more")),
        ({"preset_name": "nope"}, ("there is no preset 'nope'",)),
    ):
        with refused(*words):
            read_foreign(tmp_path / "net.caffemodel", **flags)
    with refused("no known kind", ".caffemodel"):
        read_foreign(tmp_path / "net.h5")
    with refused("no file"):
        read_foreign(tmp_path / "absent.pth")
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with refused("dictionary of layers"):
        read_foreign(tmp_path / "flat.npy")
    with refused("mean"):
        read_foreign(tmp_path / "net.caffemodel", mean=str(tmp_path / "flat.npy"))


def test_an_altered_model_is_refused(tmp_path: Path) -> None:
    write_caffe(tmp_path / "net.caffemodel")
    write_model(tmp_path / "model", *read_foreign(tmp_path / "net.caffemodel"))
    path = tmp_path / "model" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with refused("weights.safetensors", "altered"):
        read_model(tmp_path / "model")
    with refused("no model", "import"):
        read_model(tmp_path / "absent")

"""Somebody else's AlexNet at a quarter of its width, written down without this project's layer tables.

Its known outputs are onnxruntime's. It is Caffe's network: two groups, BGR, response norm over all maps, k = 1.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CROP, CLASSES, IMAGES = 31, 7, 3
MEAN = np.array([121.5, 117.25, 104.75], np.float32)  # red first
# By layer: weights as (maps, maps read, rows, columns), and the groups of the convolution.
SHAPES = {
    "conv1": ((24, 3, 5, 5), 1),
    "conv2": ((64, 12, 5, 5), 2),
    "conv3": ((96, 64, 3, 3), 1),
    "conv4": ((96, 48, 3, 3), 2),
    "conv5": ((64, 48, 3, 3), 2),
    "fc6": ((1024, 64 * 9), 1),
    "fc7": ((1024, 1024), 1),
    "fc8": ((CLASSES, 1024), 1),
}
PADS = {"conv1": 2, "conv2": 2, "conv3": 1, "conv4": 1, "conv5": 1}
ORDER = ("relu", "norm", "pool")  # what follows conv1 and conv2
LRN = {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0}

Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def weights() -> Weights:
    """Weights that keep activations of moderate size, so that no layer is idle."""
    random = np.random.default_rng(5)
    made: Weights = {}
    for name, (shape, _) in SHAPES.items():
        deviation = np.sqrt(2 / np.prod(shape[1:])) * (0.02 if name == "conv1" else 1)
        weight = random.normal(0, deviation, shape).astype(np.float32)
        made[name] = (weight, random.normal(0, 0.1, shape[0]).astype(np.float32))
    return made


def images() -> np.ndarray:
    """RGB images (3, 3, 31, 31) of 0 to 255."""
    return np.random.default_rng(6).integers(0, 256, (IMAGES, 3, CROP, CROP)).astype(np.float32)


def graph(own: Weights, order: tuple[str, ...] = ORDER, lrn: dict[str, Any] = LRN) -> onnx.ModelProto:
    """Its graph; what it reads has its mean taken off, and colours in its own order."""
    nodes, numbers, value = [], [], "data"

    def node(kind: str, name: str, *more: str, **attributes: Any) -> None:
        nonlocal value
        nodes.append(helper.make_node(kind, [value, *more], [name], name=name, **attributes))
        value = name

    for name, (weight, bias) in own.items():
        numbers += [numpy_helper.from_array(weight, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")]
        if name == "fc6":
            node("Flatten", "flat")
        if name.startswith("conv"):
            pads = [PADS[name]] * 4
            node("Conv", name, f"{name}_w", f"{name}_b", pads=pads, group=SHAPES[name][1])
        else:
            node("Gemm", name, f"{name}_w", f"{name}_b", transB=1)
        steps = {"conv1": order, "conv2": order, "conv5": ("relu", "pool"), "fc8": ()}.get(name, ("relu",))
        for step in steps:
            if step == "norm":
                node("LRN", f"{name}_norm", **lrn)
            elif step == "relu":
                node("Relu", f"{name}_relu")
            else:
                node("MaxPool", f"{name}_pool", kernel_shape=[3, 3], strides=[2, 2])
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, CROP, CROP])
    out = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", CLASSES])
    made = helper.make_graph(nodes, "somebody's", [data], [out], numbers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model: bytes | Path, given: np.ndarray) -> np.ndarray:
    """The first output of a model for images, by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (name,) = (own.name for own in session.get_inputs())
    return np.asarray(session.run(None, {name: given})[0])


def known(own: Weights) -> np.ndarray:
    """Logits (3, 7) for :func:`images`, which it reads as blue, green, red, less its mean."""
    centred = images() - MEAN[:, None, None]
    return run(graph(own).SerializeToString(), np.ascontiguousarray(centred[:, ::-1]))


# Protocol buffers by hand, so that what reads them is not what wrote them.


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, data: bytes | str | int | float) -> bytes:
    if isinstance(data, int):
        return _varint(number << 3) + _varint(data)
    if isinstance(data, float):
        return _varint(number << 3 | 5) + struct.pack("<f", data)
    raw = data.encode() if isinstance(data, str) else data
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _blob(value: np.ndarray, old: bool) -> bytes:
    numbers = _field(5, value.astype("<f4").tobytes())
    if old:
        shape = (1,) * (4 - value.ndim) + value.shape
        return b"".join(_field(number, size) for number, size in enumerate(shape, start=1)) + numbers
    return numbers + _field(7, _field(1, b"".join(_varint(size) for size in value.shape)))


def caffemodel(own: Weights, *, old: bool = False) -> bytes:
    """The network as Caffe writes it, in its old shape or its new one."""
    kinds = {"conv": ("Convolution", 4), "fc": ("InnerProduct", 14), "norm": ("LRN", 15), "pool": ("Pooling", 17)}
    kinds["relu"] = ("ReLU", 18)
    out = _field(1, "somebody's")

    def layer(name: str, kind: str, blobs: list[np.ndarray], settings: bytes = b"") -> None:
        nonlocal out
        new, number = kinds[kind]
        held = [_blob(blob, old) for blob in blobs]
        if old:
            body = _field(4, name) + _field(5, number) + b"".join(_field(6, own) for own in held)
            out += _field(2, body + (_field(18, settings) if settings else b""))
        else:
            body = _field(1, name) + _field(2, new) + b"".join(_field(7, own) for own in held)
            out += _field(100, body + (_field(118, settings) if settings else b""))

    lrn = _field(1, 5) + _field(2, 1e-4) + _field(3, 0.75)  # k is left at its default
    for name, (weight, bias) in own.items():
        layer(name, "conv" if name.startswith("conv") else "fc", [weight, bias])
        for step in {"conv1": ORDER, "conv2": ORDER, "conv5": ("relu", "pool"), "fc8": ()}.get(name, ("relu",)):
            layer(f"{step}{name[-1]}", step, [], lrn if step == "norm" else b"")
    return out


def mean_image(edge: int) -> np.ndarray:
    """A mean image (3, edge, edge), blue first, whose every pixel is :data:`MEAN`."""
    return np.broadcast_to(MEAN[::-1, None, None], (3, edge, edge)).copy()


def binaryproto(image: np.ndarray) -> bytes:
    return _blob(image[None], old=True)


def write_npy(path: Path, own: Weights) -> None:
    """As caffe-tensorflow writes it: convolutions (rows, columns, maps read, maps); fc6 reads pool5 pixel by pixel."""
    held: dict[str, Any] = {}
    for name, (weight, bias) in own.items():
        if name.startswith("conv"):
            held[name] = [np.ascontiguousarray(weight.transpose(2, 3, 1, 0)), bias]
        elif name == "fc6":
            by_pixel = weight.reshape(len(weight), 64, 3, 3).transpose(2, 3, 1, 0).reshape(64 * 9, -1)
            held[name] = [np.ascontiguousarray(by_pixel), bias]
        else:
            held[name] = [np.ascontiguousarray(weight.T), bias]
    np.save(path, np.array(held, object), allow_pickle=True)

"""Caffe's ``.caffemodel``: a protocol buffer with each layer's settings and blobs, in its old or its new shape."""

from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line
from protocol.exchange.foreign import CAFFE_INPUT, Foreign, ForeignLayer, ForeignNorm, alexnets

Field = descriptor_pb2.FieldDescriptorProto
# Of caffe.proto, the messages and fields that hold weights, and what shape a network has: name, number, type.
# ``data`` is there a packed list of floats, which has the same bytes as a string of them.
SCHEMA: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Shape": (("dim", 1, "*int64"),),
    "Blob": (
        ("num", 1, "int32"),
        ("channels", 2, "int32"),
        ("height", 3, "int32"),
        ("width", 4, "int32"),
        ("data", 5, "bytes"),
        ("shape", 7, "Shape"),
        ("double_data", 8, "bytes"),
    ),
    "Norm": (("local_size", 1, "uint32"), ("alpha", 2, "float"), ("beta", 3, "float"), ("k", 5, "float")),
    "NewLayer": (("name", 1, "string"), ("type", 2, "string"), ("blobs", 7, "*Blob"), ("norm", 118, "Norm")),
    "OldLayer": (("name", 4, "string"), ("type", 5, "int32"), ("blobs", 6, "*Blob"), ("norm", 18, "Norm")),
    "Net": (("layers", 2, "*OldLayer"), ("layer", 100, "*NewLayer")),
}
# What a layer does: by its type in the new shape, and by its number in the old one.
CONVOLUTION, INNER, NORM = ("Convolution", 4), ("InnerProduct", 14), ("LRN", 15)
STEPS = {"LRN": "norm", 15: "norm", "Pooling": "pool", 17: "pool", "ReLU": "relu", 18: "relu"}
NORM_DEFAULTS = {"local_size": 5, "alpha": 1.0, "beta": 0.75, "k": 1.0}


@lru_cache(maxsize=1)
def messages() -> dict[str, Any]:
    """The messages of :data:`SCHEMA`, as classes."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_subset.proto", package="subset", syntax="proto2")
    for message, fields in SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
            own = made.field.add(name=name, number=number, label=label)
            bare = kind.removeprefix("*")
            if bare in SCHEMA:
                own.type, own.type_name = Field.TYPE_MESSAGE, f".subset.{bare}"
            else:
                own.type = getattr(Field, f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"subset.{name}")) for name in SCHEMA}


def read(path: Path) -> Foreign:
    """The weights of a ``.caffemodel``.

    Raises:
        Misuse: it is none, or not of an AlexNet.
    """
    net = _parsed("Net", path)
    own = list(net.layer) or list(net.layers)
    layers = [_layer(layer, path) for layer in own if layer.blobs and layer.type in (*CONVOLUTION, *INNER)]
    norms = [_norm(layer) for layer in own if layer.type in NORM]
    if len(set(norms)) > 1:
        raise Misuse(f"{path} has response norms with different constants, which no preset has")
    said = "dense weights are taken as (units, units read), as Caffe keeps them"
    return Foreign("caffe", alexnets(layers, path), CAFFE_INPUT, norms[0] if norms else None, _order(own), (said,))


def read_mean(path: Path) -> np.ndarray:
    """A ``.binaryproto``: a mean image (3, rows, columns), blue first as Caffe has it.

    Raises:
        Misuse: it is none.
    """
    found = _blob(_parsed("Blob", path), path, "it")
    if found.ndim != 4 or found.shape[:2] != (1, 3):
        raise Misuse(f"{path} holds no mean image of three colours, but a blob of shape {found.shape}")
    return found[0]


def _parsed(message: str, path: Path) -> Any:
    made = messages()[message]()
    try:
        made.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise Misuse(f"{path} is not a file of Caffe's ({one_line(error)})") from None
    return made


def _layer(layer: Any, path: Path) -> ForeignLayer:
    if len(layer.blobs) != 2:
        raise Misuse(f"{path}: {layer.name} has {len(layer.blobs)} blobs, where weights and biases are expected")
    weight, bias = (_blob(blob, path, layer.name) for blob in layer.blobs)
    if layer.type in INNER:
        if weight.ndim < 2 or prod(weight.shape[:-2]) != 1:
            raise Misuse(f"{path}: {layer.name} has weights of shape {weight.shape}, where units and units read belong")
        weight = weight.reshape(weight.shape[-2:])  # old files have (1, 1, units, units read)
    return ForeignLayer(layer.name, weight, bias.reshape(-1))


def _blob(blob: Any, path: Path, name: str) -> np.ndarray:
    raw, kind = (blob.data, np.dtype("<f4")) if blob.data else (blob.double_data, np.dtype("<f8"))
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    count = prod(shape) if 0 < len(shape) <= 4 and min(shape) > 0 else -1
    if count * kind.itemsize != len(raw):
        raise Misuse(f"{path}: {name} has a blob of {len(raw)} bytes, but says that its shape is {shape}")
    data = np.frombuffer(raw, kind)
    return data.reshape(shape)


def _norm(layer: Any) -> ForeignNorm:
    told = {name: getattr(layer.norm, name) for name in NORM_DEFAULTS if layer.norm.HasField(name)}
    size, alpha, beta, k = (NORM_DEFAULTS | told).values()
    return ForeignNorm.divided(int(size), alpha, beta, k)


def _order(layers: list[Any]) -> tuple[str, ...] | None:
    """What follows the first convolution, up to the second."""
    places = [place for place, layer in enumerate(layers) if layer.type in CONVOLUTION and layer.blobs]
    if len(places) < 2:
        return None
    steps = tuple(STEPS[layer.type] for layer in layers[places[0] + 1 : places[1]] if layer.type in STEPS)
    return steps or None

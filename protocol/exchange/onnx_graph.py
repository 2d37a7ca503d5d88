"""A model as an ONNX file: images (N, 3, crop, crop) of 0 to 255, red first, in; logits and probabilities out.

Dropout at test halves its input where the network was trained as the paper says, and does nothing where survivors were
doubled in training. A response norm that keeps to its column is one for each column's maps.
"""

from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Norm, Pool, SpatialNorm
from protocol.base.files import replacing
from protocol.exchange.model import Model

OPSET = 17
IR_VERSION = 9  # as old as the operators allow, so that older runtimes read it
FUNCTIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


class Graph:
    """Nodes and numbers, as layers add them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.numbers: list[Any] = []

    def number(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Append a node with one output, which has its name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name


@singledispatch
def append(layer: Layer, graph: Graph, value: str, model: Model) -> str:
    """Append a layer that reads ``value``; return what it makes."""
    raise NotImplementedError(type(layer).__name__)


@append.register
def _(layer: Conv, graph: Graph, value: str, model: Model) -> str:
    inputs = [value, *(graph.number(f"{layer.name}.{kind}", model.tensors[f"{layer.name}.{kind}"]) for kind in KINDS)]
    end = layer.pad + layer.pad_end
    return graph.node(
        "Conv",
        inputs,
        layer.name,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.pad, layer.pad, end, end],
        group=layer.groups,
    )


@append.register
def _(layer: Dense, graph: Graph, value: str, model: Model) -> str:
    weight, bias = (model.tensors[f"{layer.name}.{kind}"] for kind in KINDS)
    maps, rows, columns = layer.shape_in
    if layer.groups == 1:
        flat = graph.node("Flatten", [value], f"{layer.name}.read")
        inputs = [flat, graph.number(f"{layer.name}.weight", weight), graph.number(f"{layer.name}.bias", bias)]
        return graph.node("Gemm", inputs, layer.name, transB=1)
    # A dense layer of several columns is a convolution in groups whose kernel covers its input.
    shape = graph.number(f"{layer.name}.shape", (-1, maps, rows, columns), np.int64)
    image = graph.node("Reshape", [value, shape], f"{layer.name}.read")
    kernels = weight.reshape(len(weight), maps // layer.groups, rows, columns)
    inputs = [image, graph.number(f"{layer.name}.weight", kernels), graph.number(f"{layer.name}.bias", bias)]
    made = graph.node("Conv", inputs, f"{layer.name}.units", kernel_shape=[rows, columns], group=layer.groups)
    return graph.node("Flatten", [made], layer.name)


@append.register
def _(layer: Activation, graph: Graph, value: str, model: Model) -> str:
    return graph.node(FUNCTIONS[layer.function], [value], layer.name)


@append.register
def _(layer: Norm, graph: Graph, value: str, model: Model) -> str:
    scale = layer.scale
    # ONNX divides alpha by the number of maps.
    constants = {"size": scale.size, "alpha": scale.sum_scale * scale.size, "beta": scale.beta, "bias": scale.k}
    if layer.groups == 1:
        return graph.node("LRN", [value], layer.name, **constants)
    parts = [f"{layer.name}.column{column}" for column in range(layer.groups)]
    graph.nodes.append(helper.make_node("Split", [value], parts, name=f"{layer.name}.split", axis=1))
    normed = [graph.node("LRN", [part], f"{part}.normed", **constants) for part in parts]
    return graph.node("Concat", normed, layer.name, axis=1)


@append.register
def _(layer: SpatialNorm, graph: Graph, value: str, model: Model) -> str:
    squares = graph.node("Mul", [value, value], f"{layer.name}.squares")
    around = layer.size // 2
    mean = graph.node(
        "AveragePool",
        [squares],
        f"{layer.name}.mean",
        kernel_shape=[layer.size] * 2,
        pads=[around] * 4,
        strides=[1, 1],
        count_include_pad=1,
    )
    # The mean over size x size places is the sum over size^2, and the sum is what is scaled by 1 / size^2.
    scaled = graph.node("Mul", [mean, graph.number(f"{layer.name}.scale", layer.scale)], f"{layer.name}.scaled")
    base = graph.node("Add", [scaled, graph.number(f"{layer.name}.k", layer.k)], f"{layer.name}.base")
    power = graph.node("Pow", [base, graph.number(f"{layer.name}.beta", -layer.beta)], f"{layer.name}.power")
    return graph.node("Mul", [value, power], layer.name)


@append.register
def _(layer: Pool, graph: Graph, value: str, model: Model) -> str:
    return graph.node(
        "MaxPool",
        [value],
        layer.name,
        kernel_shape=[layer.window] * 2,
        strides=[layer.stride] * 2,
        ceil_mode=int(layer.pad_end > 0),
    )


@append.register
def _(layer: Dropout, graph: Graph, value: str, model: Model) -> str:
    if layer.inverted:
        return value
    return graph.node("Mul", [value, graph.number(f"{layer.name}.half", 0.5)], layer.name)


KINDS = ("weight", "bias")


def write_onnx(path: Path, model: Model) -> None:
    """Write ``model`` to ``path``, checked by onnx's own rules."""
    made, graph = model.spec.network(), Graph()
    mean = model.mean[:, None, None] if model.mean.ndim == 1 else model.mean
    value = graph.node("Sub", ["images", graph.number("input.mean", mean)], "centred")
    for layer in made:
        value = append(layer, graph, value, model)
    graph.node("Identity", [value], "logits")
    graph.node("Softmax", ["logits"], "probabilities", axis=1)
    described = helper.make_graph(
        graph.nodes,
        f"alexnet-{model.spec.variant}",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *made.input_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", made.classes])
            for name in ("logits", "probabilities")
        ],
        graph.numbers,
    )
    whole = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(whole, full_check=True)
    with replacing(path) as draft:
        onnx.save(whole, draft)

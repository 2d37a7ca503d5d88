"""Weights out of an ONNX file: the convolutions, dense layers and response norms among its nodes, in their order."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line
from protocol.exchange.foreign import Foreign, ForeignLayer, ForeignNorm, Input, alexnets

STEPS = {"Relu": "relu", "LRN": "norm", "MaxPool": "pool"}


def read(path: Path) -> Foreign:
    """The weights of an ONNX file, which says nothing of colours: RGB with nothing taken off, unless flags say more.

    Raises:
        Misuse: it is none, or not of an AlexNet.
    """
    try:
        model = onnx.load(path)
        numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = list(model.graph.node)
        numbers |= {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in nodes
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
        }
    # What a damaged or hostile file makes the library raise, a file with its numbers elsewhere among them.
    except (DecodeError, ValueError, TypeError, OSError, KeyError, onnx.checker.ValidationError) as error:
        raise Misuse(f"{path} cannot be read as ONNX ({one_line(error)})") from None
    layers = [layer for node in nodes if (layer := _layer(node, nodes, numbers)) is not None]
    first = _after_first(nodes)
    parts = sum(node.op_type == "LRN" for node in first)
    norms = {_norm(node, parts) for node in nodes if node.op_type == "LRN"}
    if len(norms) > 1:
        raise Misuse(f"{path} has response norms with different constants, which no preset has")
    # Of a norm in parts, one after the other, the steps are told once.
    steps = [STEPS[node.op_type] for node in first if node.op_type in STEPS]
    order = tuple(step for place, step in enumerate(steps) if steps[max(0, place - 1) : place] != [step])
    own = _input(nodes, numbers, path)
    return Foreign("onnx", alexnets(layers, path), own, norms.pop() if norms else None, order or None)


def _input(nodes: list[Any], numbers: dict[str, np.ndarray], path: Path) -> Input:
    """What is done to images before the first convolution: a mean may be taken off, and no more.

    Raises:
        Misuse: more is done.
    """
    before: list[Any] = []
    for node in nodes:
        if node.op_type == "Conv":
            break
        if node.op_type != "Constant":
            before.append(node)
    mean = np.zeros(3, np.float32)
    if [node.op_type for node in before] == ["Sub"] and before[0].input[1] in numbers:
        mean = np.asarray(numbers[before[0].input[1]], np.float32)
        mean = mean.reshape(3) if mean.size == 3 else mean.reshape(mean.shape[-3:])
    elif before:
        kinds = ", ".join(node.op_type for node in before)
        raise Misuse(f"{path} does to its images, before the first convolution, what a model of ours cannot: {kinds}")
    return Input.of("rgb", mean)


def _layer(node: Any, nodes: list[Any], numbers: dict[str, np.ndarray]) -> ForeignLayer | None:
    """A node as a layer with weights, if it is one."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.input[1] not in numbers:
        return None
    weight = np.asarray(numbers[node.input[1]], np.float32)
    bias = numbers.get(node.input[2]) if len(node.input) > 2 else None
    if node.op_type == "MatMul":
        # Its biases are added by the node that reads it.
        added = next((other for other in nodes if other.op_type == "Add" and node.output[0] in other.input), None)
        bias = next((numbers[name] for name in added.input if name in numbers), None) if added else None
    if weight.ndim == 2 and not (node.op_type == "Gemm" and _attribute(node, "transB", 0)):
        weight = weight.T
    made = np.zeros(len(weight), np.float32) if bias is None else np.asarray(bias, np.float32).reshape(-1)
    return ForeignLayer(node.name or node.input[1], weight, made)


def _attribute(node: Any, name: str, otherwise: Any) -> Any:
    return next((onnx.helper.get_attribute_value(own) for own in node.attribute if own.name == name), otherwise)


def _norm(node: Any, parts: int) -> ForeignNorm:
    alpha, beta, k = (_attribute(node, name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return ForeignNorm.divided(int(_attribute(node, "size", 5)), alpha, beta, k, parts)


def _after_first(nodes: list[Any]) -> list[Any]:
    """What follows the first convolution, up to the second."""
    places = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
    return nodes[places[0] + 1 : places[1]] if len(places) > 1 else []

"""The ``.npy`` of fine-tuning repositories: a pickled dictionary of layers in TensorFlow's layout. None of it is run.

    {"conv1": [weights (rows, columns, maps read, maps), biases], ...,
     "fc6": [weights (units read, units), biases], ...}

caffe-tensorflow made it from Caffe's bvlc_alexnet: colours stay BGR, and fc6 reads pool5 pixel by pixel.
"""

import io
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from paper.recipe import LAYERS
from protocol.base.errors import Misuse
from protocol.base.pickles import read_pickle
from protocol.base.sealed import one_line
from protocol.exchange.foreign import CAFFE_INPUT, Foreign, ForeignLayer, ForeignNorm, alexnets

BVLC_NORM = ForeignNorm(5, 2e-05, 0.75, 1.0)  # what the network that such files come from has


def read(path: Path) -> Foreign:
    """The weights of such a file.

    Raises:
        Misuse: it is none, names code to run, or is not of an AlexNet.
    """
    # From memory, where no length that a damaged header names is made room for.
    file = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    except (ValueError, SyntaxError, TypeError, EOFError, TokenError) as error:
        raise Misuse(f"{path} is not a file of numpy ({one_line(error)})") from None
    if not dtype.hasobject or shape != ():
        raise Misuse(f"{path} holds an array {shape} of {dtype}, where a dictionary of layers is expected")
    held = read_pickle(file.read(), str(path))
    # numpy pickles an array that holds one object: the dictionary.
    if isinstance(held, list) and len(held) == 1:
        held = held[0]
    if not isinstance(held, dict):
        raise Misuse(f"{path} does not hold a dictionary of layers")
    named = {str(name): value for name, value in held.items()}
    if missing := [name for name in LAYERS if name not in named]:
        raise Misuse(f"{path} holds no layer {', '.join(missing)}, but {', '.join(list(named)[:12])}")
    layers = [_layer(name, named[name], path) for name in LAYERS]
    rows = _rows_before(layers)
    first = layers[5]
    # Pixel by pixel, each with all of its maps, is turned into map by map.
    dense = first.weight.reshape(len(first.weight), rows, rows, -1).transpose(0, 3, 1, 2).reshape(first.weight.shape)
    layers[5] = ForeignLayer(first.name, np.ascontiguousarray(dense), first.bias)
    said = ("convolutions turned from (rows, columns, maps read, maps)", "fc6 turned to read pool5 map by map")
    order = ("relu", "norm", "pool")
    return Foreign("npy", alexnets(layers, path), CAFFE_INPUT, BVLC_NORM, order, said)


def _layer(name: str, held: Any, path: Path) -> ForeignLayer:
    try:
        if isinstance(held, dict):
            held = [held["weights"], held["biases"]]
        weight, bias = (np.asarray(value, np.float32) for value in held)
    except (TypeError, ValueError, KeyError) as error:
        raise Misuse(f"{path}: {name} does not hold weights and biases ({one_line(error)})") from None
    if weight.ndim != (4 if name.startswith("conv") else 2) or not weight.size:
        raise Misuse(f"{path}: {name} has weights of shape {weight.shape}")
    return ForeignLayer(name, weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T, bias.reshape(-1))


def _rows_before(layers: list[ForeignLayer]) -> int:
    """Rows of pool5, from what fc6 reads of it."""
    read, maps = layers[5].weight.shape[1], layers[4].weight.shape[0]
    rows = round((read / maps) ** 0.5)
    if rows * rows * maps != read:
        raise Misuse(f"fc6 reads {read} units, which are no square of {maps} maps")
    return rows

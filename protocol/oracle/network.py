"""The float64 numpy network, with gradients: the oracle that both backends answer to.

Written for clarity and exactness, from the layer table alone: each layer is a forward function that returns its
output and a backward function. In float32 it serves to measure what that precision costs.

Two of the paper's layers make yes-or-no choices, which rounding can tip: the sign that ReLU sees, and the place a
maximum is taken from. ``Choices`` records them, and a network told to keep to recorded choices is smooth.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from paper.architecture import Activation, Conv, Dense, Dropout, Layer, Local, Network, Norm, Pool, SpatialNorm
from paper.recipe import Preset

PIECE = 1 << 16  # parameters updated at once
Arrays = dict[str, np.ndarray]
Backward = Callable[[np.ndarray], np.ndarray]


@dataclass
class ForwardPass:
    """What one forward pass reads and leaves behind.

    ``masks``: which units dropout keeps, by layer, or None at test. ``imposed``: choices to keep to. ``choices``:
    those made, by layer: ReLU's signs as bool like its output, pooling's place within the window as uint8. ``margins``:
    by layer, how near a choice must be to the other to be made the other way; ``coin``: of those, a random half are.
    ``to_images``: whether the backward pass goes on through the first layer, which training has no use for.
    """

    weights: Arrays
    masks: Arrays | None = None
    imposed: Arrays | None = None
    margins: dict[str, float] = field(default_factory=dict)
    coin: np.random.Generator | None = None
    to_images: bool = True
    choices: Arrays = field(default_factory=dict)
    gradients: Arrays = field(default_factory=dict)
    activations: Arrays = field(default_factory=dict)
    images: np.ndarray | None = None

    def tips(self, layer: Layer, distance: np.ndarray) -> np.ndarray:
        """Which choices of a layer are made the other way, that being so far off."""
        near: np.ndarray = distance <= self.margins[layer.name]
        return near if self.coin is None else near & (self.coin.random(near.shape) < 0.5)


def forward(network: Network, images: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    """Logits (batch, classes) of ``images`` (batch, 3, rows, columns), and the function that takes their gradient.

    That function fills ``run.gradients`` and returns the gradient by the images, unless ``run.to_images`` is off.
    """
    steps: list[Backward] = []
    values = run.images = _images_innermost(images)
    for layer in network:
        values, back = apply_layer(layer, values, run)
        run.activations[layer.name] = values
        steps.append(back)

    def backward(gradient: np.ndarray) -> np.ndarray:
        for back in reversed(steps):
            gradient = back(gradient)
        return gradient

    return values, backward


def _images_innermost(values: np.ndarray) -> np.ndarray:
    """The same values (batch, maps, rows, columns) in cuda-convnet's order of memory, which every layer keeps.

    What all images have at one place lies side by side: numpy works along memory, and a small map's rows are short.
    """
    return np.ascontiguousarray(values.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)


@singledispatch
def apply_layer(layer: Layer, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    raise TypeError(f"the oracle does not know {type(layer).__name__}")


@apply_layer.register
def _conv(layer: Conv, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    weight, bias = run.weights[f"{layer.name}.weight"], run.weights[f"{layer.name}.bias"]
    batch, size, step, groups = len(x), layer.kernel, layer.stride, layer.groups
    maps, rows, _ = layer.shape_out
    edge = (layer.pad, layer.pad + layer.pad_end)
    padded = np.pad(x.transpose(1, 2, 3, 0), ((0, 0), edge, edge, (0, 0)))  # (maps, rows, columns, batch)
    windows = sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::step, ::step]
    # One matrix a group: (groups, inputs of a group * size * size, rows * rows * batch)
    patches = windows.transpose(0, 4, 5, 1, 2, 3).reshape(groups, -1, rows * rows * batch)
    matrix = weight.reshape(groups, maps // groups, -1)
    out = (matrix @ patches).reshape(maps, rows, rows, batch).transpose(3, 0, 1, 2) + bias[:, None, None]

    def backward(gradient: np.ndarray) -> np.ndarray:
        flat = gradient.transpose(1, 2, 3, 0).reshape(groups, maps // groups, -1)
        run.gradients[f"{layer.name}.weight"] = (flat @ patches.transpose(0, 2, 1)).reshape(weight.shape)
        run.gradients[f"{layer.name}.bias"] = gradient.sum(axis=(0, 2, 3))
        if not run.to_images and x is run.images:
            return gradient
        spread = (matrix.transpose(0, 2, 1) @ flat).reshape(-1, size, size, rows, rows, batch)
        total = np.zeros_like(padded)
        reach = (rows - 1) * step + 1
        for i in range(size):
            for j in range(size):
                total[:, i : i + reach : step, j : j + reach : step] += spread[:, i, j]
        inside = slice(edge[0], total.shape[1] - edge[1])
        return total[:, inside, inside].transpose(3, 0, 1, 2)

    return out, backward


@apply_layer.register
def _local(layer: Local, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    weight, bias = run.weights[f"{layer.name}.weight"], run.weights[f"{layer.name}.bias"]
    batch, size, pad = len(x), layer.kernel, layer.pad
    maps, rows, columns = layer.shape_out
    padded = np.pad(x.transpose(1, 2, 3, 0), ((0, 0), (pad, pad), (pad, pad), (0, 0)))  # (maps, rows, columns, batch)
    windows = sliding_window_view(padded, (size, size), axis=(1, 2))
    # One matrix a place: (places, inputs of a kernel, batch), and (places, maps, inputs of a kernel)
    patches = windows.transpose(1, 2, 0, 4, 5, 3).reshape(rows * columns, -1, batch)
    matrix = weight.reshape(maps, rows * columns, -1).transpose(1, 0, 2)
    out = (matrix @ patches).transpose(2, 1, 0).reshape(batch, *layer.shape_out) + bias

    def backward(gradient: np.ndarray) -> np.ndarray:
        flat = gradient.reshape(batch, maps, -1).transpose(2, 1, 0)  # (places, maps, batch)
        of_weight = (flat @ patches.transpose(0, 2, 1)).transpose(1, 0, 2)
        run.gradients[f"{layer.name}.weight"] = of_weight.reshape(weight.shape)
        run.gradients[f"{layer.name}.bias"] = gradient.sum(axis=0)
        spread = (matrix.transpose(0, 2, 1) @ flat).reshape(rows, columns, -1, size, size, batch)
        total = np.zeros_like(padded)
        for i in range(size):
            for j in range(size):
                total[:, i : i + rows, j : j + columns] += spread[:, :, :, i, j].transpose(2, 0, 1, 3)
        inside = slice(pad, total.shape[1] - pad)
        return total[:, inside, inside].transpose(3, 0, 1, 2)

    return _images_innermost(out), backward


@apply_layer.register
def _dense(layer: Dense, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    weight, bias = run.weights[f"{layer.name}.weight"], run.weights[f"{layer.name}.bias"]
    batch, groups = len(x), layer.groups
    inputs = x.reshape(batch, groups, -1).transpose(1, 0, 2)  # (groups, batch, inputs of a group)
    matrix = weight.reshape(groups, -1, weight.shape[1])
    out = (inputs @ matrix.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(batch, -1) + bias

    def backward(gradient: np.ndarray) -> np.ndarray:
        flat = gradient.reshape(batch, groups, -1).transpose(1, 0, 2)
        run.gradients[f"{layer.name}.weight"] = (flat.transpose(0, 2, 1) @ inputs).reshape(weight.shape)
        run.gradients[f"{layer.name}.bias"] = gradient.sum(axis=0)
        back = (flat @ matrix).transpose(1, 0, 2).reshape(x.shape)
        return _images_innermost(back) if back.ndim == 4 else back

    return out, backward


@apply_layer.register
def _activation(layer: Activation, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    if layer.function == "tanh":
        out = np.tanh(x)
        return out, lambda gradient: gradient * (1 - out * out)
    if layer.function == "sigmoid":
        out = 1 / (1 + np.exp(-x))
        return out, lambda gradient: gradient * (out * (1 - out))
    positive = run.imposed[layer.name] if run.imposed else x > 0
    if layer.name in run.margins:
        positive = positive ^ run.tips(layer, np.abs(x))
    run.choices[layer.name] = positive
    return x * positive, lambda gradient: gradient * positive


def _inverse_power(d: np.ndarray, beta: float) -> np.ndarray:
    """``d^-beta``; the paper's 3/4 by two roots, within 2.3 units instead of 1, in half the time."""
    return 1 / np.sqrt(d * np.sqrt(d)) if beta == 0.75 else d**-beta


@apply_layer.register
def _norm(layer: Norm, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    scale = layer.scale
    grouped = x.reshape(len(x), layer.groups, -1, *x.shape[2:])

    def window_sum(values: np.ndarray) -> np.ndarray:
        """Sum over the maps within size/2, cut off at the ends of the group."""
        total = values.copy("K")
        for distance in range(1, scale.size // 2 + 1):
            total[:, :, distance:] += values[:, :, :-distance]
            total[:, :, :-distance] += values[:, :, distance:]
        return total

    d = scale.k + scale.sum_scale * window_sum(grouped * grouped)
    power = _inverse_power(d, scale.beta)
    out = (grouped * power).reshape(x.shape)

    def backward(gradient: np.ndarray) -> np.ndarray:
        g = gradient.reshape(grouped.shape)
        shared = window_sum(g * grouped * power / d)
        return (g * power - 2 * scale.sum_scale * scale.beta * grouped * shared).reshape(x.shape)

    return out, backward


@apply_layer.register
def _spatial_norm(layer: SpatialNorm, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    reach, factor = layer.size // 2, layer.scale / layer.size**2

    def window_sum(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values.transpose(1, 2, 3, 0), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        windows = sliding_window_view(padded, (layer.size, layer.size), axis=(1, 2))
        return windows.sum(axis=(4, 5)).transpose(3, 0, 1, 2)

    d = layer.k + factor * window_sum(x * x)
    power = _inverse_power(d, layer.beta)

    def backward(gradient: np.ndarray) -> np.ndarray:
        shared = window_sum(gradient * x * power / d)
        return gradient * power - 2 * factor * layer.beta * x * shared

    return x * power, backward


@apply_layer.register
def _pool(layer: Pool, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    size, step = layer.window, layer.stride
    rows = layer.shape_out[1]
    reach = (rows - 1) * step + 1
    windows = _windows(layer, x)
    out, chosen = _largest(windows)
    if run.imposed:
        chosen = run.imposed[layer.name]
    if layer.name in run.margins:
        others = [np.where(chosen == place, -np.inf, window) for place, window in enumerate(windows)]
        second, other = _largest(others)
        chosen = np.where(run.tips(layer, out - second), other, chosen)
    if run.imposed or layer.name in run.margins:
        is_number = ~np.isnan(out)
        for place, window in enumerate(windows):
            np.copyto(out, window, where=is_number & (chosen == place))
    run.choices[layer.name] = chosen

    def backward(gradient: np.ndarray) -> np.ndarray:
        total = np.zeros_like(_beyond(layer, x))
        for place in range(size * size):
            i, j = divmod(place, size)
            total[:, :, i : i + reach : step, j : j + reach : step] += gradient * (chosen == place)
        return total[:, :, : x.shape[2], : x.shape[3]]

    return out, backward


def places(layer: Pool, x: np.ndarray) -> np.ndarray:
    """The place of the largest within each window (batch, maps, rows, rows), uint8; the first of equal ones."""
    return _largest(_windows(layer, x))[1]


def _beyond(layer: Pool, x: np.ndarray) -> np.ndarray:
    """``x`` with what the last windows reach of it beyond its ends, which is never the largest."""
    ends = ((0, 0), (0, 0), (0, layer.pad_end), (0, layer.pad_end))
    return np.pad(x, ends, constant_values=-np.inf) if layer.pad_end else x


def _windows(layer: Pool, x: np.ndarray) -> list[np.ndarray]:
    """What stands at each place of every window, place by place, row after row."""
    size, step = layer.window, layer.stride
    reach = (layer.shape_out[1] - 1) * step + 1
    x = _beyond(layer, x)
    return [x[:, :, i : i + reach : step, j : j + reach : step] for i in range(size) for j in range(size)]


def _largest(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The largest value at each place, and as uint8 which of the arrays has it, the first of equal ones."""
    largest = arrays[0].copy("K")
    which = np.zeros_like(largest, np.uint8)
    for number, array in enumerate(arrays[1:], 1):
        np.copyto(which, number, where=array > largest, casting="unsafe")
        np.maximum(largest, array, out=largest)
    return largest, which


@apply_layer.register
def _dropout(layer: Dropout, x: np.ndarray, run: ForwardPass) -> tuple[np.ndarray, Backward]:
    if run.masks is None:
        factor: np.ndarray | float = 1.0 if layer.inverted else 0.5
    else:
        factor = run.masks[layer.name] * (2.0 if layer.inverted else 1.0)
    factor = np.asarray(factor, x.dtype)
    return x * factor, lambda gradient: gradient * factor


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss over the batch, and its gradient by the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    places = np.arange(len(labels))
    gradient = softmax(logits)
    gradient[places, labels] -= 1
    return float((log_sum - shifted[places, labels]).mean()), gradient / len(labels)


def update(weights: Arrays, momentum: Arrays, gradients: Arrays, preset: Preset, rate: float) -> None:
    """The paper's step (section 5), in place: ``v <- .9 v - .0005 rate w - rate g``, ``w <- w + v``."""
    for name, gradient in gradients.items():
        is_bias = name.endswith(".bias")
        own = rate * (preset.bias_rate if is_bias else 1.0)
        decay = preset.decay_of(name)
        # Piece by piece, so that what is in between stays in the cache.
        flat = [values.reshape(-1) for values in (momentum[name], weights[name], gradient)]
        for start in range(0, flat[0].size, PIECE):
            velocity, weight, slope = (values[start : start + PIECE] for values in flat)
            velocity *= preset.momentum
            velocity -= own * decay * weight
            velocity -= own * slope
            weight += velocity


def flat_places(layer: Pool, chosen: np.ndarray) -> np.ndarray:
    """Turn places within pooling windows (batch, maps, rows, rows) into indices into each flattened input map."""
    _, rows, columns = layer.shape_out
    corner_row = np.arange(rows)[:, None] * layer.stride
    corner_column = np.arange(columns)[None] * layer.stride
    within_row, within_column = np.divmod(chosen.astype(np.int64), layer.window)
    return (corner_row + within_row) * layer.shape_in[2] + corner_column + within_column

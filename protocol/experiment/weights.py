"""Initial weights from a seed, under canonical names and the paper's shapes, columns stacked."""

from math import prod

import numpy as np

from paper.architecture import LAYER_NUMBERS, Network
from paper.recipe import Preset
from protocol.base.random_bits import Purpose, normal


def initial_deviations(network: Network, full: Network, preset: Preset) -> dict[str, float]:
    """Standard deviation of each layer's initial weights.

    The preset's figures belong to the full-size network. A narrower one has smaller sums into each unit, so its
    deviations grow by the root of the ratio of fan-ins: each layer then amplifies its input as the full one does.
    """
    fan_in = {layer.name: prod(layer.weight_shape[1:]) for layer in full.weighted()}
    return {
        layer.name: preset.deviation_of(layer.name) * (fan_in[layer.name] / prod(layer.weight_shape[1:])) ** 0.5
        for layer in network.weighted()
    }


def initial_weights(network: Network, deviations: dict[str, float], preset: Preset, seed: int) -> dict[str, np.ndarray]:
    """Return every parameter, float32, by canonical name: zero-mean Gaussian weights, biases 0 or the start value."""
    tensors: dict[str, np.ndarray] = {}
    for layer in network.weighted():
        draws = normal(seed, Purpose.WEIGHTS, prod(layer.weight_shape), stream=(LAYER_NUMBERS[layer.name], 0))
        tensors[f"{layer.name}.weight"] = (draws * np.float32(deviations[layer.name])).reshape(layer.weight_shape)
        tensors[f"{layer.name}.bias"] = np.full(layer.bias_shape, preset.bias_of(layer.name), np.float32)
    return tensors

"""An AlexNet's weights as somebody else's file has them, before they are fitted to a layer table."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from protocol.base.errors import Misuse

CONVOLUTIONS, DENSE = 5, 3  # layers with weights


@dataclass(frozen=True)
class ForeignLayer:
    """A layer's weights: (maps, maps read, rows, columns) or (units, units read), and its biases."""

    name: str
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class ForeignNorm:
    """Constants of a response norm; ``sum_scale`` multiplies the plain sum of squares.

    ``parts``: into how many runs of maps the norm after conv1 is confined.
    """

    size: int
    sum_scale: float
    beta: float
    k: float
    parts: int = 1

    @classmethod
    def divided(cls, size: int, alpha: float, beta: float, k: float, parts: int = 1) -> "ForeignNorm":
        """A norm whose file has ``alpha`` for the mean of squares, and float32 for .0001 and the like."""
        alpha, beta, k = (float(f"{value:.6g}") for value in (alpha, beta, k))
        return cls(size, alpha / max(1, size), beta, k, parts)


@dataclass(frozen=True)
class Input:
    """What a network expects of an image: RGB or BGR on a scale of 0 to 255, less ``mean``, over ``deviation``.

    ``mean`` (3,) or (3, crop, crop) and ``deviation`` (3,) have red first, whatever ``channels`` says.
    """

    channels: str
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, channels: str, mean: ArrayLike, deviation: ArrayLike = (1, 1, 1)) -> "Input":
        return cls(channels, np.asarray(mean, np.float32), np.asarray(deviation, np.float32))


# What the files of a kind expect, unless a flag says otherwise.
CAFFE_INPUT = Input.of("bgr", (122.6789, 116.6688, 104.0070))  # the mean pixel of Caffe's mean image of ImageNet
TORCH_INPUT = Input.of("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # torchvision's, times 255


@dataclass(frozen=True)
class Foreign:
    """What a file holds. ``norm`` and ``order``, what follows conv1: where the file says them, else None."""

    kind: str
    layers: tuple[ForeignLayer, ...]
    input: Input
    norm: ForeignNorm | None = None
    order: tuple[str, ...] | None = None
    said: tuple[str, ...] = field(default=())  # what was done to the file's layout, in words


def alexnets(layers: list[ForeignLayer], path: object) -> tuple[ForeignLayer, ...]:
    """``layers`` if they are as many of each kind as an AlexNet's.

    Raises:
        Misuse: they are not; the message names those that were found.
    """
    kinds = [layer.weight.ndim for layer in layers]
    if kinds != [4] * CONVOLUTIONS + [2] * DENSE:
        found = ", ".join(f"{layer.name} {layer.weight.shape}" for layer in layers[:12]) or "nothing"
        raise Misuse(f"{path} does not hold {CONVOLUTIONS} convolutions and then {DENSE} dense layers, but {found}")
    for layer in layers:
        if layer.bias.shape != layer.weight.shape[:1]:
            raise Misuse(f"{path}: {layer.name} has weights {layer.weight.shape} and biases {layer.bias.shape}")
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise Misuse(f"{path}: {layer.name} holds what is no number")
    return tuple(layers)

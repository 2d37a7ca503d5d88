"""Foreign weights as ours: which variant and interpretation they belong to, and what changes on the way."""

from collections.abc import Callable
from itertools import product
from math import ceil, isclose

import numpy as np

from paper.architecture import SIZES, VARIANTS, Network, Norm
from paper.recipe import LAYERS, PRESETS, STANDARD_ORDER, preset
from protocol.base.errors import Misuse
from protocol.exchange.foreign import Foreign, ForeignNorm, Input
from protocol.exchange.model import Model, Spec

CLOSE = 1e-5  # relative: constants that are written as decimals in one place and as float32 in the other
NEVER = -1e4  # a logit whose probability is 0 in float32


def fit(
    foreign: Foreign,
    own: Input,
    preset_name: str | None,
    path: object,
    agrees: Callable[[Model], bool] | None = None,
) -> Model:
    """``foreign`` as a model of ours; ``own``: what it expects of images; ``preset_name`` overrides what it says.

    ``agrees``: whether a model computes what the file does, where that can be tried.

    Raises:
        Misuse: no variant has such layers, or no preset such norms, or none computes the same; the message names what
            does not fit.
    """
    shapes = {layer: found.weight.shape for layer, found in zip(LAYERS, foreign.layers, strict=True)}
    presets = [preset(preset_name).name] if preset_name else list(PRESETS)
    specs = _chosen(foreign, _specs(shapes, presets, path), path, told=preset_name is not None)
    for spec in specs if agrees else specs[:1]:
        model = _model(foreign, own, spec, path)
        if agrees is None or agrees(model):
            return model
    raise Misuse(f"{path} does something between its layers that no network of ours does: its outputs are others")


def _model(foreign: Foreign, own: Input, spec: Spec, path: object) -> Model:
    tensors: dict[str, np.ndarray] = {}
    for name, found in zip(LAYERS, foreign.layers, strict=True):
        tensors[f"{name}.weight"] = np.ascontiguousarray(found.weight, np.float32)
        tensors[f"{name}.bias"] = np.ascontiguousarray(found.bias, np.float32)
    said = [*foreign.said]
    if spare := spec.classes - len(tensors["fc8.weight"]):
        tensors["fc8.weight"] = np.pad(tensors["fc8.weight"], ((0, spare), (0, 0)))
        tensors["fc8.bias"] = np.pad(tensors["fc8.bias"], (0, spare), constant_values=NEVER)
        said.append(f"{spare} added to fc8's units, never chosen, since columns share them evenly")
    first = tensors["conv1.weight"]
    if own.channels == "bgr":
        first = first[:, ::-1]
        said.append("conv1 turned from blue, green, red to red, green, blue")
    if (own.deviation != 1).any():
        first = first / own.deviation[:, None, None]
        numbers = ", ".join(f"{value:g}" for value in own.deviation)
        said.append(f"conv1 divided by {numbers}, by which it expects colours to be divided")
    tensors["conv1.weight"] = np.ascontiguousarray(first)
    if not (all(np.isfinite(value).all() for value in tensors.values()) and np.isfinite(own.mean).all()):
        raise Misuse(f"{path} holds weights or a mean that are no float32")
    return Model(spec, tensors, _mean(own.mean, spec.network(), path), tuple(said))


def _mean(mean: np.ndarray, made: Network, path: object) -> np.ndarray:
    """The part of a mean image that a centre crop has; a mean colour as it is.

    Raises:
        Misuse: it is neither.
    """
    crop = made.input_shape[1]
    if mean.shape == (3,):
        return mean
    if mean.ndim != 3 or mean.shape[0] != 3 or mean.shape[1] != mean.shape[2] or mean.shape[1] < crop:
        raise Misuse(f"the mean of {path} has shape {mean.shape}, where (3,) or an image of {crop} pixels is expected")
    first = (mean.shape[1] - crop) // 2
    return np.ascontiguousarray(mean[:, first : first + crop, first : first + crop])


def _shapes(made: Network) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.weight_shape for layer in made.weighted()}


def _specs(shapes: dict[str, tuple[int, ...]], presets: list[str], path: object) -> list[Spec]:
    """The networks whose layers have these shapes.

    Raises:
        Misuse: none has; the nearest is named with what differs.
    """
    classes = shapes["fc8"][0]
    found: list[Spec] = []
    nearest: tuple[int, str] | None = None
    for size, variant, preset_name in product(SIZES, VARIANTS, presets):
        columns = VARIANTS[variant].columns
        spec = Spec(variant, preset_name, size, columns * ceil(classes / columns))
        try:
            own = _shapes(spec.network())
        except ValueError:
            continue  # columns that cannot share so few maps
        if own.keys() != shapes.keys():
            continue  # a layer is left out
        own["fc8"] = (classes, *own["fc8"][1:])  # units that no class has are added
        differing = [name for name in LAYERS if own[name] != shapes[name]]
        if not differing:
            found.append(spec)
        elif nearest is None or len(differing) < nearest[0]:
            told = ", ".join(f"{name} has {shapes[name]} for {own[name]}" for name in differing[:3])
            nearest = len(differing), f"the nearest is {variant} at {size} size, where {told}"
    if not found and nearest:
        raise Misuse(f"{path}: no variant has layers of these shapes; {nearest[1]}")
    return found


def _chosen(foreign: Foreign, specs: list[Spec], path: object, *, told: bool) -> list[Spec]:
    """Of networks with the same shapes, those whose norms are the file's, the likeliest first.

    ``told``: a flag says which they are.

    Raises:
        Misuse: there is none.
    """
    plain = [spec for spec in specs if not VARIANTS[spec.variant].norm]
    if plain and foreign.norm is None:
        return sorted(plain, key=lambda spec: not PRESETS[spec.preset].inverted_dropout)
    normed = [spec for spec in specs if VARIANTS[spec.variant].norm]
    if told and normed:
        return normed
    norm = foreign.norm
    if norm is None:
        if foreign.kind == "torch":
            raise Misuse(
                f"{path} does not say which response norms belong to its weights: name the preset that has them, "
                f"--preset {' or '.join(PRESETS)}"
            )
        raise Misuse(f"{path} has no response norms, which every variant of its shapes has")
    order = foreign.order or STANDARD_ORDER["conv1"]
    found = [
        spec
        for spec in normed
        if _is_same(norm, spec) and (PRESETS[spec.preset].order or STANDARD_ORDER)["conv1"] == order
    ]
    if found:
        return found
    raise Misuse(
        f"{path} has response norms over {norm.size} maps, confined to {norm.parts} runs of them, with alpha "
        f"{norm.sum_scale * norm.size:g} of the mean square, beta {norm.beta:g} and k {norm.k:g}, and after conv1 "
        f"{', '.join(order)}: no preset has these"
    )


def _is_same(norm: ForeignNorm, spec: Spec) -> bool:
    own = next(layer for layer in spec.network() if isinstance(layer, Norm))
    pairs = ((norm.sum_scale, own.scale.sum_scale), (norm.beta, own.scale.beta), (norm.k, own.scale.k))
    same = norm.size == own.scale.size and norm.parts == own.groups
    return same and all(isclose(one, other, rel_tol=CLOSE) for one, other in pairs)

"""What the two backends' tests share: the oracle's answer to a training step, and how far another is from it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from paper.architecture import Network, Norm
from paper.recipe import ALL_MAPS, LOCAL, PRESETS, NormScale
from protocol.experiment import dropout
from protocol.experiment.cases import CASES, Case
from protocol.experiment.weights import initial_weights
from protocol.oracle.network import Arrays, ForwardPass, apply_layer, cross_entropy, forward, update
from protocol.oracle.quantities import centred

SEED, BATCH = 5, 8
# Relative norms of a difference. float32 rounds at 6e-8; some gradients of biases are small sums of large terms.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
VARIANTS = (
    "merged",
    "half",
    "no_crossing",
    "cross_everywhere",
    "cross_at=conv2,conv4,fc7",
    "cross_at=",
    "owt",
    "sixth_conv",
)
Pair = tuple[np.ndarray | float, np.ndarray | float]
CIFAR = ("cifar", "cifar-no-norm", "cifar-tanh")
ABLATIONS = ("tanh", "no-norm", "no-overlap", "no-overlap-147", "no-dropout")


@dataclass(frozen=True)
class Answer:
    """What a network makes of a step: ``logits`` (batch, classes), the mean loss, gradients by canonical name."""

    logits: np.ndarray
    loss: float
    gradients: Arrays


@dataclass(frozen=True)
class Question:
    """A training step: everything a network needs to carry it out."""

    network: Network
    weights: Arrays
    images: np.ndarray
    labels: np.ndarray
    masks: Arrays


# The presets whose norm keeps to its column, which a placement of columns can carry out.
BY_COLUMN = [name for name, preset in PRESETS.items() if preset.norm.window == LOCAL]


def tiny(*, preset: str = "paper", variant: str = "two_column", ablation: str = "tiny") -> Case:
    """The tiny case, as ``preset`` reads it, and with what ``ablation`` changes."""
    return replace(CASES[ablation], size="tiny", preset=preset, variant=variant, deviations="chm-145")


@lru_cache
def ask(case: Case) -> Question:
    """A step of ``case`` on random images, with biases that are all different."""
    network = case.network()
    generator = np.random.default_rng(11)
    weights = initial_weights(network, case.initial_deviations(), case.recipe(), SEED)
    for name, value in weights.items():
        if name.endswith(".bias"):
            weights[name] = value + generator.normal(0, 0.1, value.shape).astype(np.float32)
    images = generator.normal(0, 60, (BATCH, *network.input_shape)).astype(np.float32)
    masks = dropout.masks(network, SEED, 0, 0, BATCH)
    return Question(network, weights, images, generator.integers(0, network.classes, BATCH), masks)


@lru_cache
def oracle(case: Case) -> tuple[Answer, Arrays]:
    """The oracle's answer in float64, and the choices it made in ReLU and pooling, as of step 0."""
    question = ask(case)
    run = ForwardPass({name: value.astype(np.float64) for name, value in question.weights.items()}, question.masks)
    logits, backward = forward(question.network, question.images.astype(np.float64), run)
    loss, gradient = cross_entropy(logits, question.labels)
    backward(gradient)
    choices = {f"0.{name}": value for name, value in run.choices.items()}
    return Answer(logits, loss, run.gradients), choices


def apart(answer: Answer, truth: Answer) -> dict[str, float]:
    """Relative distance of each quantity."""
    assert set(answer.gradients) == set(truth.gradients)
    pairs: dict[str, Pair] = {
        "logits": (centred(answer.logits), centred(truth.logits)),
        "loss": (answer.loss, truth.loss),
    }
    pairs |= {name: (answer.gradients[name], truth.gradients[name]) for name in truth.gradients}
    return relative(pairs)


def relative(pairs: Mapping[str, Pair]) -> dict[str, float]:
    found = {}
    for name, (value, expected) in pairs.items():
        assert np.shape(value) == np.shape(expected), name
        size = float(np.linalg.norm(expected))
        assert size > 0, name
        found[name] = float(np.linalg.norm(np.asarray(value, np.float64) - expected)) / size
    return found


def too_far(distances: Mapping[str, float], tolerance: float) -> dict[str, float]:
    """Those above ``tolerance``, NaN among them; compare with {} so that a failure names them."""
    return {name: value for name, value in distances.items() if not value <= tolerance}


# One-level networks that hold the two columns within them: with the columns' own norm, or with none.
WIDER = {
    "cross_everywhere": (tiny(), tiny(variant="cross_everywhere")),
    "merged, without norm": (tiny(ablation="no-norm"), tiny(ablation="no-norm", variant="merged")),
}


def widened(tensors: Arrays, table: Network) -> Arrays:
    """The parameters in the shapes of ``table``, which has no groups: the weights between the columns are zero."""
    shapes = table.parameter_shapes()
    return {
        name: value if value.shape == shapes[name] else _spread(value, shapes[name]) for name, value in tensors.items()
    }


def _spread(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each half of the rows reads its own half of the inputs."""
    rows, inputs = weight.shape[0] // 2, weight.shape[1]
    wide = np.zeros(shape, weight.dtype)
    wide[:rows, :inputs] = weight[:rows]
    wide[rows:, inputs:] = weight[rows:]
    return wide


def held_at_zero(gradients: Arrays, narrow: Network) -> Arrays:
    """The gradients without those of the weights between the columns."""
    shapes = narrow.parameter_shapes()
    ones = {name: np.ones(shapes[name]) for name in gradients}
    return {
        name: value if value.shape == shapes[name] else value * _spread(ones[name], value.shape)
        for name, value in gradients.items()
    }


def check_wider_is_the_same(answer: Callable[[Question], Answer], name: str, dtype: str) -> None:
    """Ten updates of the two columns, and of the wider network that holds them, must agree at every step.

    ``answer`` carries a step out; the updates are the oracle's, which the optimizers are held to by other tests.
    """
    narrow, wide = WIDER[name]
    question, recipe = ask(narrow), narrow.recipe()
    weights = {key: value.astype(dtype) for key, value in question.weights.items()}
    momentum = {key: np.zeros_like(value) for key, value in weights.items()}
    table = wide.network()
    for rate in RATES:
        left = answer(replace(question, weights=weights))
        right = answer(replace(question, network=table, weights=widened(weights, table)))
        found = replace(right, gradients=held_at_zero(right.gradients, narrow.network()))
        truth = replace(left, gradients=widened(left.gradients, table))
        assert too_far(apart(found, truth), TOLERANCE[dtype]) == {}, rate
        # At the full rate a network without norm learns these few images by heart, and no gradient is left.
        update(weights, momentum, left.gradients, recipe, rate / 20)


# Maps, rows, columns of pixels, groups, and constants: odd sizes, runs shorter than the window, the presets' own.
NORMS = {
    "paper": (96, 5, 5, 2, PRESETS["paper"].norm),
    "chm-145": (32, 7, 3, 2, PRESETS["chm-145"].norm),
    "caffe": (16, 1, 9, 1, PRESETS["caffe"].norm),
    "strong": (14, 3, 5, 2, NormScale(alpha=0.3)),
    "strong, of 3 maps, by a root": (7, 13, 1, 1, NormScale(size=3, alpha=0.4, beta=0.5, k=1.0)),
    "strong, of 9 maps, wider than a run": (6, 2, 3, 2, NormScale(size=9, alpha=0.2)),
    "a single map": (1, 17, 19, 1, NormScale(alpha=0.3)),
    "many pixels, which a kernel takes in strips": (10, 41, 53, 2, NormScale(alpha=0.3)),
}


def norm_layer(name: str) -> Norm:
    maps, rows, columns, groups, scale = NORMS[name]
    shape = (maps, rows, columns)
    window = LOCAL if groups > 1 else ALL_MAPS
    return Norm("norm", shape, shape, groups, replace(scale, window=window))


def norm_question(name: str, rectified: bool = False) -> tuple[Arrays, Arrays]:
    """An input and an output gradient, and the oracle's output and input gradient for them.

    ``rectified``: the norm is that of the input's ReLU.
    """
    layer, generator = norm_layer(name), np.random.default_rng(12)
    shape = (3, *layer.shape_in)
    given = {"x": generator.normal(0, 3, shape), "gradient": generator.normal(0, 1, shape)}
    # Rounded to float32, so that both precisions start from the same numbers.
    given = {key: value.astype(np.float32).astype(np.float64) for key, value in given.items()}
    passed = given["x"] > 0 if rectified else np.ones(shape)
    out, backward = apply_layer(layer, given["x"] * passed, ForwardPass({}))
    return given, {"out": out, "by x": backward(given["gradient"]) * passed}


# The rate falls between steps.
RATES = [0.01] * 4 + [0.001] * 3 + [0.0001] * 3


def ten_updates(preset: str, dtype: str) -> tuple[Arrays, list[Arrays], Arrays, Arrays]:
    """Weights of step 0, ten steps' gradients, and the oracle's weights and momentum after them, in ``dtype``."""
    weights = {name: value.astype(dtype) for name, value in ask(tiny(preset=preset)).weights.items()}
    generator = np.random.default_rng(13)
    gradients = [
        {name: generator.normal(size=value.shape).astype(dtype) for name, value in weights.items()} for _ in RATES
    ]
    moved = {name: value.astype(np.float64) for name, value in weights.items()}
    momentum = {name: np.zeros_like(value) for name, value in moved.items()}
    for rate, step in zip(RATES, gradients, strict=True):
        update(moved, momentum, step, PRESETS[preset], rate)
    return weights, gradients, moved, momentum


def check_updates(preset: str, dtype: str, found: Arrays) -> None:
    """Compare a backend's weights and momentum (``momentum.X``) after those ten updates with the oracle's."""
    weights, _, moved, momentum = ten_updates(preset, dtype)
    assert {value.dtype for value in found.values()} == {np.dtype(dtype)}
    # A small movement of a float32 weight shows the weight's own rounding.
    kinds = {
        "moved": ({name: (found[name] - weights[name], moved[name] - weights[name]) for name in weights}, 100),
        "momentum": ({name: (found[f"momentum.{name}"], momentum[name]) for name in weights}, 1),
    }
    unit = {"float64": 1e-14, "float32": 1e-6}[dtype]
    for kind, (pairs, units) in kinds.items():
        assert too_far(relative(pairs), units * unit) == {}, kind


class Holder(Protocol):
    def hold(self, layers: Collection[str]) -> None: ...


class Trainee(Protocol):
    """A network with its optimizer. ``load`` and ``state``: weights and momentum (``momentum.X``)."""

    @property
    def optimizer(self) -> Holder: ...

    def load(self, tensors: Arrays) -> None: ...
    def take(self, gradients: Arrays, rate: float) -> None: ...
    def state(self) -> Arrays: ...


def check_ten_updates(trainee: Trainee, preset: str, dtype: str) -> None:
    """Ten updates must lead where the oracle's do."""
    weights, gradients, _, _ = ten_updates(preset, dtype)
    trainee.load(at_rest(weights))
    for rate, step in zip(RATES, gradients, strict=True):
        trainee.take(step, rate)
    check_updates(preset, dtype, trainee.state())


def check_held_layers_stay(trainee: Trainee, preset: str, dtype: str) -> None:
    """Held after five updates, a layer must keep its weights to the bit, have no velocity, and move again when let go.

    The others must go as if nothing were held.
    """
    weights, gradients, _, _ = ten_updates(preset, dtype)
    trainee.load(at_rest(weights))
    for rate, step in zip(RATES[:5], gradients[:5], strict=True):
        trainee.take(step, rate)
    before = trainee.state()
    trainee.optimizer.hold({"conv1"})
    for rate, step in zip(RATES[5:], gradients[5:], strict=True):
        trainee.take(step, rate)
    after = trainee.state()
    for kind in ("weight", "bias"):
        assert np.array_equal(before[f"conv1.{kind}"], after[f"conv1.{kind}"])
        assert np.any(before[f"momentum.conv1.{kind}"])
        assert not np.any(after[f"momentum.conv1.{kind}"])
    trainee.optimizer.hold(())
    trainee.take(gradients[0], RATES[0])
    assert not np.array_equal(trainee.state()["conv1.weight"], after["conv1.weight"])

    trainee.load(at_rest(weights))
    for rate, step in zip(RATES, gradients, strict=True):
        trainee.take(step, rate)
    assert all(np.array_equal(value, after[name]) for name, value in trainee.state().items() if "conv1" not in name)


def check_loaded_state_goes_on(prepare: Callable[[], Trainee], preset: str, dtype: str) -> None:
    """A state that was taken out after five updates and loaded elsewhere must go on bit for bit."""
    weights, gradients, _, _ = ten_updates(preset, dtype)
    first, second = prepare(), prepare()
    first.load(at_rest(weights))
    for rate, step in zip(RATES[:5], gradients[:5], strict=True):
        first.take(step, rate)
    second.load(first.state())
    for rate, step in zip(RATES[5:], gradients[5:], strict=True):
        first.take(step, rate)
        second.take(step, rate)
    left, right = first.state(), second.state()
    assert all(np.array_equal(left[name], right[name]) for name in left)


def at_rest(weights: Arrays) -> Arrays:
    """The state of step 0: these weights, no momentum."""
    return weights | {f"momentum.{name}": np.zeros_like(value) for name, value in weights.items()}


_products = np.random.default_rng(14)
LEFT, RIGHT = (_products.normal(size=(256, 256)).astype(np.float32) for _ in range(2))
IMAGES = _products.normal(size=(4, 64, 9, 9)).astype(np.float32)
KERNELS = _products.normal(size=(32, 64, 3, 3)).astype(np.float32)


def check_rounding(operation: Callable[[str], np.ndarray]) -> None:
    """The operation on those arrays must round as float32: bfloat16 would be 2e-3 off, TF32 3e-4."""
    exact, found = operation("float64"), operation("float32")
    assert (exact.dtype, found.dtype) == (np.dtype("float64"), np.dtype("float32"))
    assert 1e-9 < relative({"product": (found, exact)})["product"] < 2e-6

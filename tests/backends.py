"""What the two backends' tests share: the oracle's answer to a training step, and how far another is from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from paper.architecture import Network
from protocol import dropout
from protocol.cases import CASES, Case
from protocol.probe import centred
from protocol.reference import Arrays, Pass, cross_entropy, forward
from protocol.weights import initial_weights

SEED, BATCH = 5, 8
# Relative norms of a difference. float32 rounds at 6e-8; some gradients of biases are small sums of large terms.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
VARIANTS = ("merged", "half", "no_crossing", "cross_everywhere", "cross_at=conv2,conv4,fc7", "cross_at=", "owt")
ABLATIONS = ("tanh", "no-norm", "no-overlap", "no-dropout")


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
    run = Pass({name: value.astype(np.float64) for name, value in question.weights.items()}, question.masks)
    logits, backward = forward(question.network, question.images.astype(np.float64), run)
    loss, gradient = cross_entropy(logits, question.labels)
    backward(gradient)
    choices = {f"0.{name}": value for name, value in run.choices.items()}
    return Answer(logits, loss, run.gradients), choices


def apart(answer: Answer, truth: Answer) -> dict[str, float]:
    """Relative distance of each quantity."""
    assert set(answer.gradients) == set(truth.gradients)
    pairs = {"logits": (centred(answer.logits), centred(truth.logits)), "loss": (answer.loss, truth.loss)}
    pairs |= {name: (answer.gradients[name], truth.gradients[name]) for name in truth.gradients}
    return relative(pairs)


def relative(pairs: Mapping[str, tuple[np.ndarray | float, np.ndarray | float]]) -> dict[str, float]:
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

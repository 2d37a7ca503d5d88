"""The oracle's run of a case: the float64 reference, and how far float32 arithmetic may lead away from it.

    tensors.safetensors     the quantities of :mod:`protocol.oracle.quantities`, float64
    choices.safetensors     by step and layer: the signs ReLU saw and the places pooling chose
    tolerances.csv          by reading and quantity; with how far the random draws are from what they should be
    envelope.csv            of a longer run: the loss at each step, and the bounds float32 runs should keep to

A tolerance is ``SAFETY`` times the largest distance from float64 of the same network in float32, over several
perturbations of the images by one unit in the last place, which make the roundings fall differently; and at least one
unit roundoff for each layer, since each rounds its result:

    imposed   float32 kept to float64's choices in ReLU and pooling: smooth, so the distance is that of rounding
    free      float32 making its own: a few near-ties fall the other way, and a gradient jumps. To the above is added
              how far that quantity is led in float64 runs that make the other way all choices that rounding could tip,
              or a random half of them
    tf32,     imposed, in units of theirs: they round what products take, and sum in float32, so that no SAFETY is due
    bf16
    fp64      imposed, times 2^-29, the ratio of the two precisions' units
    resumed   of a training run in float64 that was stopped and went on elsewhere: fp64's, and its errors exactly

Weights at step 0, images and labels are given to a network, not computed by it, and must be exact.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paper.architecture import Activation, Network, Pool
from protocol.base.random_bits import Purpose, words
from protocol.experiment import dropout
from protocol.experiment.experiment import Experiment
from protocol.oracle import literal, quantities
from protocol.oracle.network import Arrays, ForwardPass, cross_entropy, forward, softmax, update
from protocol.oracle.quantities import LOWERED, READINGS, TAKEN

# A sum of K terms held in L partial sums has a rounding error that grows as the root of K / L. Kernels hold 8 to 64
# (where one holds a single sum, parity asks for another: deepspeed_impl/parity.py), so two correct ones differ by a
# factor of up to root 8; three deviations of scatter on top make about 8.
SAFETY = 8.0
# Tipping some of the ties and not the others may lead farther than tipping all: two halves of them are tried too.
TIE_SAFETY = 2.0
TIPPED_HALVES = 2
PERTURBATIONS = 4
FP32_UNIT = 2.0**-24
FP64_UNIT_RATIO = 2.0**-29
UNITS = {"tf32": 2.0**13, "bf16": 2.0**16}  # unit roundoffs, as multiples of float32's
GREY_LEVELS = 256  # that an image without its mean may reach
GIVEN = ("start", "images", "labels")  # what the network does not compute
ENVELOPE_STEPS = 50
# Training amplifies any rounding, so another kernel's run is one more draw of the perturbed runs' distribution. Of
# Gaussian draws, one in 250 is more than four times as far as the largest of four others. How far tipping all ties
# leads is such a draw too, and comes on top.
ENVELOPE_SAFETY = 4.0


@dataclass
class OracleRun:
    """A short run's observations, and the choices it made by step and layer, under names such as ``0.relu1``."""

    seen: Arrays
    choices: Arrays


def perturbed(images: np.ndarray, seed: int) -> np.ndarray:
    """Move every float32 pixel by one unit in the last place, up or down at random; seed 0 leaves them."""
    if seed == 0:
        return images
    up = np.unpackbits(words(seed, Purpose.ULP, -(-images.size // 64)).view(np.uint8))[: images.size]
    target = np.where(up.reshape(images.shape) == 1, np.float32(np.inf), np.float32(-np.inf))
    return np.nextafter(images, target)


class Trainee:
    """The reference network in training, from the weights at step 0."""

    def __init__(self, experiment: Experiment, dtype: type, perturbation: int = 0) -> None:
        self.experiment, self.dtype, self.perturbation = experiment, dtype, perturbation
        self.weights: Arrays = {name: value.astype(dtype) for name, value in experiment.weights().items()}
        self.momentum = {name: np.zeros_like(value) for name, value in self.weights.items()}

    def images(self, step: int) -> np.ndarray:
        pixels = self.experiment.images(step, self.experiment.samples(step))
        return perturbed(pixels, self.perturbation).astype(self.dtype)

    def take(
        self,
        step: int,
        imposed: Arrays | None = None,
        margins: dict[str, float] | None = None,
        coin: np.random.Generator | None = None,
    ) -> tuple[ForwardPass, np.ndarray, float]:
        """One update. Returns the pass it rests on, the logits and the loss."""
        experiment = self.experiment
        masks = dropout.masks(experiment.network, experiment.seed, step, 0, experiment.case.batch)
        run = ForwardPass(self.weights, masks, imposed, margins or {}, coin, to_images=False)
        logits, backward = forward(experiment.network, self.images(step), run)
        loss, gradient = cross_entropy(logits, experiment.labels(experiment.samples(step)))
        backward(gradient)
        # By the oracle's own clock: the one that backends obey is what it is held to.
        rate = literal.rate(experiment.case, step // experiment.steps_per_epoch)
        update(self.weights, self.momentum, run.gradients, experiment.recipe, rate)
        return run, logits, loss

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits without dropout."""
        return forward(self.experiment.network, images.astype(self.dtype), ForwardPass(self.weights))[0]

    def probabilities(self, pixels: literal.Pixels, *, ten: bool) -> np.ndarray:
        """Class probabilities (test images, classes), the mean over the views."""
        return np.stack(
            [
                softmax(self.logits(pixels.views(sample, ten=ten))).mean(axis=0)
                for sample in range(len(self.experiment.testing))
            ]
        )


def observe(
    experiment: Experiment,
    dtype: type,
    *,
    perturbation: int = 0,
    imposed: Arrays | None = None,
    margins: dict[str, float] | None = None,
    coin: np.random.Generator | None = None,
) -> OracleRun:
    """Carry a case out and observe what :mod:`protocol.oracle.quantities` names.

    ``imposed``: choices to keep to. ``margins``: by layer, how near a choice must be to be made the other way; of those
    that are, ``coin`` tips each or leaves it.
    """
    trainee, pixels = Trainee(experiment, dtype, perturbation), literal.Pixels(experiment)
    seen = {f"start.{name}": value.astype(np.float32) for name, value in trainee.weights.items()}
    seen["test.start"] = trainee.logits(trainee.images(0))
    choices: Arrays = {}
    for step in range(experiment.total_steps):
        run, logits, loss = trainee.take(step, _of_step(imposed, step), margins, coin)
        choices |= {f"{step}.{name}": value for name, value in run.choices.items()}
        seen[f"images.{step}"] = pixels.training(step)
        seen[f"labels.{step}"] = experiment.store.train.labels[experiment.samples(step)].astype(np.float64)
        seen[f"loss.{step}"] = np.array([loss])
        seen[f"error.{step}"] = np.array([wrong(logits, experiment.store.train.labels[experiment.samples(step)])])
        if step == 0:
            seen["logits"] = logits
            seen |= {f"forward.{name}": value for name, value in run.activations.items()}
            seen |= {f"gradient.{name}": value for name, value in run.gradients.items()}
            seen |= {f"step.{name}": value - seen[f"start.{name}"] for name, value in trainee.weights.items()}
    seen |= {f"weight.{name}": value for name, value in trainee.weights.items()}
    seen |= {f"momentum.{name}": value for name, value in trainee.momentum.items()}
    for views in (1, 10):
        found = seen[f"test.{views}"] = trainee.probabilities(pixels, ten=views == 10)
        seen |= {
            f"{name}.{views}": np.array([share]) for name, share in shares(found, experiment.testing.labels).items()
        }
    return OracleRun(seen, choices)


def shares(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Top-1 and top-5 error of ``scores`` (images, classes): how often the label is not first, or of the first five."""
    order = np.argsort(-scores, axis=1, kind="stable")
    return {f"top{count}": float((order[:, :count] != labels[:, None]).all(axis=1).mean()) for count in (1, 5)}


def wrong(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of ``scores`` (images, classes) whose largest is not the label's own."""
    return float((scores.argmax(axis=1) != labels).mean())


def _of_step(choices: Arrays | None, step: int) -> Arrays | None:
    """The choices of one step, by layer."""
    if choices is None:
        return None
    return {name.partition(".")[2]: value for name, value in choices.items() if name.startswith(f"{step}.")}


def tolerances(
    experiment: Experiment, truth: OracleRun, readings: Collection[str] = TAKEN
) -> dict[str, dict[str, float]]:
    """By reading and quantity: how far a correct network may be from float64. ``readings``: those asked for."""
    start = experiment.weights()
    floor = len(experiment.network.layers) * FP32_UNIT

    def distances(other: OracleRun) -> dict[str, float]:
        found = quantities.distances(other.seen, truth.seen.items(), start)
        return {name: apart.difference for name, apart in found.items()}

    def perturbed_run(seed: int) -> dict[str, float]:
        return distances(observe(experiment, np.float32, perturbation=seed, imposed=truth.choices))

    runs = [perturbed_run(seed) for seed in range(PERTURBATIONS)]
    imposed = {name: max(SAFETY * max(run[name] for run in runs), floor) for name in runs[0]}
    fp64 = {name: bound * FP64_UNIT_RATIO for name, bound in imposed.items()}
    bounds = {"fp64": fp64, "imposed": imposed, **{name: _lowered(name, imposed) for name in LOWERED}}
    if "free" in readings:
        margins = margins_of(experiment.network, _outputs(truth.seen), _outputs(imposed))
        coins = [None, *(np.random.default_rng(seed) for seed in range(TIPPED_HALVES))]
        jumps = [distances(observe(experiment, np.float64, margins=margins, coin=coin)) for coin in coins]
        bounds["free"] = {
            name: bound + (ENVELOPE_SAFETY if _late(name) else TIE_SAFETY) * max(jump[name] for jump in jumps)
            for name, bound in imposed.items()
        }
    found = {
        reading: {name: 0.0 if _is_exact(name, reading) else own[name] for name in own}
        for reading, own in bounds.items()
        if reading in readings
    }
    reports = dict.fromkeys(quantities.reports(experiment), 0.0)
    for reading, own in found.items():
        own |= {name: bound for name, bound in reports.items() if not READINGS[reading].imposed or "error" in name}
    if "free" in found:
        # Against float64 with the backend's own choices, so that rounding is all there is.
        gradients = [name for name in imposed if name.startswith("gradient.")]
        found["free"] |= {name.replace("gradient", "backward"): imposed[name] for name in gradients}
    if "fp64" in found:
        figures = [name for name in truth.seen if name.partition(".")[0] in quantities.FIGURES]
        resumed = {name: bound for name, bound in fp64.items() if name.partition(".")[0] in quantities.RESUMED_KINDS}
        found[quantities.RESUMED.name] = {**resumed, **dict.fromkeys(figures, 0.0)}
    return found


def _lowered(reading: str, imposed: Mapping[str, float]) -> dict[str, float]:
    """The bounds of a reading in which products round what they take; weights and their updates stay in float32."""
    unit = UNITS[reading]
    found = {name: bound * unit / SAFETY for name, bound in imposed.items()}
    for name, bound in imposed.items():
        kind, _, parameter = name.partition(".")
        if kind in ("step", "weight"):
            found[name] = bound + found[f"{'gradient' if kind == 'step' else 'momentum'}.{parameter}"]
        elif kind == "images":
            found[name] = unit * FP32_UNIT * GREY_LEVELS
    return found


def _is_exact(quantity: str, reading: str) -> bool:
    kind = quantity.partition(".")[0]
    # In bfloat16 the images themselves are rounded.
    return kind in GIVEN and not (kind == "images" and reading == "bf16")


def _late(quantity: str) -> bool:
    """Whether it is seen after the first update, from where on training amplifies what it rests on."""
    return quantity.startswith(("loss.", "weight.", "momentum.", "test.")) and quantity not in ("loss.0", "test.start")


def _outputs(quantities: Mapping[str, Any]) -> dict[str, Any]:
    """What concerns each layer's output, by layer."""
    prefix = "forward."
    return {name.removeprefix(prefix): value for name, value in quantities.items() if name.startswith(prefix)}


def margins_of(network: Network, activations: Arrays, bounds: dict[str, float]) -> dict[str, float]:
    """By layer that chooses: how near a choice must be for rounding to tip it.

    That is how far the layer's input may be from float64, in its own unit; a pooling window has two such inputs.
    """
    found: dict[str, float] = {}
    before = None
    for layer in network:
        if before is not None and isinstance(layer, Activation | Pool):
            size = float(np.sqrt(np.square(activations[before]).mean()))
            found[layer.name] = bounds[before] * size * (2 if isinstance(layer, Pool) else 1)
        before = layer.name
    return found


def losses(
    experiment: Experiment,
    steps: int,
    dtype: type,
    *,
    perturbation: int = 0,
    margins: dict[str, float] | None = None,
) -> list[float]:
    """The losses of the first steps; ``margins``: by layer, how near a choice must be to be made the other way."""
    trainee = Trainee(experiment, dtype, perturbation)
    return [trainee.take(step, margins=margins)[2] for step in range(steps)]


def envelope(experiment: Experiment, steps: int) -> Iterator[dict[str, float]]:
    """Per step: the float64 loss, and the bounds within which float32 runs of the same seed should stay.

    The bounds are ``ENVELOPE_SAFETY`` times the largest distance so far of any perturbed float32 run and of a float64
    run that makes every choice the other way that rounding could tip at step 0; and at least one unit roundoff for each
    layer.
    The perturbed runs alone would not do: whether a tie tips in one of them, and at which step, is chance.
    """
    truth = losses(experiment, steps, np.float64)
    tipped = losses(experiment, steps, np.float64, margins=_margins_at_start(experiment))
    others = [losses(experiment, steps, np.float32, perturbation=seed) for seed in range(PERTURBATIONS)]
    spread = jump = 0.0
    for step, loss in enumerate(truth):
        spread = max(spread, *(abs(other[step] - loss) for other in others))
        jump = max(jump, abs(tipped[step] - loss))
        bound = max(ENVELOPE_SAFETY * (spread + jump), len(experiment.network.layers) * FP32_UNIT * loss)
        yield {"step": step, "loss": loss, "low": loss - bound, "high": loss + bound}


def _margins_at_start(experiment: Experiment) -> dict[str, float]:
    """:func:`margins_of` the first step, by perturbed float32 passes that keep to float64's choices."""
    truth, *_ = Trainee(experiment, np.float64).take(0)
    others = [
        Trainee(experiment, np.float32, seed).take(0, truth.choices)[0].activations for seed in range(PERTURBATIONS)
    ]
    floor = len(experiment.network.layers) * FP32_UNIT
    bounds = {
        name: max(floor, *(SAFETY * quantities.distance(other[name], value).difference for other in others))
        for name, value in truth.activations.items()
    }
    return margins_of(experiment.network, truth.activations, bounds)

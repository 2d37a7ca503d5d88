"""The oracle's run of a case: the float64 reference, and how far float32 arithmetic may lead away from it.

    tensors.safetensors     what :class:`protocol.probe.Probe` holds, float64
    choices.safetensors     by step and layer: the signs ReLU saw and the places pooling chose
    record.json             ``result.tolerances``: by rung and quantity
    envelope.csv            of a longer run: the loss at each step, and the bounds float32 runs should keep to

A tolerance is ``SAFETY`` times the largest distance from float64 of the same network in float32, over several
perturbations of the images by one unit in the last place, which make the roundings fall differently; and at least one
unit roundoff for each layer, since each rounds its result:

    imposed   float32 kept to float64's choices in ReLU and pooling: smooth, so the distance is that of rounding
    free      float32 making its own: a few near-ties fall the other way, and a gradient jumps. Which layer's tie falls
              is luck, so all gradients that ties can reach share the largest one's bound, and so do all weights
    fp64      imposed, times 2^-29, the ratio of the two precisions' units
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from protocol import dropout, probe
from protocol.experiment import Experiment, open_experiment
from protocol.probe import Probe
from protocol.random_bits import Purpose, words
from protocol.record import Record, log, surroundings, write_record, write_table
from protocol.reference import Arrays, Pass, cross_entropy, forward, update
from protocol.request import Request

# A sum of K terms held in L partial sums has a rounding error that grows as the root of K / L. Kernels hold 8 to 64, so
# two correct ones differ by a factor of up to root 8; three deviations of scatter on top make about 8.
SAFETY = 8.0
PERTURBATIONS = 4
FP32_UNIT = 2.0**-24
FP64_UNIT_RATIO = 2.0**-29
ENVELOPE_STEPS = 50
# Training amplifies any rounding, so another kernel's run is one more draw of the perturbed runs' distribution. The
# largest of four draws is about one deviation; four times that leaves one run in some ten thousand outside.
ENVELOPE_SAFETY = 4.0
ENVELOPE_COLUMNS = ("step", "loss", "low", "high")


@dataclass
class OracleRun:
    """A short run's observations and the choices it made, step by step."""

    probe: Probe
    choices: list[Arrays]


def perturbed(images: np.ndarray, seed: int) -> np.ndarray:
    """Move every float32 pixel by one unit in the last place, up or down at random; seed 0 leaves them."""
    if seed == 0:
        return images
    up = np.unpackbits(words(seed, Purpose.ULP, -(-images.size // 64)).view(np.uint8))[: images.size]
    target = np.where(up.reshape(images.shape) == 1, np.float32(np.inf), np.float32(-np.inf))
    return np.nextafter(images, target)


def train(
    experiment: Experiment,
    steps: int,
    dtype: type,
    *,
    perturbation: int = 0,
    imposed: list[Arrays] | None = None,
    observe: bool = True,
) -> OracleRun:
    """Train for ``steps`` and observe; ``imposed`` holds choices to keep to, by step.

    Without ``observe`` only the losses are kept.
    """
    network, case = experiment.network, experiment.case
    start = experiment.weights()
    weights: Arrays = {name: value.astype(dtype) for name, value in start.items()}
    momentum = {name: np.zeros_like(value) for name, value in weights.items()}
    seen, choices = Probe(), []
    for step in range(steps):
        samples = experiment.samples(step)
        images: np.ndarray = perturbed(experiment.images(step, samples), perturbation).astype(dtype)
        run = Pass(
            weights,
            dropout.masks(network, experiment.seed, step, 0, case.batch),
            imposed[step] if imposed else None,
        )
        logits, backward = forward(network, images, run)
        loss, gradient = cross_entropy(logits, experiment.labels(samples))
        backward(gradient)
        seen.losses.append(loss)
        if observe:
            choices.append(run.choices)
            if step == 0:
                seen.logits, seen.gradients = logits, run.gradients
        update(weights, momentum, run.gradients, experiment.recipe, experiment.rate(step))
    if observe:
        seen.weights = weights
    return OracleRun(seen, choices)


def tolerances(experiment: Experiment, steps: int, truth: OracleRun) -> dict[str, dict[str, float]]:
    """By rung (imposed, free, fp64) and quantity: how far a correct network may be from float64."""
    start, expected = experiment.weights(), truth.probe.tensors()
    bounds: dict[str, dict[str, float]] = {}
    for rung, imposed in (("imposed", truth.choices), ("free", None)):
        largest: dict[str, float] = {}
        for seed in range(PERTURBATIONS):
            other = train(experiment, steps, np.float32, perturbation=seed, imposed=imposed)
            for name, found in probe.distances(other.probe, expected, start).items():
                largest[name] = max(largest.get(name, 0.0), found.difference)
        if rung == "free":
            _share_bounds(largest)
        floor = len(experiment.network.layers) * FP32_UNIT
        bounds[rung] = {name: max(SAFETY * value, floor) for name, value in largest.items()}
    bounds["fp64"] = {name: value * FP64_UNIT_RATIO for name, value in bounds["imposed"].items()}
    return bounds


def _share_bounds(largest: dict[str, float]) -> None:
    """Give every quantity that ReLU's and pooling's choices reach the largest distance of its kind.

    fc8 has no ReLU above it, so no choice reaches its gradient at step 0, nor do choices move the logits by a jump.
    """
    for kind in ("gradient.", "weight."):
        reached = [name for name in largest if name.startswith(kind) and not name.startswith("gradient.fc8.")]
        bound = max(largest[name] for name in reached)
        largest.update(dict.fromkeys(reached, bound))


def envelope(experiment: Experiment, steps: int) -> Iterator[dict[str, float]]:
    """Per step: the float64 loss, and the bounds within which float32 runs of the same seed should stay.

    The bounds are ``ENVELOPE_SAFETY`` times the largest distance of any perturbed float32 run at this or an earlier
    step, and at least one unit roundoff for each layer.
    """
    truth = train(experiment, steps, np.float64, observe=False).probe.losses
    others = [
        train(experiment, steps, np.float32, perturbation=seed, observe=False).probe.losses
        for seed in range(PERTURBATIONS)
    ]
    spread = 0.0
    for step, loss in enumerate(truth):
        spread = max(spread, *(abs(other[step] - loss) for other in others))
        bound = max(ENVELOPE_SAFETY * spread, len(experiment.network.layers) * FP32_UNIT * loss)
        yield {"step": step, "loss": loss, "low": loss - bound, "high": loss + bound}


def choices_by_name(choices: list[Arrays]) -> Arrays:
    """All steps' choices under names such as ``0.relu1``."""
    return {f"{step}.{layer}": value for step, made in enumerate(choices) for layer, value in made.items()}


def consult(request: Request) -> None:
    """Carry out a case and write what backends are compared with to ``request.out``."""
    experiment = open_experiment(request.case, request.data, request.seed)
    started = time.monotonic()
    steps = experiment.total_steps
    record = Record(
        kind="oracle",
        backend="oracle",
        placement="single",
        devices=["cpu:0"],
        case=request.case.content(),
        seed=request.seed,
        precision="fp64",
        threads=os.cpu_count() or 1,
        plan_hash=experiment.plan_hash(),
        **surroundings(("numpy",)),
    )
    if request.case.name.startswith("parity"):
        log(f"oracle {request.case.name}: {steps} steps in float64")
        truth = train(experiment, steps, np.float64)
        log(f"oracle {request.case.name}: {2 * PERTURBATIONS} perturbed runs in float32, for the tolerances")
        record.result = {"tolerances": tolerances(experiment, steps, truth)}
        request.out.mkdir(parents=True, exist_ok=True)
        probe.save_tensors(request.out / "tensors.safetensors", truth.probe.tensors())
        probe.save_tensors(request.out / "choices.safetensors", choices_by_name(truth.choices))
    else:
        steps = request.steps or ENVELOPE_STEPS
        log(f"oracle {request.case.name}: {steps} steps in float64 and {PERTURBATIONS} times in float32")
        write_table(request.out / "envelope.csv", ENVELOPE_COLUMNS, envelope(experiment, steps))
    record.status, record.seconds = "finished", round(time.monotonic() - started, 2)
    write_record(request.out, record)

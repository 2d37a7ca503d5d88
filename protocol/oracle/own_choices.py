"""Gradients against float64 that makes the backend's own choices, not the oracle's.

In float32 a few near-ties in ReLU and pooling fall the other way, and a gradient jumps by far more than rounding: the
free reading's bounds of gradients are wide. But what a backend chose can be read off what its layers put out, and with
the same choices in float64 only rounding is left.
"""

from math import prod

import numpy as np

from paper.architecture import Activation, Network, Pool
from protocol.experiment import dropout
from protocol.experiment.experiment import Experiment
from protocol.oracle.network import Arrays, ForwardPass, cross_entropy, forward, places
from protocol.oracle.quantities import Distance, distance


def choices(network: Network, seen: Arrays) -> Arrays | None:
    """ReLU's signs and pooling's places by layer, from what each layer put out; None where a layer was not seen whole.

    ``seen``: ``forward.L`` of each layer L, (batch, *its shape).
    """
    found: Arrays = {}
    before = None
    for layer in network:
        value = seen.get(f"forward.{layer.name}")
        if value is None or value[0].size != prod(layer.shape_out):
            return None
        if isinstance(layer, Activation) and layer.function == "relu":
            found[layer.name] = value > 0
        elif isinstance(layer, Pool) and before is not None:
            found[layer.name] = places(layer, before)
        before = value
    return found


def backward(experiment: Experiment, seen: Arrays) -> dict[str, Distance]:
    """How far each gradient of step 0 is from float64's with the choices that ``seen`` shows, as ``backward.X``."""
    made = choices(experiment.network, seen)
    if made is None:
        return {}
    weights = {name: value.astype(np.float64) for name, value in experiment.weights().items()}
    samples = experiment.samples(0)
    masks = dropout.masks(experiment.network, experiment.seed, 0, 0, experiment.case.batch)
    run = ForwardPass(weights, masks, imposed=made, to_images=False)
    logits, back = forward(experiment.network, experiment.images(0, samples).astype(np.float64), run)
    back(cross_entropy(logits, experiment.labels(samples))[1])
    return {
        f"backward.{name}": distance(seen[f"gradient.{name}"], truth)
        for name, truth in run.gradients.items()
        if f"gradient.{name}" in seen
    }

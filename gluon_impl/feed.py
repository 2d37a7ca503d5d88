"""From the store and the plan to arrays on the contexts, prepared while the network trains (section 4.1)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mxnet as mx
import numpy as np

from gluon_impl.network import AlexNet
from protocol import dropout
from protocol.experiment import Experiment

AHEAD = 2  # batches prepared beyond the one in use


@dataclass(frozen=True)
class Batch:
    """One step's arrays. ``images``: a copy per context; ``masks``: by dropout layer, each context's part."""

    images: list[mx.nd.NDArray]
    labels: mx.nd.NDArray  # (batch,) on the first context
    masks: dict[str, list[mx.nd.NDArray]]


def place(network: AlexNet, array: np.ndarray) -> list[mx.nd.NDArray]:
    """A copy of ``array`` on every context, in the network's precision."""
    return [mx.nd.array(array, ctx=context, dtype=network.dtype) for context in network.contexts]


def training_batch(experiment: Experiment, network: AlexNet, step: int) -> Batch:
    samples = experiment.samples(step)
    images = experiment.images(step, samples)
    labels = mx.nd.array(experiment.labels(samples), ctx=network.contexts[0], dtype=network.dtype)
    kept = dropout.masks(experiment.network, experiment.seed, step, 0, len(samples))
    masks = {
        name: [
            mx.nd.array(mask[:, share.slice(mask.shape[1])], ctx=share.context, dtype=network.dtype)
            for share in network.shares
        ]
        for name, mask in kept.items()
    }
    return Batch(place(network, images), labels, masks)


def training_batches(experiment: Experiment, network: AlexNet, steps: range) -> Iterator[Batch]:
    """The batches of ``steps`` in order, a few prepared ahead."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(training_batch, experiment, network, step) for step in steps[:AHEAD]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + AHEAD < steps.stop:
                waiting.append(pool.submit(training_batch, experiment, network, step + AHEAD))
            yield batch

"""From the store and the plan to arrays on the contexts, prepared while the network trains (section 4.1)."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import mxnet as mx
import numpy as np

from gluon_impl.network import AlexNet
from protocol.experiment import dropout
from protocol.experiment.experiment import AHEAD, Experiment


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the network at once.

    ``images``: a copy for each share of the first layer; ``masks``: by dropout layer, each share's part.
    """

    images: list[mx.nd.NDArray]
    labels: mx.nd.NDArray  # (images,) where the logits will be
    masks: dict[str, list[mx.nd.NDArray]]


Batch = list[MicroBatch]


def micro_batch(experiment: Experiment, network: AlexNet) -> int:
    """How many images go through the network at once."""
    return experiment.case.batch // (network.replicas * network.micro_batches)


def place(network: AlexNet, array: np.ndarray, replica: int = 0) -> list[mx.nd.NDArray]:
    """A copy of ``array`` for every share of the first layer, in the network's precision."""
    shares = network.shares_of[network.table.layers[0].name]
    return [mx.nd.array(array, ctx=share.contexts[replica], dtype=network.dtype) for share in shares]


def training_batch(experiment: Experiment, network: AlexNet, step: int, pixels: np.ndarray | None = None) -> Batch:
    """The micro-batches of a step, one replica's after another's; ``pixels``: room for the images of one."""
    samples = experiment.samples(step)
    size = micro_batch(experiment, network)
    last = network.shares_of[network.table.layers[-1].name][0]
    batch = []
    for first in range(0, len(samples), size):
        replica = first // (size * network.micro_batches)
        own = samples[first : first + size]
        labels = mx.nd.array(experiment.labels(own), ctx=last.contexts[replica], dtype=network.dtype)
        kept = dropout.masks(experiment.network, experiment.seed, step, first, size)
        masks = {
            name: [
                mx.nd.array(mask[:, share.slice(mask.shape[1])], ctx=share.contexts[replica], dtype=network.dtype)
                for share in network.shares_of[name]
            ]
            for name, mask in kept.items()
        }
        images = place(network, experiment.images(step, own, pixels), replica)
        batch.append(MicroBatch(images, labels, masks))
    return batch


def training_batches(experiment: Experiment, network: AlexNet, steps: range) -> Generator[Batch, None, None]:
    """The batches of ``steps`` in order, a few prepared ahead."""
    pixels = np.empty((micro_batch(experiment, network), *experiment.network.input_shape), np.float32)
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(training_batch, experiment, network, step, pixels) for step in steps[:AHEAD]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + AHEAD < steps.stop:
                waiting.append(pool.submit(training_batch, experiment, network, step + AHEAD, pixels))
            yield batch

"""From the store and the plan to the stages that read them, prepared by a thread while they compute (section 4.1).

DeepSpeed asks for micro-batches of (images, labels): its first stage reads the images, its last the labels.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from deepspeed_impl.network import Slice
from protocol.experiment import Experiment

AHEAD = 2  # steps prepared beyond the one in use
Micro = tuple[torch.Tensor | None, torch.Tensor]


def micro_batches(images: np.ndarray | None, labels: np.ndarray, size: int, dtype: torch.dtype) -> list[Micro]:
    """Cut a batch into micro-batches of ``size``; ``images`` is None on a stage that does not read them."""
    pixels = None if images is None else torch.from_numpy(images).to(dtype)
    targets = torch.from_numpy(labels)
    cuts = [slice(start, start + size) for start in range(0, len(labels), size)]
    return [(None if pixels is None else pixels[cut], targets[cut]) for cut in cuts]


def training_batches(
    experiment: Experiment, steps: range, micro: Slice, dtype: torch.dtype, *, first: bool
) -> Iterator[list[Micro]]:
    """The micro-batches of each of ``steps``, a few steps prepared ahead; ``first``: this stage reads the images."""

    def prepare(step: int) -> list[Micro]:
        samples = experiment.samples(step)[micro.first : micro.first + micro.count * micro.size]
        images = experiment.images(step, samples) if first else None
        return micro_batches(images, experiment.labels(samples), micro.size, dtype)

    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(prepare, step) for step in steps[:AHEAD]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + AHEAD < steps.stop:
                waiting.append(pool.submit(prepare, step + AHEAD))
            yield batch

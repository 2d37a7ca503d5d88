"""From the store and the plan to the stages that read them, prepared by a thread while they compute (section 4.1).

DeepSpeed asks for micro-batches of (images, labels): its first stage reads the images, its last the labels.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from deepspeed.accelerator import get_accelerator

from deepspeed_impl.network import StepPart
from protocol.experiment.experiment import AHEAD, Experiment

Micro = tuple[torch.Tensor | None, torch.Tensor]


def micro_batches(
    images: np.ndarray | None, labels: np.ndarray, size: int, dtype: torch.dtype, device: str | torch.device
) -> list[Micro]:
    """Cut a batch into micro-batches of ``size``; ``images`` is None on a stage that does not read them."""
    pixels = None if images is None else torch.from_numpy(images).to(device, dtype)
    targets = torch.from_numpy(labels).to(device)
    cuts = [slice(start, start + size) for start in range(0, len(labels), size)]
    return [(None if pixels is None else pixels[cut], targets[cut]) for cut in cuts]


def training_batches(
    experiment: Experiment,
    steps: range,
    micro: StepPart,
    dtype: torch.dtype,
    device: str | torch.device,
    *,
    first: bool,
) -> Iterator[list[Micro]]:
    """The micro-batches of each of ``steps``, a few steps prepared ahead; ``first``: this stage reads the images.

    A batch is the caller's until it asks for the next.
    """
    count = micro.count * micro.size
    # One in use, the others being filled; page-locked where the device is not the host, so that it copies by itself.
    shape = (AHEAD + 1, count, *experiment.network.input_shape)
    buffers = get_accelerator().pin_memory(torch.empty(shape)).numpy() if first else None

    def prepare(step: int) -> list[Micro]:
        samples = experiment.samples(step)[micro.first : micro.first + count]
        images = None if buffers is None else experiment.images(step, samples, buffers[step % len(buffers)])
        return micro_batches(images, experiment.labels(samples), micro.size, micro.lowered or dtype, device)

    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = [pool.submit(prepare, step) for step in steps[:AHEAD]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + AHEAD < steps.stop:
                waiting.append(pool.submit(prepare, step + AHEAD))
            yield batch

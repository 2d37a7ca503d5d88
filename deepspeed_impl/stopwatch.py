"""What each layer's training costs on this machine, measured, so that the pipeline is cut where its work is even.

How long a layer takes against another depends on the processor: its matrix unit, its caches, how many ranks share its
memory. A cut chosen by operation counts alone is even on one machine and lopsided on the next.
"""

import time
from collections.abc import Callable

import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator

from deepspeed_impl.network import Stage, StepPart
from deepspeed_impl.optimizer import PaperSGD
from deepspeed_impl.share import maps_last
from paper.architecture import Network
from paper.recipe import Preset

ROUNDS = 2  # a third led to the same cuts


def layer_seconds(
    network: Network, recipe: Preset, micro: StepPart, dtype: torch.dtype, rounds: int = ROUNDS
) -> dict[str, float]:
    """By layer, the seconds that it adds to a step of ``micro.count`` micro-batches, the mean over all ranks.

    All ranks measure all layers at the same time, as they will compute at the same time.
    """
    device = get_accelerator().current_device_name()
    # Any values do, but zeros and denormals would take another time.
    values = maps_last(torch.randn(micro.size, *network.layers[0].shape_in, device=device, dtype=dtype))
    dist.barrier()
    found = []
    for layer in network:
        stage = Stage([layer], micro)
        for parameter in stage.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
        stage.to(device, dtype)
        seconds, values = _measured(stage, PaperSGD(stage.canonical(), recipe), values, micro.count, rounds)
        found.append(seconds)
    mean = torch.tensor(found, dtype=torch.float64, device=device)
    dist.all_reduce(mean)
    names = [layer.name for layer in network]
    return dict(zip(names, (mean / dist.get_world_size()).tolist(), strict=True))


def _measured(
    stage: Stage, optimizer: PaperSGD, values: torch.Tensor, count: int, rounds: int
) -> tuple[float, torch.Tensor]:
    """A step's seconds, and other values of the shape that ``stage`` sends on."""
    sent = torch.randn_like(stage.run_layers(values))

    def passes() -> None:
        values.grad = None
        stage.run_layers(values).backward(sent)

    def step() -> list[float]:
        stage.zero_grad()
        return [*(_seconds(passes) for _ in range(count)), _seconds(stage.finish_gradients), _seconds(optimizer.step)]

    # The first round compiles and chooses algorithms.
    took = [step() for _ in range(rounds)]
    return sum(min(same) for same in zip(*took, strict=True)), sent.requires_grad_()


def _seconds(work: Callable[[], object]) -> float:
    accelerator = get_accelerator()
    accelerator.synchronize()
    started = time.perf_counter()
    work()
    accelerator.synchronize()
    return time.perf_counter() - started

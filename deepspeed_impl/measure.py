"""Bytes and seconds per rank: torch's allocation events, and a clock around each of DeepSpeed's instructions."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.pipe import schedule
from torch.profiler import ProfilerActivity, profile

from deepspeed_impl.session import Session
from protocol.experiment.experiment import AHEAD
from protocol.ledger.deepspeed import step
from protocol.ledger.memory import Part
from protocol.ledger.rows import resident, rows

METHOD = "torch.profiler, peak of allocation events in a step, on top of what it starts with"
GPU_METHOD = "torch.cuda.max_memory_allocated in a step"
# What a rank does in each of DeepSpeed's instructions.
DOING = {
    schedule.ForwardPass: "forward",
    schedule.BackwardPass: "backward",
    schedule.OptimizerStep: "update",
    schedule.LoadMicroBatch: "data",
    schedule.SendActivation: "send",
    schedule.RecvActivation: "receive",
    schedule.SendGrad: "send",
    schedule.RecvGrad: "receive",
}
PHASES = {
    **dict.fromkeys(("forward", "backward", "update"), "compute"),
    "data": "data",
    # A stage that has nothing to do yet waits in these, so they hold communication and bubble together.
    **dict.fromkeys(("send", "receive"), "communication and bubble"),
}


@dataclass
class Clock:
    """What a rank has done since the last reset: (what, when it began, seconds).

    All ranks of a machine share the clock.
    """

    done: list[tuple[str, float, float]]

    def phases(self) -> dict[str, float]:
        """Seconds by phase."""
        found: dict[str, float] = {}
        for doing, _, seconds in self.done:
            found[PHASES[doing]] = found.get(PHASES[doing], 0.0) + seconds
        return found

    @classmethod
    def around(cls, engine: Any) -> "Clock":
        """Time every instruction that ``engine`` carries out."""
        clock = cls([])

        def timed(doing: str, execute: Callable[..., None]) -> Callable[..., None]:
            def run(self: Any, *args: Any, **kwargs: Any) -> None:
                started = time.perf_counter()
                execute(self, *args, **kwargs)
                # A GPU has only been told; a processor is done.
                get_accelerator().synchronize()
                clock.done.append((doing, started, time.perf_counter() - started))

            return run

        engine._INSTRUCTION_MAP = {
            instruction: timed(DOING[instruction], execute) if instruction in DOING else execute
            for instruction, execute in engine._INSTRUCTION_MAP.items()
        }
        return clock


@dataclass
class Allocated:
    """Bytes of a step: the most that it had allocated at one time, and its gradients when the optimizer took them."""

    peak: int = 0
    gradients: int = 0


@contextmanager
def allocations(session: Session) -> Iterator[Allocated]:
    """Yield an object that holds, at the end of the block, what a step in it allocated."""
    allocated = Allocated()

    def weigh(*_: Any) -> None:
        allocated.gradients = _bytes(value.grad for value in session.stage.parameters() if value.grad is not None)

    hook = session.optimizer.register_step_pre_hook(weigh)
    accelerator = get_accelerator()
    if accelerator.device_name() != "cpu":
        accelerator.reset_peak_memory_stats()
        yield allocated
        hook.remove()
        allocated.peak = accelerator.max_memory_allocated() - _starts_with(session)
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield allocated
    hook.remove()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        allocated.peak = max(allocated.peak, current)


def memory(session: Session, device: str, allocated: Allocated) -> list[dict[str, Any]]:
    """This rank's rows of ``memory.csv``; ``allocated``: in one step."""
    engine, micro = session.engine, session.micro
    part = Part(
        session.experiment.network,
        session.stages[engine.stage_id],
        micro.size,
        columns=micro.share.count,
        micro_batches=micro.count,
        # One forward, one backward: stage s of p has up to p - s micro-batches in flight.
        in_flight=min(micro.count, engine.num_stages - engine.stage_id),
        # Elsewhere than on the host, the feed puts batches on the device ahead of time.
        waiting=0 if get_accelerator().device_name() == "cpu" else 1 + AHEAD,
        width=session.dtype.itemsize,
        lowered=micro.lowered and micro.lowered.itemsize,
    )
    parameters, velocities = _held(session)
    held = {"parameters": parameters, "gradients": allocated.gradients, "momentum": velocities}
    method = METHOD if get_accelerator().device_name() == "cpu" else GPU_METHOD
    found = rows(device, step(part), held, _starts_with(session) + allocated.peak, method)
    return [*found, resident(device, psutil.Process().memory_info().rss)]


def _held(session: Session) -> tuple[int, int]:
    """Bytes of parameters and of their momentum."""
    velocities = sum(value.nbytes for value in session.optimizer.velocities().values())
    return _bytes(session.stage.canonical().values()), velocities


def _starts_with(session: Session) -> int:
    """Bytes that a step finds allocated."""
    return sum(_held(session)) + _bytes(_received(session.engine))


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _received(engine: Any) -> list[torch.Tensor]:
    """Where activations and gradients from the neighbours arrive; kept from step to step."""
    found = [engine.pipe_recv_buf, engine.grad_layer]
    return [
        buffer
        for each in found
        for buffer in (each if isinstance(each, list | tuple) else [each])
        if buffer is not None
    ]

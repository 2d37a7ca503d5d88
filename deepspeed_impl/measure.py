"""Bytes and seconds per rank: torch's allocation events, and a clock around each of DeepSpeed's instructions."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from deepspeed.runtime.pipe import schedule
from torch.profiler import ProfilerActivity, profile

from deepspeed_impl.session import Session
from paper.cost import held_today
from protocol import ledger

METHOD = "torch.profiler, peak of allocation events in a step, on top of what it starts with"
PHASES = {
    schedule.ForwardPass: "compute",
    schedule.BackwardPass: "compute",
    schedule.OptimizerStep: "compute",
    schedule.LoadMicroBatch: "data",
    # A stage that has nothing to do yet waits in these, so they hold communication and bubble together.
    schedule.SendActivation: "communication and bubble",
    schedule.RecvActivation: "communication and bubble",
    schedule.SendGrad: "communication and bubble",
    schedule.RecvGrad: "communication and bubble",
}


@dataclass
class Clock:
    """Seconds spent in each phase since the last reset."""

    seconds: dict[str, float]

    @classmethod
    def around(cls, engine: Any) -> "Clock":
        """Time every instruction that ``engine`` carries out."""
        clock = cls({})

        def timed(phase: str, carry_out: Callable[..., None]) -> Callable[..., None]:
            def run(self: Any, *args: Any, **kwargs: Any) -> None:
                started = time.perf_counter()
                carry_out(self, *args, **kwargs)
                clock.seconds[phase] = clock.seconds.get(phase, 0.0) + time.perf_counter() - started

            return run

        engine._INSTRUCTION_MAP = {
            instruction: timed(PHASES[instruction], carry_out) if instruction in PHASES else carry_out
            for instruction, carry_out in engine._INSTRUCTION_MAP.items()
        }
        return clock


@dataclass
class Peak:
    size: int = 0


@contextmanager
def allocations() -> Iterator[Peak]:
    """Yield an object that holds, at the end of the block, the peak of what was allocated in it, in bytes."""
    peak = Peak()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield peak
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    current = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        current += event.nbytes()
        peak.size = max(peak.size, current)


def memory(session: Session, device: str, peak: int) -> list[dict[str, Any]]:
    """This rank's rows of ``memory.csv``; ``peak`` is what one step allocated at its highest."""
    network, stage = session.experiment.network, session.engine.stage_id
    # One forward, one backward: stage s of p has up to p - s micro-batches in flight.
    predicted = held_today(
        network,
        session.micro.size,
        layers=session.pipeline.stages[stage],
        devices=session.micro.share.count,
        in_flight=min(session.micro.count, session.engine.num_stages - stage),
    )
    held = sum(value.numel() * value.element_size() for value in session.stage.canonical().values())
    velocities = sum(value.nbytes for value in session.optimizer.velocities().values())
    measured = {"parameters": held, "gradients": held, "momentum": velocities}
    rows = ledger.rows(device, predicted, measured, held + velocities + peak, METHOD)
    return [*rows, ledger.resident(device, psutil.Process().memory_info().rss)]

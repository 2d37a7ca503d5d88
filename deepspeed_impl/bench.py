"""Measure a training step's time and memory.

python -m deepspeed_impl bench --case full --placement stages --steps 5
"""

import time
from contextlib import nullcontext
from itertools import chain
from typing import Any

import deepspeed.comm as dist
import torch.distributed
from deepspeed.accelerator import get_accelerator

from deepspeed_impl import feed, measure
from deepspeed_impl.session import Session, open_session
from deepspeed_impl.stopwatch import layer_seconds
from deepspeed_impl.train import train_step
from protocol.runs.request import BenchRequest
from protocol.runs.run import Run, bench_length, claimed

WARM_UP = 3  # steps: memory is taken from the system in the first few


def bench(request: BenchRequest) -> None:
    """Train for a few steps; write ``memory.csv``, ``timings.csv``, ``timeline.csv``, if asked for ``layers.csv``."""
    session = open_session(request, "bench")
    run = Run(request.out, session.record)
    with claimed(request.out) if session.keeps_record else nullcontext():
        with run.recorded() if session.keeps_record else nullcontext():
            memory, timings, timeline = _measure(session, request)
            layers = _layers(session) if request.layers else None
            if session.keeps_record:
                run.finish_bench(memory, timings, timeline, layers)


def _layers(session: Session) -> dict[str, float]:
    """Seconds of a step by layer, each carried out by itself."""
    experiment = session.experiment
    # More rounds than a cut needs: these figures are reported.
    return layer_seconds(experiment.network, experiment.recipe, session.micro, session.dtype, rounds=6)


Rows = list[dict[str, Any]]


def _measure(session: Session, request: BenchRequest) -> tuple[Rows, Rows, Rows]:
    """Memory, timings and timeline of all ranks, on every rank."""
    experiment, engine = session.experiment, session.engine
    device = session.device
    # The last step is watched for memory, which slows it, and not timed.
    last = WARM_UP + bench_length(experiment, WARM_UP + 1, request.steps)
    batches = feed.training_batches(
        experiment, range(last + 1), session.micro, session.dtype, engine.device, first=engine.is_first_stage()
    )
    clock = measure.Clock.around(engine)
    rows: Rows = []
    timeline: Rows = []
    for step in range(last):
        clock.done.clear()
        dist.barrier()
        started = time.perf_counter()
        batch = next(batches)
        fed = time.perf_counter()
        train_step(session, batch, experiment.rate(step))
        get_accelerator().synchronize()
        ended = time.perf_counter()
        if step >= WARM_UP:
            timeline = [
                {"device": device, "doing": doing, "start": began, "seconds": seconds}
                for doing, began, seconds in clock.done
            ]
            phases = clock.phases()
            phases["data"] = phases.get("data", 0.0) + fed - started
            rows += [
                {"step": step, "device": device, "phase": name, "seconds": value} for name, value in phases.items()
            ]
            if session.keeps_record:
                rows.append({"step": step, "device": "all", "phase": "step", "seconds": ended - started})
    batch = next(batches)
    with measure.allocations(session) as allocated:
        train_step(session, batch, experiment.rate(last))
    gathered: list[Any] = [None] * dist.get_world_size()
    torch.distributed.all_gather_object(gathered, (measure.memory(session, device, allocated), rows, timeline))
    memory, timings, timelines = (list(chain.from_iterable(tables)) for tables in zip(*gathered, strict=True))
    first = min((row["start"] for row in timelines), default=0.0)
    return memory, timings, [{**row, "start": row["start"] - first} for row in timelines]

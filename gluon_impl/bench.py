"""Measure a training step's time and memory.

python -m gluon_impl bench --case full --placement columns --steps 5
"""

import time
from typing import Any

import mxnet as mx

from gluon_impl import feed, measure
from gluon_impl.session import Session, open_session
from gluon_impl.stopwatch import layer_seconds
from gluon_impl.train import train_step
from protocol.experiment.experiment import AHEAD
from protocol.runs.request import BenchRequest
from protocol.runs.run import Run, bench_length, claimed

WARM_UP = 3  # steps: memory is taken from the system in the first few


def bench(request: BenchRequest) -> None:
    """Train for a few steps; write ``memory.csv``, ``timings.csv``, and ``layers.csv`` if it is asked for."""
    measure.start()
    session = open_session(request, "bench")
    experiment = session.experiment
    length = bench_length(experiment, WARM_UP + AHEAD, request.steps)
    with claimed(request.out):
        run = Run(request.out, session.record)
        with run.recorded():
            steps = range(WARM_UP + length)
            # Those prepared ahead at the last step count as at any other.
            batches = feed.training_batches(experiment, session.network, range(len(steps) + AHEAD))
            rows: list[dict[str, Any]] = []
            for step in steps:
                if step == WARM_UP:
                    measure.forget()
                started = time.perf_counter()
                batch = next(batches)
                fed = time.perf_counter()
                train_step(session.network, session.optimizer, batch, experiment.rate(step))
                mx.nd.waitall()
                ended = time.perf_counter()
                if step >= WARM_UP:
                    rows.append({"step": step, "device": "all", "phase": "data", "seconds": fed - started})
                    rows.append({"step": step, "device": "all", "phase": "step", "seconds": ended - started})
            peak = measure.peaks(session)
            batches.close()
            del batch
            memory = measure.memory(session, peak, measure.at_rest(session))
            run.finish_bench(memory, rows, layers=_layers(session) if request.layers else None)


def _layers(session: Session) -> dict[str, float]:
    """Seconds of a step by layer, each carried out by itself."""
    table, dtype = session.network.table, session.network.dtype
    return layer_seconds(table, session.network.contexts[0], dtype, session.record.case["batch"], micro_batches=1)

"""The oracle's own runs: what they write into their folders.

tensors.safetensors     the quantities of :mod:`protocol.oracle.quantities`, float64
choices.safetensors     by step and layer: the signs ReLU saw and the places pooling chose
tolerances.csv          by reading and quantity; with how far the random draws are from what they should be
envelope.csv            of a longer run: the loss at each step, and the bounds float32 runs should keep to
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from protocol.base.log import log
from protocol.base.provenance import surroundings
from protocol.base.tables import write_table
from protocol.base.tensors import save_tensors
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle import bounds, literal
from protocol.oracle.bounds import ENVELOPE_STEPS, PERTURBATIONS
from protocol.runs.record import Record
from protocol.runs.request import EnvelopeRequest, OracleRequest, Request
from protocol.runs.run import Run, claimed

ENVELOPE_COLUMNS = ("step", "loss", "low", "high")
TOLERANCE_COLUMNS = ("reading", "quantity", "tolerance", "difference", "where")


def oracle(request: OracleRequest) -> None:
    """Write a parity case's tensors, choices and tolerances to ``request.out``."""
    with _recorded(request) as experiment:
        _write(request, experiment)


def envelope(request: EnvelopeRequest) -> None:
    """Write the bounds of a training case's first losses to ``request.out``."""
    with _recorded(request) as experiment:
        steps = request.steps or ENVELOPE_STEPS
        runs = f"with ties tipped, and {PERTURBATIONS} times in float32"
        log(f"oracle {request.case.name}: {steps} steps in float64, {runs}")
        write_table(request.out / "envelope.csv", ENVELOPE_COLUMNS, bounds.envelope(experiment, steps))


def _write(request: OracleRequest, experiment: Experiment) -> None:
    case = request.case.name
    log(f"oracle {case}: {experiment.total_steps} steps in float64")
    truth = bounds.observe(experiment, np.float64)
    log(f"oracle {case}: {PERTURBATIONS} perturbed runs in float32 and one with ties tipped, for the tolerances")
    found = bounds.tolerances(experiment, truth, request.readings)
    request.out.mkdir(parents=True, exist_ok=True)
    save_tensors(request.out / "tensors.safetensors", truth.seen)
    save_tensors(request.out / "choices.safetensors", truth.choices)
    write_table(request.out / "tolerances.csv", TOLERANCE_COLUMNS, _rows(found, literal.draws(experiment)))


def _rows(found: dict[str, dict[str, float]], drawn: dict[str, literal.Bounded]) -> Iterable[dict[str, Any]]:
    for reading, own in found.items():
        for quantity, tolerance in own.items():
            yield {"reading": reading, "quantity": quantity, "tolerance": tolerance}
    for quantity, (apart, tolerance) in drawn.items():
        told = {"difference": apart.difference, "where": apart.where}
        yield {"reading": "draws", "quantity": quantity, "tolerance": tolerance, **told}


@contextmanager
def _recorded(request: Request) -> Iterator[Experiment]:
    """Let the block do the work, and write the oracle's record when it is done."""
    experiment = open_experiment(request.case, request.data, request.seed)
    record = Record(
        kind="oracle",
        backend="oracle",
        placement="single",
        devices=["cpu:0"],
        case=request.case.content(),
        seed=request.seed,
        precision="fp64",
        threads=os.cpu_count() or 1,
        plan_hash=experiment.plan_hash(),
        **surroundings(("numpy",)),
    )
    with claimed(request.out):
        run = Run(request.out, record)
        run.resume(None)
        with run.recorded():
            yield experiment
            run.end("finished")

"""One of two ranks that train the tiny network through DeepSpeed's engine, cut at every layer boundary in turn.

python -m tests.deepspeed_impl.cut_everywhere DATA COUNT PRECISION

COUNT is the number of micro-batches. Says which cuts lead to other weights than the oracle's, and which to other bits
than another cut.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepspeed_impl import feed
from deepspeed_impl.launch import leave
from deepspeed_impl.session import open_session
from deepspeed_impl.train import train_step
from paper.architecture import Layer
from protocol.oracle.bounds import Trainee
from protocol.runs.request import make_train

STEPS, TOLERANCE = 2, {"fp64": 1e-10, "fp32": 1e-3}


def main(data: Path, count: int, precision: str) -> None:
    placed = make_train("deepspeed", "tiny", data=data, placement="stages", devices="cpu:0,cpu:1", precision=precision)
    request = replace(placed, micro_batch=8 // count, case=replace(placed.case, batch=8, limit=16, epochs=1))
    expected: Trainee | None = None
    seen: dict[str, bytes] = {}
    for place in range(1, len(request.case.network().layers)):

        def cut(layers: tuple[Layer, ...], *_: object, at: int = place) -> tuple[tuple[Layer, ...], ...]:
            return layers[:at], layers[at:]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("deepspeed_impl.session.cut_evenly", cut)
            session = open_session(request, "parity")
        experiment, steps = session.experiment, range(STEPS)
        if expected is None:
            expected = Trainee(experiment, np.float64)
            for step in steps:
                expected.take(step)
        first = session.engine.is_first_stage()
        batches = feed.training_batches(
            experiment, steps, session.micro, session.dtype, session.engine.device, first=first
        )
        for step, batch in zip(steps, batches, strict=True):
            train_step(session, batch, experiment.rate(step))
        for name, value in session.stage.canonical().items():
            moved = np.linalg.norm(expected.weights[name] - experiment.weights()[name])
            apart = np.linalg.norm(value.detach().numpy() - expected.weights[name])
            if not apart <= TOLERANCE[precision] * moved:
                print(f"cut {place}: {name} is {apart / moved:.1e} off")
            bits = value.detach().numpy().tobytes()
            if seen.setdefault(name, bits) != bits:
                print(f"cut {place}: {name}'s bits are off")
        print(f"cut {place} tried")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    leave()

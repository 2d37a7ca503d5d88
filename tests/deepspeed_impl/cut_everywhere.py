"""One of two ranks that train the tiny network through DeepSpeed's engine, cut at every layer boundary in turn.

python -m tests.deepspeed_impl.cut_everywhere DATA COUNT

COUNT is the number of micro-batches. Says which cuts lead to other weights than the oracle's.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepspeed_impl import feed, placement
from deepspeed_impl.placement import Pipeline
from deepspeed_impl.session import open_session
from deepspeed_impl.train import train_step
from paper.architecture import Network
from protocol.oracle import Trainee
from protocol.request import make_request

STEPS, TOLERANCE = 2, 1e-10


def main(data: Path, count: int) -> None:
    request = make_request("deepspeed", "tiny", placement="stages", devices="cpu:0,cpu:1", data=data, precision="fp64")
    request = replace(request, case=replace(request.case, batch=8, limit=16, epochs=1))
    expected = None
    for place in range(1, len(request.case.network().layers)):

        def plan(table: Network, *_: object, at: int = place) -> Pipeline:
            return Pipeline((table.layers[:at], table.layers[at:]), 8 // count)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(placement, "plan", plan)
            session = open_session(request, "parity")
        experiment, steps = session.experiment, range(STEPS)
        if expected is None:
            expected = Trainee(experiment, np.float64)
            for step in steps:
                expected.take(step)
        first = session.engine.is_first_stage()
        batches = feed.training_batches(experiment, steps, session.micro.size, session.dtype, first=first)
        for step, batch in zip(steps, batches, strict=True):
            train_step(session, batch, experiment.rate(step))
        for name, value in session.stage.canonical().items():
            moved = np.linalg.norm(expected.weights[name] - experiment.weights()[name])
            apart = np.linalg.norm(value.detach().numpy() - expected.weights[name])
            if not apart <= TOLERANCE * moved:
                print(f"cut before {session.stage.layers}: {name} is {apart / moved:.1e} off")
        print(f"cut {place} tried")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

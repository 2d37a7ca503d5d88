"""The order in which a pipeline is simulated is that of DeepSpeed's schedule."""

import pytest
from deepspeed.runtime.pipe.schedule import BackwardPass, ForwardPass, TrainSchedule

from compare.bench.schedule import order

NAMES = {ForwardPass: "forward", BackwardPass: "backward"}


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 3), (2, 1), (2, 4), (3, 5), (4, 2), (8, 16)])
def test_a_stage_does_what_deepspeed_has_it_do(stages: int, micro_batches: int) -> None:
    for stage in range(stages):
        steps = TrainSchedule(micro_batches, stages, stage).steps()
        done = [NAMES[type(command)] for step in steps for command in step if type(command) in NAMES]
        assert [doing for doing, _ in order(stage, stages, micro_batches)] == done

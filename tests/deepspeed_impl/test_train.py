"""The DeepSpeed backend's command line, end to end, on a small store."""

from tests.commands import DEEPSPEED
from tests.training import TrainingTests


class TestTraining(TrainingTests):
    backend = DEEPSPEED

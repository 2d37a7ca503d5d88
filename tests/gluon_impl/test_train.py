"""The Gluon backend's command line, end to end, on a small store."""

from tests.commands import GLUON
from tests.training import TrainingTests


class TestTraining(TrainingTests):
    backend = GLUON

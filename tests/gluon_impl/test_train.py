"""The Gluon backend's command line, end to end, on a small store."""

from pathlib import Path

import pytest

from tests.commands import GLUON
from tests.training import TrainingTests


class TestTraining(TrainingTests):
    backend = GLUON

    @pytest.mark.parametrize("placement", ["stages", "replicas"])
    def test_stages_and_replicas_follow_the_oracle(self, folder: Path, data: Path, placement: str) -> None:
        self.check_training_in(placement, folder, data)

    @pytest.mark.parametrize("placement", ["stages", "replicas"])
    def test_parity_of_stages_and_replicas(self, folder: Path, data: Path, placement: str) -> None:
        self.check_parity_in(placement, folder, data)

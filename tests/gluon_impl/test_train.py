"""The Gluon backend's command line, end to end, on a small store."""

from pathlib import Path

import pytest

from tests.support.commands import GLUON, check_followed_the_oracle
from tests.support.long import long
from tests.support.training import TrainingTests


class TestTraining(TrainingTests):
    backend = GLUON

    @pytest.mark.parametrize("placement", ["stages", "replicas"])
    def test_stages_and_replicas_follow_the_oracle(self, folder: Path, data: Path, placement: str) -> None:
        self.check_training_in(placement, folder, data)

    @pytest.mark.parametrize("placement", ["stages", long("replicas")])
    def test_parity_of_stages_and_replicas(self, folder: Path, data: Path, placement: str) -> None:
        self.check_parity_in(placement, folder, data)

    def test_a_stopped_run_goes_on_without_a_compiler(self, data: Path, tmp_path: Path) -> None:
        """Composed of MXNet's own operators, the norm has a window that is no weight of the network."""
        out = tmp_path / "run"
        for steps in (2, 4):
            self.backend.call(
                "train",
                *("--case", "tiny", "--placement", "columns", "--steps", steps, "--data", data, "--out", out),
                cwd=tmp_path,
                CXX="no-such-compiler",
            )
        check_followed_the_oracle(out, data, seed=0, steps=4)

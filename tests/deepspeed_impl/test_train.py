"""The DeepSpeed backend's command line, end to end, on a small store."""

from pathlib import Path

import pytest

from tests.commands import DEEPSPEED, check_finished_run, check_followed_the_oracle, check_parity, ladder_oracle
from tests.training import TrainingTests


class TestTraining(TrainingTests):
    backend = DEEPSPEED

    @pytest.mark.parametrize("placement", ["columns", "replicas", "stages-columns-replicas"])
    def test_every_axis_of_the_grid_follows_the_oracle(self, folder: Path, data: Path, placement: str) -> None:
        run = self.train(folder, data, "split", placement, "--placement", placement)
        check_finished_run(run, data, placement, seed=1)
        check_followed_the_oracle(run, data, seed=1)

    @pytest.mark.parametrize("placement", ["columns", "replicas"])
    def test_parity_of_the_other_axes(self, folder: Path, data: Path, placement: str) -> None:
        oracle, out = ladder_oracle(data, folder, "paper"), folder / f"parity-{placement}"
        where = ("--placement", placement, "--data", data, "--oracle", oracle, "--out", out)
        self.backend.call("parity", "--case", "ladder", *where, cwd=folder)
        check_parity(out, oracle)

    def test_neither_a_compiler_nor_what_a_killed_build_left_locked_is_needed(self, data: Path, tmp_path: Path) -> None:
        """A rank killed while torch builds an extension leaves a lock behind, at which another would wait for ever."""
        built = tmp_path / "extensions" / "deepspeed_shm_comm"
        built.mkdir(parents=True)
        (built / "lock").touch()
        out = tmp_path / "run"
        said = self.backend.call(
            "train",
            *("--case", "tiny", "--placement", "stages", "--steps", 3, "--data", data, "--out", out),
            cwd=tmp_path,
            CXX="no-such-compiler",
            TORCH_EXTENSIONS_DIR=str(built.parent),
        )
        assert said.count("no C++ compiler") == 1
        check_followed_the_oracle(out, data, seed=0, steps=3)

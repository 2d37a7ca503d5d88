"""The DeepSpeed backend's command line, end to end, on a small store."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import DEEPSPEED, check_followed_the_oracle, rows, weights_of
from tests.support.long import long
from tests.support.training import SEEDS, TrainingTests


class TestTraining(TrainingTests):
    backend = DEEPSPEED

    @pytest.mark.parametrize("placement", ["columns", long("replicas"), long("stages=3")])
    def test_every_axis_of_the_grid_follows_the_oracle(self, folder: Path, data: Path, placement: str) -> None:
        self.check_training_in(placement, folder, data)

    @pytest.mark.long
    def test_all_axes_at_once_follow_the_oracle(self, folder: Path, data: Path) -> None:
        """On eight ranks, of which two cores carry out few steps in a minute."""
        placement = ("--placement", "columns=2,stages=2,replicas=2")
        check_followed_the_oracle(
            self.train(folder, data, "split", "all", *placement, "--steps", 3), data, SEEDS["split"], 3
        )

    @pytest.mark.parametrize("placement", ["columns", long("replicas")])
    def test_parity_of_the_other_axes(self, folder: Path, data: Path, placement: str) -> None:
        self.check_parity_in(placement, folder, data)

    @pytest.mark.parametrize(
        "placement",
        ["single", long("stages"), long("columns")],
    )
    def test_bf16_rounds_operands_and_keeps_weights_whole(self, folder: Path, data: Path, placement: str) -> None:
        run = self.train(folder, data, "single", f"bf16-{placement}", "--placement", placement, "--precision", "bf16")
        whole, lowered = (rows(path / "steps.csv") for path in (self.run(folder, data, "single"), run))
        apart = [abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(lowered, whole, strict=True)]
        assert 1e-5 < apart[0] < 1e-2  # eight bits of operands' 24 are left, and errors even out
        assert max(apart) < 0.1
        weights = weights_of(run)
        assert all(value.dtype == np.float32 for value in weights.values())
        # Lowered weights would have their last 16 bits clear.
        assert (weights["conv3.weight"].view(np.uint32) & 0xFFFF).any()

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
        # Said once, not by each rank; and nothing else is missed.
        assert said.count("the response norm runs as eager operators") == 1
        assert said.count("numpy augments images") == 1
        assert said.count("no C++ compiler") == 2
        check_followed_the_oracle(out, data, seed=0, steps=3)

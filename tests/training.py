"""A backend's command line, end to end, on a small store: the tests of both, written once."""

import re
import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from protocol.record import read_record
from tests.commands import (
    Backend,
    check_finished_run,
    check_followed_the_oracle,
    check_parity,
    rows,
    same,
    weights_of,
    write_oracle,
)

SEEDS = {"single": 0, "split": 1}
# Rounding in float32, relative to the little that a bias of 1 moves in 20 steps.
FP32, FP64 = 3e-4, 1e-9


class TrainingTests:
    """``backend`` is what a subclass adds."""

    backend: ClassVar[Backend]

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp(self.backend.name)

    def train(self, folder: Path, data: Path, kind: str, name: str, *arguments: object) -> Path:
        """Train the tiny case in a placement of ``kind`` into ``name`` below ``folder``."""
        where = ("--placement", self.placement(kind), "--seed", SEEDS[kind], "--data", data, "--out", folder / name)
        self.backend.call("train", "--case", "tiny", *where, *arguments, cwd=folder)
        return folder / name

    def placement(self, kind: str) -> str:
        return self.backend.split if kind == "split" else kind

    def run(self, folder: Path, data: Path, kind: str) -> Path:
        """A finished run, made once."""
        path = folder / kind
        return path if path.exists() else self.train(folder, data, kind, kind)

    @pytest.mark.parametrize("kind", SEEDS)
    def test_a_run_is_whole_and_agrees_with_itself(self, folder: Path, data: Path, kind: str) -> None:
        check_finished_run(self.run(folder, data, kind), data, self.placement(kind), SEEDS[kind])

    @pytest.mark.parametrize("kind", SEEDS)
    def test_a_run_follows_the_oracle_to_its_end(self, folder: Path, data: Path, kind: str) -> None:
        check_followed_the_oracle(self.run(folder, data, kind), data, SEEDS[kind])

    @pytest.mark.parametrize("kind", SEEDS)
    def test_the_same_seed_gives_the_same_weights_bit_for_bit(self, folder: Path, data: Path, kind: str) -> None:
        again = self.train(folder, data, kind, f"{kind}-again")
        assert same(weights_of(self.run(folder, data, kind)), weights_of(again))

    def test_a_finished_run_is_left_as_it_is(self, folder: Path, data: Path) -> None:
        run = self.run(folder, data, "split")
        weights, steps = weights_of(run), (run / "steps.csv").read_text()
        self.train(folder, data, "split", run.name)
        assert same(weights, weights_of(run))
        assert (run / "steps.csv").read_text() == steps
        check_finished_run(run, data, self.backend.split, SEEDS["split"])

    def test_evaluate_repeats_the_last_epochs_errors(self, folder: Path, data: Path) -> None:
        run = self.run(folder, data, "split")
        where = ("--placement", self.backend.split, "--seed", SEEDS["split"], "--data", data, "--out", run)
        said = self.backend.call("evaluate", "--case", "tiny", *where, cwd=folder)
        for views, row in zip(("one view", "ten views"), rows(run / "epochs.csv")[1:], strict=True):
            found = re.search(rf"{views}: top-1 error ([\d.]+)%, top-5 error ([\d.]+)%, loss ([\d.]+)", said)
            assert found, said
            errors = [100 * row["top1_error"], 100 * row["top5_error"], row["validation_loss"]]
            assert [float(text) for text in found.groups()] == pytest.approx(errors, abs=0.01)

    def test_a_run_that_was_stopped_goes_on_in_another_placement(self, folder: Path, data: Path) -> None:
        stopped = self.train(folder, data, "single", "moved", "--steps", 7)
        assert len(rows(stopped / "steps.csv")) == 7
        assert not (stopped / "predictions.safetensors").exists()
        self.train(folder, data, "single", "moved", "--placement", self.backend.split)
        check_finished_run(stopped, data, self.backend.split, SEEDS["single"])
        check_followed_the_oracle(stopped, data, SEEDS["single"])

    def test_without_resume_nothing_of_the_run_before_is_left(self, folder: Path, data: Path) -> None:
        copy = shutil.copytree(self.run(folder, data, "split"), folder / "restarted")
        self.train(folder, data, "split", copy.name, "--steps", 3, "--no-resume")
        check_followed_the_oracle(copy, data, SEEDS["split"], steps=3)

    @pytest.mark.parametrize(
        ("kind", "precision", "imposed", "tolerance"),
        [("single", "fp64", False, FP64), ("split", "fp64", True, FP64), ("split", "fp32", True, FP32)],
    )
    def test_parity_with_the_oracle(
        self, folder: Path, data: Path, kind: str, precision: str, imposed: bool, tolerance: float
    ) -> None:
        oracle = write_oracle(data, folder / "oracle")
        out = folder / f"parity-{kind}-{precision}"
        how = ("--placement", self.placement(kind), "--precision", precision, "--data", data)
        also = ("--imposed",) if imposed else ()
        self.backend.call("parity", "--case", "tiny", *how, "--oracle", oracle, "--out", out, *also, cwd=folder)
        check_parity(out, tolerance)
        assert read_record(out).precision == precision

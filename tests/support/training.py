"""A backend's command line, end to end, on a small store: the tests of both, written once."""

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import ClassVar

import pytest

from paper.recipe import LAYERS
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import open_experiment
from protocol.runs.record import read_record
from tests.support.commands import (
    Backend,
    check_finished_run,
    check_followed_the_oracle,
    check_parity,
    ladder_oracle,
    oracle_norms,
    rows,
    same,
    texts,
    weights_of,
)
from tests.support.long import long

SEEDS = {"single": 0, "split": 1}


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

    @pytest.mark.parametrize("kind", [long("single"), "split"])
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

    def test_a_series_trains_each_of_its_runs_as_it_would_be_by_itself(self, folder: Path, data: Path) -> None:
        """Two runs in one process: the first is the fixture's, observed, and the second is not touched by it."""
        out = folder / "series"
        runs = [
            {"case": "tiny", "seed": SEEDS["single"], "out": str(out / "same")},
            {"case": "tiny", "seed": 5, "variant": "without_conv1", "rate": 1e6, "out": str(out / "lost")},
            {"case": "tiny", "seed": 5, "variant": "merged", "out": str(out / "other")},
        ]
        (folder / "series.json").write_text(json.dumps(runs))
        said = self.backend.call("series", "series.json", "--data", data, cwd=folder)
        assert same(weights_of(out / "same"), weights_of(self.run(folder, data, "single")))
        assert read_record(out / "lost").status == "diverged"
        record = read_record(out / "other")
        assert (record.status, record.case["variant"], record.seed) == ("finished", "merged", 5)
        assert len(record.sources) == 64
        assert {"checks.csv", "gradients.csv", "neighbours.csv", "kernels.safetensors"} <= set(record.files)
        gradients = texts(out / "other" / "gradients.csv")
        norms = {row["layer"]: float(row["norm"]) for row in gradients if row["step"] == "1"}
        assert list(norms) == list(LAYERS)
        assert min(norms.values()) > 0
        # The first step's, which the oracle knows too.
        experiment = open_experiment(find_case("tiny", variant="merged"), data, 5)
        for layer, norm in oracle_norms(experiment).items():
            assert norms[layer] == pytest.approx(norm, rel=1e-3)
        assert "[3/3]" in said
        # All have ended: nothing is trained again.
        assert "[" not in self.backend.call("series", "series.json", "--data", data, cwd=folder)

    @pytest.mark.long
    def test_without_resume_nothing_of_the_run_before_is_left(self, folder: Path, data: Path) -> None:
        copy = shutil.copytree(self.run(folder, data, "split"), folder / "restarted")
        self.train(folder, data, "split", copy.name, "--steps", 3, "--no-resume")
        check_followed_the_oracle(copy, data, SEEDS["split"], steps=3)
        assert "predictions.safetensors" not in read_record(copy).files

    @pytest.mark.parametrize("preset", ["paper", long("chm-145")])
    @pytest.mark.parametrize("kind", SEEDS)
    def test_parity_with_the_oracle(self, folder: Path, data: Path, kind: str, preset: str) -> None:
        self.check_parity_in(self.placement(kind), folder, data, preset)

    @pytest.mark.parametrize("placement", ["single", "stages", long("columns"), long("replicas")])
    def test_bench_measures_every_device(self, folder: Path, data: Path, placement: str) -> None:
        out = folder / f"bench-{placement}"
        where = ["--placement", placement, "--steps", 2, "--data", data, "--out", out]
        where += ["--layers"] if placement == "single" else []
        before = set(folder.iterdir())
        self.backend.call("bench", "--case", "tiny", *where, cwd=folder)
        assert set(folder.iterdir()) == before | {out}
        # A profiler that is told to write its trace there removes it first.
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
        devices = read_record(out).devices
        memory = texts(out / "memory.csv")
        held = [row for row in memory if row["kind"] == "parameters"]
        assert [row["device"] for row in held] == devices
        assert [row["measured_bytes"] for row in held] == [row["predicted_bytes"] for row in held]
        seconds = [float(row["seconds"]) for row in texts(out / "timings.csv") if row["phase"] == "step"]
        assert len(seconds) == 2
        assert min(seconds) > 0
        if placement == "single":
            layers = {row["layer"]: float(row["seconds"]) for row in texts(out / "layers.csv")}
            assert list(layers) == [layer.name for layer in find_case("tiny").network()]
            assert min(layers[layer.name] for layer in find_case("tiny").network().weighted()) > 0
        else:
            assert not (out / "layers.csv").exists()

    def check_training_in(self, placement: str, folder: Path, data: Path) -> None:
        """A whole run in a placement of which there is no ``kind``."""
        run = self.train(folder, data, "split", placement, "--placement", placement)
        check_finished_run(run, data, placement, SEEDS["split"])
        check_followed_the_oracle(run, data, SEEDS["split"])

    def check_parity_in(self, placement: str, folder: Path, data: Path, preset: str = "paper") -> None:
        oracle = ladder_oracle(data, folder, preset)
        out = folder / f"parity-{placement}-{preset}"
        where = ("--placement", placement, "--data", data, "--oracle", oracle, "--out", out)
        self.backend.call("parity", "--case", "ladder", "--preset", preset, *where, cwd=folder)
        check_parity(out, oracle)

"""The backends' command lines, called as a user calls them, and what they must leave behind."""

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from protocol.experiment.cases import find_case
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle.bounds import Trainee
from protocol.oracle.network import Arrays
from protocol.oracle.quantities import READINGS, is_asked
from protocol.placement.grid import Grid
from protocol.runs.record import read_record

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Backend:
    """One backend's command line; ``split``: its placement on two devices."""

    package: str
    split: str

    @property
    def name(self) -> str:
        return self.package.removesuffix("_impl")

    def command(self, verb: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", self.package, verb, *map(str, arguments)]

    def call(self, verb: str, *arguments: object, cwd: Path, **more: str) -> str:
        """Run it in ``cwd``, with ``more`` in its environment, see that it ends well, and return what it said."""
        done = subprocess.run(
            self.command(verb, *arguments),
            cwd=cwd,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr


GLUON, DEEPSPEED = Backend("gluon_impl", "columns"), Backend("deepspeed_impl", "stages")


def environment(**more: str) -> dict[str, str]:
    """This environment, from which the packages are found in any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What DeepSpeed's launcher tells a rank, for tests that start the ranks themselves."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in told.items()}


def weights_of(run: Path) -> Arrays:
    return load_file(run / "weights.safetensors")


def same(left: Arrays, right: Arrays) -> bool:
    """Whether all tensors are equal bit for bit."""
    return list(left) == list(right) and all(left[name].tobytes() == right[name].tobytes() for name in left)


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def texts(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def tiny_experiment(data: Path, seed: int = 0) -> Experiment:
    return open_experiment(find_case("tiny"), data, seed)


@lru_cache
def truth(data: Path, seed: int = 0, steps: int = 20) -> tuple[list[float], Arrays]:
    """The oracle's losses and last weights of the tiny case."""
    trainee = Trainee(tiny_experiment(data, seed), np.float64)
    losses = [trainee.take(step)[2] for step in range(steps)]
    return losses, trainee.weights


def oracle_norms(experiment: Experiment) -> dict[str, float]:
    """By layer, the norm of the first step's gradient by its weights."""
    run, _, _ = Trainee(experiment, np.float64).take(0)
    gradients = {name.removesuffix(".weight"): value for name, value in run.gradients.items() if "weight" in name}
    return {layer.name: float(np.linalg.norm(gradients[layer.name])) for layer in experiment.network.weighted()}


@lru_cache
def ladder_oracle(data: Path, folder: Path, preset: str = "paper") -> Path:
    """The oracle's folder of the ladder's case, written by its command."""
    out = folder / f"oracle-{preset}"
    command = [sys.executable, "-m", "protocol", "oracle", "--case", "ladder", "--preset", preset]
    done = subprocess.run(
        [*command, "--data", str(data), "--out", str(out)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def check_finished_run(folder: Path, data: Path, placement: str, seed: int) -> None:
    """A finished run of the tiny case must hold all that a run's folder is said to, and agree with itself."""
    experiment = tiny_experiment(data, seed)
    test = experiment.store.test
    record, grid = read_record(folder), Grid.parse(placement)
    assert (record.kind, record.status, record.placement, record.seed) == ("train", "finished", grid.name, seed)
    devices = [f"cpu:{number}" for number in range(grid.devices)]
    assert record.devices == list(record.parameters) == devices
    shapes = experiment.network.parameter_shapes()
    held = sum(int(np.prod(shape)) for shape in shapes.values()) * grid.replicas
    assert sum(record.parameters.values()) == held
    if grid.columns > 1:
        assert list(record.parameters.values())[0::2] == list(record.parameters.values())[1::2]
    assert record.plan_hash == experiment.plan_hash()
    text = (folder / "record.json").read_text()
    assert str(folder.parent) not in text
    assert str(ROOT) not in text

    kept = load_file(folder / "predictions.safetensors")
    assert {name: len(value) for name, value in kept.items()} == dict.fromkeys(
        ("labels", "tiles", "ranks_1", "ranks_10"), len(test)
    )
    assert np.array_equal(kept["labels"], test.labels)
    assert np.array_equal(kept["tiles"], test.tiles)
    epochs = rows(folder / "epochs.csv")
    assert [(row["epoch"], row["views"]) for row in epochs] == [(0, 1), (1, 1), (1, 10)]
    for row, name in ((epochs[1], "ranks_1"), (epochs[2], "ranks_10")):
        assert ((kept[name] >= 0) & (kept[name] < 20)).all()
        assert row["top1_error"] == pytest.approx((kept[name] >= 1).mean())
        assert row["top5_error"] == pytest.approx((kept[name] >= 5).mean())

    steps = rows(folder / "steps.csv")
    assert [row["step"] for row in steps] == list(range(20))
    assert [row["rate"] for row in steps] == pytest.approx([0.01] * 10 + [0.001] * 10)
    for row in epochs:
        of_epoch = [step for step in steps if step["epoch"] == row["epoch"]]
        assert row["train_loss"] == pytest.approx(np.mean([step["loss"] for step in of_epoch]))
        assert row["train_error"] == pytest.approx(np.mean([step["error"] for step in of_epoch]))

    weights = weights_of(folder)
    assert {name: value.shape for name, value in weights.items()} == shapes
    assert same(load_file(folder / "features.safetensors"), {"conv1.weight": weights["conv1.weight"]})


def check_followed_the_oracle(folder: Path, data: Path, seed: int, steps: int = 20) -> None:
    """Every loss is the oracle's mean over the batch, and the weights end where the oracle's do.

    A dropout mask, sample, crop, rate or update that differed anywhere would show from there on.
    """
    expected, weights = truth(data, seed, steps)
    losses = [row["loss"] for row in rows(folder / "steps.csv")]
    assert losses == pytest.approx(expected, rel=1e-4)
    start = tiny_experiment(data, seed).weights()
    for name, value in weights_of(folder).items():
        moved = float(np.linalg.norm(weights[name] - start[name]))
        assert float(np.linalg.norm(value - weights[name])) < 0.01 * moved, name


def check_parity(folder: Path, oracle: Path) -> None:
    """A parity run must have taken every reading, and be as near to the oracle as the oracle says."""
    record = read_record(folder)
    assert (record.kind, record.status) == ("parity", "finished")
    with (oracle / "tolerances.csv").open() as file:
        bounds = {(row["reading"], row["quantity"]): float(row["tolerance"]) for row in csv.DictReader(file)}
    with (folder / "ladder.csv").open() as file:
        found = {(row["reading"], row["quantity"]): float(row["difference"]) for row in csv.DictReader(file)}
    expected = {
        (reading, name) for reading, name in bounds if reading in READINGS and is_asked(name, READINGS[reading])
    }
    # What was reported is counted once more from the backend's own logits, and has to be the same.
    reported = {(reading, name) for reading, name in found if name.startswith("report.")}
    assert {name.split(".")[1] for _, name in reported} == {"error", "top1", "top5"}
    assert set(found) - reported == expected - reported
    assert {key: value for key, value in found.items() if not value <= bounds.get(key, 0.0)} == {}

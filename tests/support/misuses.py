"""Every misuse of a backend's command line is answered with one sentence: the tests of both, written once."""

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from protocol.experiment.cases import find_case
from protocol.experiment.experiment import open_experiment
from protocol.runs import state
from protocol.runs.record import Record, write_record
from protocol.runs.run import Run
from tests.support.commands import Backend, environment
from tests.support.long import long


@dataclass(frozen=True)
class Misuse:
    """Arguments and words of the sentence they must be answered with; SPLIT, DATA and so on are filled in."""

    arguments: tuple[str, ...]
    words: tuple[str, ...]
    verb: str = "train"


MISUSES = {
    "no such case": Misuse(("--case", "photo"), ("'photo'", "photos", "tiny")),
    "no such preset": Misuse(("--preset", "2012"), ("'2012'", "chm-145", "caffe")),
    "no such variant": Misuse(("--variant", "tripled"), ("'tripled'", "merged", "cross_at=")),
    "no such layer to cross at": Misuse(("--variant", "cross_at=conv9"), ("conv9", "conv2")),
    "no such precision": Misuse(("--precision", "fp16"), ("'fp16'", "fp32", "fp64", "bf16")),
    "no such placement": Misuse(("--placement", "diagonal"), ("'diagonal'", "single", "SPLIT")),
    "no such flag": Misuse(("--colour", "green"), ("--colour",)),
    "a flag without a number": Misuse(("--batch", "many"), ("--batch", "integer")),
    "a batch of none": Misuse(("--batch", "0"), ("--batch", "0")),
    "a batch larger than the data": Misuse(("--batch", "321"), ("321", "320")),
    "no data": Misuse(("--data", "NOWHERE"), ("NOWHERE", "nox -s prepare")),
    "too few devices": Misuse(("--placement", "SPLIT", "--devices", "cpu:0"), ("SPLIT takes 2", "names 1")),
    "too many devices": Misuse(("--devices", "cpu:0,cpu:1"), ("single takes 1", "names 2")),
    "a device twice": Misuse(("--placement", "SPLIT", "--devices", "cpu:0,cpu:0"), ("cpu:0,cpu:0", "twice")),
    "an unknown kind of device": Misuse(("--devices", "tpu:0"), ("'tpu:0'", "cpu:0")),
    "a device without a number": Misuse(("--devices", "cpu"), ("'cpu'", "cpu:0")),
    "a device that is not there": Misuse(("--devices", "gpu:63"), ("no gpu:63",)),
    "a truncated store": Misuse(("--data", "TRUNCATED"), ("test_images.npy", "truncated", "prepare")),
    "a store from the future": Misuse(("--data", "FUTURE"), ("version 9", "version 2")),
    "a flag of another verb": Misuse(("--precision", "bf16", "--oracle", "NOWHERE"), ("--precision",), "parity"),
    "a GPU's precision on a processor": Misuse(("--precision", "tf32"), ("tf32", "fp32")),
    "parity without an oracle": Misuse((), ("--oracle",), "parity"),
    "parity with what is no oracle": Misuse(("--oracle", "NOWHERE"), ("no record", "NOWHERE"), "parity"),
    "parity with another experiment's oracle": Misuse(("--oracle", "OTHER"), ("another experiment",), "parity"),
    "evaluating what was never trained": Misuse(("--out", "OTHER"), ("no weights", "--out"), "evaluate"),
    "another experiment's state": Misuse(("--out", "OTHER"), ("another experiment", "--out")),
    "another experiment's state, by its seed": Misuse(("--out", "SAME", "--seed", "1"), ("another experiment",)),
    "a damaged state": Misuse(("--out", "DAMAGED"), ("shard-0.safetensors", "damaged")),
}
# One of each kind; the others differ in what is named.
SHORT = (
    "no such case",
    "no such placement",
    "no such flag",
    "no data",
    "too few devices",
    "a device that is not there",
    "a truncated store",
    "parity without an oracle",
    "another experiment's state",
    "a damaged state",
)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun_run(folder: Path, data: Path, backend: Backend, **changes: object) -> None:
    """The folder of a run of the tiny case, with ``changes``, that has saved a state."""
    experiment = open_experiment(replace(find_case("tiny"), **changes), data, 0)  # type: ignore[arg-type]
    record = Record(
        kind="train",
        backend=backend.name,
        placement="single",
        devices=["cpu:0"],
        case=experiment.case.content(),
        seed=0,
        precision="fp32",
        threads=1,
        plan_hash=experiment.plan_hash(),
    )
    write_record(folder, record)
    run = Run(folder, record)
    (folder / ".claim").touch()
    run.log_steps(experiment, [(0, 0.01, 3.0, 0.9), (1, 0.01, 3.0, 0.9)], 1.0)
    weights = experiment.weights()
    momentum = {f"momentum.{name}": np.zeros_like(value) for name, value in weights.items()}
    state.write_shard(state.draft_of(folder, 2), 0, weights | momentum)
    run.publish(2)


class MisuseTests:
    """``backend`` is what a subclass adds, and ``own``: the misuses that only it knows."""

    backend: ClassVar[Backend]
    own: ClassVar[dict[str, Misuse]]

    @pytest.fixture(scope="class")
    def places(self, tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, str]:
        """What the words in capitals stand for."""
        folder = tmp_path_factory.mktemp("misuse")
        for name in ("TRUNCATED", "FUTURE"):
            shutil.copytree(data, folder / name)
        images = folder / "TRUNCATED" / "photos-small" / "test_images.npy"
        images.write_bytes(images.read_bytes()[:-100])
        manifest = folder / "FUTURE" / "photos-small" / "store.json"
        manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 9'))
        begun_run(folder / "OTHER", data, self.backend, rate=0.5)
        begun_run(folder / "SAME", data, self.backend)
        begun_run(folder / "DAMAGED", data, self.backend)
        shard = folder / "DAMAGED" / "state" / "step-000002" / "shard-0.safetensors"
        shard.write_bytes(shard.read_bytes()[:-1])
        names = ("NOWHERE", "TRUNCATED", "FUTURE", "OTHER", "SAME", "DAMAGED")
        return {name: str(folder / name) for name in names} | {"SPLIT": self.backend.split}

    def check(self, misuse: Misuse, places: dict[str, str], data: Path, folder: Path) -> None:
        arguments = [places.get(argument, argument) for argument in misuse.arguments]
        flags = {"--case": "tiny", "--data": str(data), "--out": str(folder / "out")}
        defaults = [part for flag, value in flags.items() if flag not in arguments for part in (flag, value)]
        out = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else folder / "out"
        before = snapshot(out)
        done = subprocess.run(
            self.backend.command(misuse.verb, *defaults, *arguments),
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 2, done.stderr
        (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in done.stderr + done.stdout
        for word in misuse.words:
            for name, place in places.items():
                word = word.replace(name, place)
            assert word in sentence
        if out == folder / "out":
            assert os.listdir(folder) == []
        else:
            assert snapshot(out) == before

    @pytest.mark.parametrize("name", [name if name in SHORT else long(name) for name in MISUSES])
    def test_a_misuse_is_answered_with_one_sentence_and_touches_nothing(
        self, name: str, places: dict[str, str], data: Path, tmp_path: Path
    ) -> None:
        self.check(MISUSES[name], places, data, tmp_path)

    def test_so_are_those_of_this_backend_alone(self, places: dict[str, str], data: Path, tmp_path: Path) -> None:
        for misuse in self.own.values():
            self.check(misuse, places, data, tmp_path)

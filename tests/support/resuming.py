"""A run that is killed again and again ends with the weights of one that never was: the test of both, written once."""

import csv
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from protocol.base.errors import INTERRUPTED
from protocol.experiment.cases import find_case
from protocol.runs import state
from protocol.runs.record import read_record
from protocol.runs.stopping import STOP
from tests.support.commands import Backend, environment, same, weights_of

MARK = "ALEXNET_RESUME_TEST"
SHORT, LONG = 8, 15  # epochs of ten steps
PATIENCE = 300.0  # seconds, on a busy machine
Role = Callable[[psutil.Process], bool]


@dataclass(frozen=True)
class Kill:
    """``role``: whom. ``moment``: starting (so many seconds in), training (so many states on) or saving (the same).

    Or asked: so many states on, the command is asked to save its state and stop.
    """

    role: str
    moment: str
    after: float


@dataclass
class Launched:
    """A run's processes, known by a mark in their environment, wherever they end up in the tree."""

    command: subprocess.Popen[bytes]
    mark: str

    def processes(self) -> list[psutil.Process]:
        self.command.poll()
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def wait_until_gone(self) -> bool:
        """Whether all end by themselves."""
        return until(lambda: not self.processes())


def until(happened: Callable[[], bool], pause: float = 0.02) -> bool:
    """Whether it happens while patience lasts."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(pause)
    return False


@contextmanager
def launched(command: list[str], folder: Path, **more: str) -> Iterator[Launched]:
    """Start a run, and see that nothing of it is left whatever happens."""
    mark = uuid.uuid4().hex
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment(**{MARK: mark}, **more), stdout=log, stderr=log)
    run = Launched(process, mark)
    try:
        yield run
    finally:
        for left in run.processes():
            with suppress(psutil.Error):
                left.kill()
        process.wait()


def newest(out: Path) -> int:
    states = state.states(out)
    return int(states[-1].name.removeprefix("step-")) if states else 0


def is_saving(out: Path) -> bool:
    with suppress(FileNotFoundError):
        return any(entry.name.startswith(".step-") for entry in os.scandir(out / "state"))
    return False


def logged(out: Path) -> list[list[str]]:
    """What was logged of each step, but for its speed."""
    with (out / "steps.csv").open() as file:
        return [[value for key, value in row.items() if key != "images_per_second"] for row in csv.DictReader(file)]


class ResumeTests:
    """What a subclass adds: ``backend``, its processes' ``roles``, and which of these are ``writers`` of the state.

    ``start``: seconds in which a run is still starting.
    """

    backend: ClassVar[Backend]
    roles: ClassVar[dict[str, Role]]
    writers: ClassVar[tuple[str, ...]]
    start: ClassVar[float]

    def command(self, data: Path, out: Path, epochs: int = LONG) -> list[str]:
        # The rate falls where the test error stalls, so that what has been tested must be known again, too; as must be
        # what is not done to the end.
        how = ("--case", "tiny", "--placement", self.backend.split, "--epochs", epochs, "--patience", 1)
        ends = ("--colour-epochs", 3, "--conv1-epochs", 5)
        return self.backend.command("train", *how, *ends, "--data", data, "--out", out)

    def kills(self, generator: random.Random) -> list[Kill]:
        """Ten of them in random order, two while a state is saved, two before there can be any."""
        roles = list(self.roles) * (10 // len(self.roles))
        writers = (*self.writers, *self.writers)[:2]
        for role in writers:
            roles.remove(role)
        generator.shuffle(roles)
        kills = [Kill(role, "saving", generator.randint(1, 5)) for role in writers]
        kills += [Kill(role, "starting", generator.uniform(0, self.start)) for role in roles[:2]]
        kills += [Kill(role, "training", generator.uniform(1, 10)) for role in roles[2:]]
        generator.shuffle(kills)
        return kills

    def find(self, run: Launched, role: str, generator: random.Random) -> psutil.Process | None:
        """The process of ``role``; another of the run's where that has not started yet."""
        alive = run.processes()
        found = []
        for process in alive:
            with suppress(psutil.Error):
                if self.roles[role](process):
                    found.append(process)
        return generator.choice(found or alive) if alive else None

    def strike(self, run: Launched, kill: Kill, out: Path, generator: random.Random) -> bool:
        """Wait for the moment and kill; whether the run was still going on."""
        first, started = newest(out), time.monotonic()

        def ended() -> bool:
            return run.command.poll() is not None

        if kill.moment == "starting":
            until(lambda: ended() or time.monotonic() - started >= kill.after, pause=0.005)
        else:
            wanted = first + kill.after * find_case("tiny").checkpoint_steps
            assert until(lambda: ended() or newest(out) >= wanted, pause=0.001)
        if kill.moment == "asked":
            run.command.send_signal(signal.SIGUSR1)
            assert run.command.wait(PATIENCE) == INTERRUPTED
            assert read_record(out).status == "interrupted"
            assert newest(out) >= wanted
            assert not (out / STOP).exists()
            return True
        victim = self.find(run, kill.role, generator)
        if kill.moment == "saving":
            assert until(lambda: ended() or is_saving(out), pause=0)
        if ended() or victim is None:
            return False
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
            return True
        return False

    def test_a_kill_while_a_state_is_saved_changes_nothing_nor_does_a_stop(self, data: Path, tmp_path: Path) -> None:
        kills = [Kill(self.writers[0], "saving", 2), Kill("command", "asked", 1)]
        assert self.kill_again_and_again(data, tmp_path, seed=0, kills=kills, epochs=SHORT)[0] == 2

    @pytest.mark.long
    def test_kill_9_at_any_moment_changes_nothing(self, data: Path, tmp_path: Path) -> None:
        hits, drafts = self.kill_again_and_again(data, tmp_path, seed=0)
        assert hits >= 8
        assert drafts >= 1  # half-written states were left behind, and got over

    def kill_again_and_again(
        self, data: Path, tmp_path: Path, seed: int, kills: list[Kill] | None = None, epochs: int = LONG
    ) -> tuple[int, int]:
        """See that ``kills``, or ten, change nothing; how many hit a run under way, and how many left half a state."""
        whole, out = tmp_path / "whole", tmp_path / "killed"
        if not whole.exists():
            with launched(self.command(data, whole, epochs), tmp_path) as run:
                assert run.command.wait(PATIENCE) == 0
        generator = random.Random(seed)
        hits, drafts = 0, 0
        for kill in self.kills(generator) if kills is None else kills:
            with launched(self.command(data, out, epochs), tmp_path) as run:
                hit = self.strike(run, kill, out, generator)
                assert run.wait_until_gone(), kill
            hits += hit
            drafts += is_saving(out)
            for saved in state.states(out):
                shapes = find_case("tiny").network().parameter_shapes()
                state.read_tensors(saved, shapes | {f"momentum.{name}": shape for name, shape in shapes.items()})
                assert len(state.read_progress(saved).steps) == state.read_progress(saved).step
            if hit and (out / "record.json").exists():
                assert read_record(out).status != "finished", kill
        with launched(self.command(data, out, epochs), tmp_path) as run:
            assert run.command.wait(PATIENCE) == 0
        assert read_record(out).status == "finished"
        assert same(weights_of(whole), weights_of(out))
        assert same(load_file(whole / "predictions.safetensors"), load_file(out / "predictions.safetensors"))
        assert logged(whole) == logged(out)
        assert len(logged(out)) == 10 * epochs
        assert len({rate for _, _, _, rate, *_ in logged(out)}) > 1  # it fell on the way
        assert not is_saving(out)
        earlier, last = (load_file(found / "shard-0.safetensors") for found in state.states(out)[-2:])
        assert np.array_equal(earlier["conv1.weight"], last["conv1.weight"])
        return hits, drafts

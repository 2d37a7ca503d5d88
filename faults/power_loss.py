"""Loss of power at every moment of a run's end, simulated: what was not put on the disk in time is gone.

A file system promises what was fsynced: a file's bytes, a folder's names. Everything else may be lost, or the name may
be there and the bytes zeros. Every call that orders one before another is a moment at which the power may fail; each
leaves two disks to look at: names as they were last fsynced, and names as they are.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare.load import RunFolder
from protocol.base.errors import Misuse
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs import state
from protocol.runs.record import read_record
from protocol.runs.run import latest_state
from tests.conftest import TEST, learnable_images, write
from tests.protocol.test_run import logged

ORDERING = ("fsync", "replace", "rename", "unlink")


@dataclass
class Disk:
    """What of the folder ``root`` is on the disk for certain: bytes of a file, names of a folder, by inode.

    What was put there is held open, so that no later file gets its inode.
    """

    root: Path
    bytes: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)

    def fsynced(self, handle: int) -> None:
        found = os.fstat(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if found.st_ino not in self.held:
            self.held[found.st_ino] = os.dup(handle)
        if stat.S_ISDIR(found.st_mode):
            self.names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.bytes[found.st_ino] = path.read_bytes()

    def close(self) -> None:
        for handle in self.held.values():
            os.close(handle)

    def after_loss(self, target: Path, *, synced_names: bool) -> None:
        """Write to ``target`` what a machine finds that starts again now."""
        inodes = {self.root.stat().st_ino: self.root} | {path.stat().st_ino: path for path in self.root.rglob("*")}
        self._lay(self.root.stat().st_ino, target, inodes, synced_names=synced_names)

    def _lay(self, folder: int, target: Path, inodes: dict[int, Path], *, synced_names: bool) -> None:
        target.mkdir(parents=True)
        path = inodes.get(folder)
        now = {entry.name: entry.inode() for entry in os.scandir(path)} if path else {}
        # A run's folder is made long before it ends, so its own name is taken to be there.
        synced = synced_names and path != self.root
        # What was removed since is there again, unless its removal was put on the disk too.
        for name, inode in (self.names.get(folder, {}) if synced else now).items():
            there = inodes.get(inode)
            if (there and there.is_dir()) or inode in self.names:
                self._lay(inode, target / name, inodes, synced_names=synced_names)
            else:
                (target / name).write_bytes(self.bytes.get(inode, b"\0" * (there.stat().st_size if there else 0)))


@contextmanager
def watched(disk: Disk, moment: Callable[[], None]) -> Iterator[None]:
    """Call ``moment`` after each call that orders what reaches the disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ORDERING:
            right = getattr(os, name)

            def call(*arguments: Any, right: Any = right, name: str = name, **named: Any) -> Any:
                done = right(*arguments, **named)
                if name == "fsync":
                    disk.fsynced(arguments[0])
                moment()
                return done

            patch.setattr(os, name, call)
        yield


def lose_power(folder: Path) -> dict[str, Any]:
    """End a run with the power failing at each moment, and begin another on top: a row of ``faults.csv``."""
    data, runs = folder / "data", folder / "runs"
    write(data / "photos-small", learnable_images(40, 1), learnable_images(TEST, 2))
    experiment = open_experiment(CASES["tiny"], data, 3)
    runs.mkdir()
    disk, counts = Disk(runs), {"tried": 0, "same": 0, "refused": 0, "wrong": 0}
    looking = False

    def moment() -> None:
        nonlocal looking
        if looking:
            return  # what is looked at with is on no disk that fails
        looking = True
        for synced_names in (True, False):
            target = folder / "lost"
            shutil.rmtree(target, ignore_errors=True)
            disk.after_loss(target, synced_names=synced_names)
            counts["tried"] += 1
            counts[_found(target / "run", experiment)] += 1
        looking = False

    with watched(disk, moment):
        for weight in (1.0, 2.0):
            _one_run(runs / "run", experiment, weight)
    disk.close()
    return {"what": "a run's folder", "fault": "loss of power (simulated)", **counts}


def _one_run(folder: Path, experiment: Experiment, weight: float) -> None:
    run = logged(folder, experiment, 4)
    state.write_shard(state.draft_of(folder, 6), 0, {"a": np.full(1, weight)})
    run.log_steps(experiment, [(step, 0.01, 3.0 - step, 0.5) for step in (4, 5)], 1.0)
    run.publish(6)
    run.finish({"conv1.weight": np.full(96, weight, np.float32)})


def _found(folder: Path, experiment: Experiment) -> str:
    """same: finished and whole, or there is a whole state to go on from; refused: it begins anew; wrong: neither."""
    try:
        found = read_record(folder)
    except Misuse:
        return "refused"
    if found.status == "finished":
        try:
            RunFolder(folder, folder.parent, found).check()
        except Misuse:
            return "wrong"
        return "same"
    try:
        latest = latest_state(folder, experiment, resume=True)
        if latest is None:
            return "refused"
        state.check_shards(latest, state.read_progress(latest))
    except Misuse:
        return "wrong"
    return "same"

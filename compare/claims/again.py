"""A kept run trained anew: on a machine of the same kind it comes to the same numbers, bit for bit."""

import shutil
from pathlib import Path

from compare.claims.arms import ARMS, STUDIES
from compare.claims.pack import Packed
from compare.claims.shards import ROOT, Place, Task, train
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.runs.record import read_record

AGAIN = Place(root=ROOT / "again")
TIMED = ("steps.csv",)  # holds images a second, which no two runs share


def differing(key: str, kept: list[Packed], interpreters: dict[str, str], data: Path) -> list[str]:
    """Train the run ``backend/arm/seed`` once more; returns the files of its folder that are not as they were.

    Raises:
        Misuse: no such run of the plan is kept, no interpreter is named for its backend, or its sources have changed.
        Failed: the run ended early.
    """
    runs = {run.key: run for run in kept if run.shard not in STUDIES}
    if key not in runs:
        raise Misuse(unknown("kept run", key, list(runs)[:8]))
    known = runs[key].record
    if known.backend not in interpreters:
        raise Misuse(f"no interpreter is named for {known.backend}: nox -s claims names both")
    (arm,) = (arm for arm in ARMS if arm.name == runs[key].arm)
    task = Task(BACKENDS[known.backend], arm, known.seed, AGAIN)
    # What an earlier call has left would not be trained anew.
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    train("again", [task], interpreters, data, AGAIN)
    found = read_record(task.folder)
    if found.sources != known.sources:
        raise Misuse(f"{key} comes from other sources than there are now: go back to those of commit {known.commit}")
    names = (known.files.keys() | found.files.keys()) - set(TIMED)
    return sorted(name for name in names if known.files.get(name) != found.files.get(name))

"""Shards: as many of the plan's runs as go into a stretch of time, two processes of one thread beside each other.

A shard can be stopped anywhere. What is finished stays, and the next start goes on with what is not; when all of a
shard's runs have ended, they are packed and their folders go.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from compare.claims import pack
from compare.claims.arms import BASELINE, STUDIES, Arm, study_seeds
from protocol.backends import BACKENDS, Backend
from protocol.base.errors import Failed, Misuse
from protocol.base.files import locked, write_text
from protocol.base.log import log
from protocol.base.provenance import sources_of
from protocol.runs.entries import Entry
from protocol.runs.record import read_record

ROOT = Path("results/claims")


@dataclass(frozen=True)
class Place:
    """Where the claims' runs go: those on data of the user's own stand apart, by the name of the ``store``.

    ``root``: where all of them stand.
    """

    store: str | None = None
    root: Path = ROOT

    @property
    def folder(self) -> Path:
        return self.root / "on" / self.store if self.store else self.root

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def kept(self) -> Path:
        return self.folder / "kept"


OWN = Place()


@dataclass(frozen=True)
class Task:
    """A run of the plan."""

    backend: Backend
    arm: Arm
    seed: int
    place: Place = OWN

    @property
    def entry(self) -> Entry:
        return self.arm.entry(self.seed, self.folder, self.place.store)

    @property
    def folder(self) -> Path:
        return self.place.runs / self.backend.name / self.arm.name / f"seed{self.seed}"


def carry_out(
    shard: str, tasks: Sequence[Task], interpreters: Mapping[str, str], data: Path, place: Place = OWN
) -> None:
    """Run a shard's tasks, each backend's in a process of its own, and pack them.

    Raises:
        Failed: a process ended before its runs did.
        Misuse: another is at work here.
    """
    if lacking := sorted({task.backend.name for task in tasks} - set(interpreters)):
        raise Misuse(f"no interpreter is named for {' and '.join(lacking)}: nox -s claims names both")
    if (place.kept / f"{shard}.json.gz").is_file():
        log(f"shard {shard} is kept already, in {place.kept}")
        _clear(tasks)  # what a kill has left after it was packed
        return
    _check_sources(shard, tasks, place)
    place.runs.mkdir(parents=True, exist_ok=True)
    with locked(place.runs / ".lock", f"another process works on the claims in {place.runs}: wait for it to end"):
        train(shard, tasks, interpreters, data, place)
        pack.write(place.kept, shard, (pack.packed(task.arm.name, task.folder, shard) for task in tasks))
        _clear(tasks)
    log(f"{len(tasks)} runs are kept in {place.kept / shard}.json.gz")


def train(
    name: str,
    tasks: Sequence[Task],
    interpreters: Mapping[str, str],
    data: Path,
    place: Place,
    checkout: Path | None = None,
) -> None:
    """Run tasks, each backend's in a process of its own; ``name``: of the list that it is told them in, and of its log.

    ``checkout``: whose sources train them, if not these; all paths are absolute then.

    Raises:
        Failed: a process ended before its runs did.
    """
    lists = {backend: [task for task in tasks if task.backend is backend] for backend in _backends(tasks)}
    running = []
    for backend, own in lists.items():
        path = place.runs / f"{name}-{backend.name}.json"
        write_text(path, TypeAdapter(list[Entry]).dump_json([task.entry for task in own], indent=1).decode() + "\n")
        python = Path(interpreters[backend.name]).absolute()
        command = [str(python), "-m", backend.module, "series", str(path), "--data", str(data)]
        with path.with_suffix(".log").open("w") as output:
            one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
            running.append(
                (backend, subprocess.Popen(command, stdout=output, stderr=output, env=one_core, cwd=checkout))
            )
    try:
        failed = [backend.name for backend, process in running if process.wait()]
    except BaseException:
        # Ctrl-C has reached them as well; who stops this process alone has not. Each puts its record in order.
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()
        raise
    if failed:
        raise Failed(f"{' and '.join(failed)} ended early: its words are in {place.runs}/{name}-{failed[0]}.log")


def _clear(tasks: Iterable[Task]) -> None:
    """Remove the folders of runs that are packed, but of one a backend, in whose weights it is seen what layers see."""
    for task in tasks:
        if (task.arm, task.seed) != (BASELINE, task.backend.accuracy_seeds[0]):
            shutil.rmtree(task.folder, ignore_errors=True)


def _check_sources(shard: str, tasks: Sequence[Task], place: Place) -> None:
    """See that what is trained now would be a replication of what is kept, or of what a stopped start has left.

    Raises:
        Misuse: it would come from other sources.
    """
    wanted = {backend.name: sources_of(backend.module) for backend in _backends(tasks)}
    in_plan = [run for run in pack.read(place.kept) if run.shard not in STUDIES and shard not in STUDIES]
    found = [(run.record, f"shard {run.shard}") for run in in_plan]
    for task in tasks:
        with suppress(Misuse):
            found.append((read_record(task.folder), str(task.folder)))
    for record, where in found:
        if record.backend in wanted and record.sources != wanted[record.backend]:
            raise Misuse(
                f"{where} comes from other sources of the {record.backend} backend than there are now, so they would "
                "be no replications: go back to those sources, or delete it and train it anew"
            )


def _backends(tasks: Iterable[Task]) -> list[Backend]:
    return list({task.backend.name: task.backend for task in tasks}.values())


def study(name: str, interpreters: dict[str, str]) -> list[Task]:
    """The runs of a study, by which recipe and rates are chosen."""
    own = [BACKENDS[name] for name in BACKENDS if name in interpreters]
    return [Task(backend, arm, seed) for arm in STUDIES[name] for backend in own for seed in study_seeds(arm, backend)]

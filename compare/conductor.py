"""Carry out a profile's jobs one after the other, each in its backend's own environment, and keep what is finished."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from protocol.errors import Misuse
from protocol.profiles import Job
from protocol.record import current_commit, log, read_record
from protocol.request import RUNS

LOGS = RUNS / "logs"
MODULES = {"oracle": "protocol", "gluon": "gluon_impl", "deepspeed": "deepspeed_impl"}
WATCH_EVERY = 0.5  # seconds
NETWORKS = ("tensors.safetensors", "choices.safetensors")


@dataclass
class Watch:
    """Follows the resident memory of all processes below this one; ``peak`` is the most they held together."""

    peak: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while not self.stopped.wait(WATCH_EVERY):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def is_done(job: Job, commit: str) -> bool:
    """Whether this very code has finished the job before."""
    try:
        record = read_record(job.folder)
    except Misuse:
        return False
    return record.status == "finished" and record.commit == commit


def unfinished(jobs: list[Job], commit: str) -> list[Job]:
    """The jobs that this very code has not finished, and the oracles that they need."""
    waiting = [job for job in jobs if not is_done(job, commit)]
    needed = {job.oracle for job in waiting}
    return [job for job in jobs if job in waiting or (job.folder in needed and not has_networks(job.folder))]


def has_networks(oracle: Path) -> bool:
    return all((oracle / name).is_file() for name in NETWORKS)


def discard_networks(oracle: Path) -> None:
    """Remove an oracle's whole networks, some gigabytes; its tolerances stay."""
    for name in NETWORKS:
        (oracle / name).unlink(missing_ok=True)


def carry_out(jobs: list[Job], interpreters: dict[str, str], data: Path) -> tuple[list[Job], int]:
    """Run what is not done yet; return the jobs that failed, and the peak of memory in bytes.

    Raises:
        KeyboardInterrupt: the user stopped it; finished jobs are kept, and a training run goes on from its last state.
    """
    waiting = unfinished(jobs, current_commit())
    if len(waiting) < len(jobs):
        log(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are done already")
    LOGS.mkdir(parents=True, exist_ok=True)
    failed: list[Job] = []
    spent = planned = 0.0
    watch = Watch()
    watch.start()
    with _display(len(waiting)) as progress:
        bar = progress.add_task("", total=len(waiting))
        for number, job in enumerate(waiting, start=1):
            left = sum(other.seconds for other in waiting[number - 1 :])
            # Jobs so far say how fast this machine is against the usual one.
            pace = spent / planned if planned else 1.0
            progress.update(bar, description=f"{job.title}, about {max(1, round(left * pace / 60))} min left")
            if not progress.console.is_terminal:
                log(f"[{number}/{len(waiting)}] {job.title}; about {max(1, round(left * pace / 60))} min left")
            started = time.monotonic()
            if not _run(job, interpreters[job.backend], data):
                failed.append(job)
                log(f"{job.title} failed; its output is in {_log_of(job)}, which ends:\n{_tail(_log_of(job))}")
            spent, planned = spent + time.monotonic() - started, planned + job.seconds
            if job.oracle and all(other.oracle != job.oracle for other in waiting[number:]):
                discard_networks(job.oracle)
            progress.advance(bar)
    watch.stopped.set()
    return failed, watch.peak


def _display(total: int) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal or total == 0)


def _log_of(job: Job) -> Path:
    return LOGS / ("-".join(job.folder.relative_to(RUNS).parts) + ".log")


def _tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _run(job: Job, interpreter: str, data: Path) -> bool:
    """Whether the job ended well; its output goes to its log."""
    command = [interpreter, "-m", MODULES[job.backend], *job.arguments, "--data", str(data)]
    with _log_of(job).open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **job.environment})
        try:
            return process.wait() == 0
        except KeyboardInterrupt:
            # The terminal has sent the interrupt to the job as well; give it time to put its record in order.
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def interpreters_of(gluon: Path | None, deepspeed: Path | None) -> dict[str, str]:
    """Which interpreter runs which backend; the oracle runs in this one.

    Raises:
        Misuse: a named interpreter does not exist, or none is named.
    """
    found = {"oracle": sys.executable}
    for backend, path in (("gluon", gluon), ("deepspeed", deepspeed)):
        if path is None:
            continue
        if not path.exists():
            raise Misuse(f"there is no interpreter {path} for the {backend} backend; nox -s audit makes and names it")
        found[backend] = str(path)
    if len(found) == 1:
        raise Misuse("no backend is named; start the audit with: nox -s audit")
    return found

"""Carry out a profile's jobs, each in its backend's own environment, and keep what is finished."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from compare.load import RunFolder
from compare.profiles import Job
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.files import locked
from protocol.base.log import log
from protocol.base.provenance import current_commit
from protocol.runs.record import read_record
from protocol.runs.request import RUNS

LOGS = RUNS / "logs"
WATCH_EVERY, POLL, LOOK_EVERY = 0.5, 0.1, 1.0  # seconds
SURE = 60.0  # seconds of work after which this machine's own pace counts as much as the usual one
AT_ONCE = 2  # jobs beside each other: most leave a core idle now and then
MEMORY_SHARE = 0.8  # of what is free at the start, that jobs beside each other may take together
CGROUPS = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
INTERPRETER_HELP = "Which Python runs a backend; once for each."
ENDED = ("finished", "diverged")  # of themselves: the same code would do the same again
NETWORKS = ("tensors.safetensors", "choices.safetensors")


def module_of(backend: str) -> str:
    """What ``python -m`` starts for a job of a backend, or of the oracle."""
    return "protocol" if backend == "oracle" else BACKENDS[backend].module


@dataclass
class Watch:
    """Follows the resident memory of all processes below this one; ``peak`` is the most they held together.

    ``own``: this one's counts, too, and of all of them only what stands for no file, which the system can take back.
    """

    peak: int = 0
    own: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while not self.stopped.wait(WATCH_EVERY):
            total = 0
            this = psutil.Process()
            for process in [*this.children(recursive=True), *([this] if self.own else [])]:
                try:
                    held = process.memory_info()
                    total += held.rss - (getattr(held, "shared", 0) if self.own else 0)
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def is_done(job: Job, commit: str) -> bool:
    """Whether this very code has finished the job before."""
    try:
        run = RunFolder(job.folder, RUNS, read_record(job.folder))
        run.check()
    except Misuse:
        return False
    ended = run.record.status in ENDED and run.has_done(job.leaves, whole=job.whole)
    return ended and run.record.commit == commit and job.is_of(run.record)


def is_begun(job: Job, commit: str) -> bool:
    """Whether this very code has begun the job's run: what another left is not gone on from."""
    try:
        return read_record(job.folder).commit == commit
    except Misuse:
        return False


def unfinished(jobs: list[Job], commit: str) -> list[Job]:
    """The jobs that this very code has not finished, and the oracles that they need."""
    waiting = [job for job in jobs if not is_done(job, commit)]
    needed = {job.oracle for job in waiting}
    return [job for job in jobs if job in waiting or (job.folder in needed and not has_networks(job.folder))]


def has_diverged(job: Job) -> bool:
    """Whether the job's run ended because its loss was no number any more."""
    try:
        return read_record(job.folder).status == "diverged"
    except Misuse:
        return False


def has_networks(oracle: Path) -> bool:
    return all((oracle / name).is_file() for name in NETWORKS)


def discard_networks(oracle: Path) -> None:
    """Remove an oracle's whole networks, some gigabytes; its tolerances stay."""
    for name in NETWORKS:
        (oracle / name).unlink(missing_ok=True)


@dataclass
class Running:
    """A job under way."""

    job: Job
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)

    @classmethod
    def start(cls, job: Job, interpreter: str, data: Path, commit: str) -> "Running":
        """Start the job, anew where other code has begun it; its output goes to its log."""
        command = [interpreter, "-m", module_of(job.backend), *job.arguments, "--data", str(data)]
        if job.verb == "train" and not is_begun(job, commit):
            command.append("--no-resume")
        # Jobs beside each other share the cores: BLAS threads that wait for a core spin, and cost several times more.
        share = {} if job.timed else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // AT_ONCE))}
        with _log_of(job).open("w") as output:
            environment = {**share, **os.environ, **job.environment}
            return cls(job, subprocess.Popen(command, stdout=output, stderr=output, env=environment))

    def stop(self) -> None:
        """After an interrupt, which the terminal has sent to the job as well: let it put its record in order."""
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def free_memory(cgroups: Path = Path("/sys/fs/cgroup")) -> float:
    """GiB that are free on this machine, or in this container, which may have less."""
    free = psutil.virtual_memory().available
    for limit, used in CGROUPS:
        if (cgroups / limit).is_file() and (most := (cgroups / limit).read_text().strip()).isdigit():
            free = min(free, int(most) - int((cgroups / used).read_text()))
    return free / 2**30


def _next(waiting: list[Job], under_way: list[Job], room: float) -> Job | None:
    """The first of ``waiting`` that can start beside what is under way, if one can."""
    if len(under_way) == AT_ONCE or any(job.timed for job in under_way):
        return None
    unfinished = {job.folder for job in (*waiting, *under_way)}
    begun = {job.folder for job in under_way}
    left = room - sum(job.gib for job in under_way)
    for job in waiting:
        if job.after in begun:
            continue
        begun.add(job.folder)
        if job.timed and under_way:
            # Nothing that comes later overtakes it, or it would never be alone.
            return None
        if job.oracle not in unfinished and (job.gib <= left or not under_way):
            return job
    return None


@dataclass
class Queue:
    """Jobs in order. ``AT_ONCE`` run beside each other where ``room`` (GiB) allows it, but what is timed runs alone.

    A job that is compared with the oracle waits for it.
    """

    waiting: list[Job]
    running: list[Running] = field(default_factory=list)
    room: float = field(default_factory=lambda: MEMORY_SHARE * free_memory())

    def next(self) -> Job | None:
        """Take the job that can start now, if one can."""
        job = _next(self.waiting, [other.job for other in self.running], self.room)
        if job:
            self.waiting.remove(job)
        return job

    def ended(self) -> list[Running]:
        """Take out those that have ended."""
        found = [job for job in self.running if job.process.poll() is not None]
        self.running = [job for job in self.running if job not in found]
        return found

    def forecast(self) -> tuple[float, float]:
        """Seconds that what is left usually takes, jobs beside each other as they may be, and the GiB they hold."""
        now = time.monotonic()
        left = {other.job: max(1.0, other.job.seconds - (now - other.since)) for other in self.running}
        waiting, passed, most = list(self.waiting), 0.0, 0.0
        while waiting or left:
            while job := _next(waiting, list(left), self.room):
                waiting.remove(job)
                left[job] = float(job.seconds)
            most = max(most, sum(job.gib for job in left))
            step = min(left.values())
            passed += step
            left = {job: seconds - step for job, seconds in left.items() if seconds > step}
        return passed, most

    def needs(self, oracle: Path) -> bool:
        return any(job.oracle == oracle for job in (*self.waiting, *(other.job for other in self.running)))


def run_jobs(jobs: list[Job], interpreters: dict[str, str], data: Path) -> tuple[list[Job], int]:
    """Run what is not done yet; return the jobs that failed, and the peak of memory in bytes.

    Raises:
        Misuse: another audit or ladder is at work here.
        KeyboardInterrupt: the user stopped it; finished jobs are kept, and a training run goes on from its last state.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    # One that runs beside it would take away the oracles that this one needs.
    with locked(RUNS / ".lock", f"another audit or ladder is at work in {RUNS}: wait for it to end"):
        return _run_jobs(jobs, interpreters, data)


def _run_jobs(jobs: list[Job], interpreters: dict[str, str], data: Path) -> tuple[list[Job], int]:
    commit = current_commit()
    queue = Queue(unfinished(jobs, commit))
    total = len(queue.waiting)
    if total < len(jobs):
        log(f"{len(jobs) - total} of {len(jobs)} jobs are done already")
    LOGS.mkdir(parents=True, exist_ok=True)
    failed: list[Job] = []
    (planned, most), started = queue.forecast(), time.monotonic()
    if total:
        disk = sum(job.disk for job in queue.waiting)
        free = shutil.disk_usage(RUNS).free / 2**30
        log(
            f"{total} jobs: usually {planned / 60:.0f} min on two cores, up to {most:.0f} GiB of memory and {disk:.0f} "
            f"GiB of disk for a while ({free_memory():.0f} and {free:.0f} are free)"
        )
    watch = Watch()
    watch.start()
    with display(total) as progress:
        bar = progress.add_task("", total=total)

        def time_left() -> str:
            ahead, _ = queue.forecast()
            # Jobs so far say how fast this machine is against the usual one, the more surely the more there are.
            pace = (time.monotonic() - started + SURE) / (max(0.0, planned - ahead) + SURE)
            return f"about {max(1, round(ahead * pace / 60))} min left"

        looked = 0.0
        try:
            while queue.waiting or queue.running:
                while job := queue.next():
                    queue.running.append(Running.start(job, interpreters[job.backend], data, commit))
                    log(f"[{total - len(queue.waiting)}/{total}] {job.title}; {time_left()}")
                if time.monotonic() - looked > LOOK_EVERY:
                    looked = time.monotonic()
                    progress.update(bar, description=time_left())
                time.sleep(POLL)
                for ended in queue.ended():
                    job = ended.job
                    if ended.process.returncode and has_diverged(job):
                        log(f"{job.title} diverged, which is what it came to")
                    elif ended.process.returncode:
                        failed.append(job)
                        log(f"{job.title} failed; its output is in {_log_of(job)}, which ends:\n{_tail(_log_of(job))}")
                    if job.oracle and not queue.needs(job.oracle):
                        discard_networks(job.oracle)
                    progress.advance(bar)
        except KeyboardInterrupt:
            for left_over in queue.running:
                left_over.stop()
            raise
    watch.stopped.set()
    return failed, watch.peak


def display(total: int) -> Progress:
    """A bar on a terminal, nothing elsewhere; what is said meanwhile stands above it."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal or total == 0)


def _log_of(job: Job) -> Path:
    return LOGS / ("-".join(job.folder.relative_to(RUNS).parts) + ".log")


def _tail(path: Path, lines: int = 5) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def interpreters_of(told: Iterable[str]) -> dict[str, str]:
    """Which interpreter runs which backend, from words such as ``gluon=.nox/env-gluon/bin/python``.

    The oracle runs in this one.

    Raises:
        Misuse: a backend is unknown, an interpreter does not exist, or none is named.
    """
    found = {"oracle": sys.executable}
    for word in told:
        name, _, path = word.partition("=")
        if name not in BACKENDS:
            raise Misuse(unknown("backend", name, BACKENDS))
        if not Path(path).is_file():
            raise Misuse(f"there is no interpreter {path!r} for the {name} backend; nox -s audit makes and names it")
        found[name] = path
    if len(found) == 1:
        raise Misuse("no backend is named; start the audit with: nox -s audit")
    return {name: found[name] for name in ("oracle", *BACKENDS) if name in found}

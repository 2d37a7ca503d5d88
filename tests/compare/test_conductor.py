"""Jobs are run once, failures are told, and misuse ends with status 2."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from compare import conductor
from compare.__main__ import main
from compare.profiles import PROFILES, Job, ladder, quick
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.files import locked
from protocol.base.provenance import current_commit
from protocol.runs.record import Record, kept_files, write_record
from protocol.runs.request import RUNS
from tests.support.refusals import refused

Profile = Callable[[tuple[str, ...]], list[Job]]
PROJECT = Path(__file__).parents[2]
JOB = Job("gluon", "bench", "full", 1)


def finished(job: Job, **changes: str) -> Record:
    fields: dict[str, Any] = {"kind": "bench", "status": "finished", "commit": current_commit(), **changes}
    return Record(
        backend=job.backend,
        placement=job.placement,
        devices=["cpu:0"],
        case=job.content,
        seed=job.seed,
        precision="fp32",
        threads=1,
        plan_hash="",
        **fields,
    )


def leave(job: Job, **changes: str) -> None:
    """The job's folder as its run leaves it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / job.leaves).write_text("a\n1\n")
    write_record(job.folder, finished(job, **changes).model_copy(update={"files": kept_files(job.folder)}))


@pytest.mark.parametrize(
    ("changes", "done"),
    [
        ({}, True),
        ({"status": "diverged"}, True),
        ({"status": "interrupted"}, False),
        ({"commit": "another"}, False),
    ],
)
def test_a_job_is_done_once_finished_by_this_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], done: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not conductor.is_done(JOB, current_commit())
    leave(JOB, **changes)
    assert conductor.is_done(JOB, current_commit()) is done


@pytest.mark.parametrize("damage", ["cut", "gone", "never written", "in its weights"])
def test_a_job_whose_files_are_not_as_it_left_them_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    JOB.folder.mkdir(parents=True)
    weights = JOB.folder / "weights.safetensors"
    weights.write_bytes(b"as trained")
    leave(JOB)
    path = JOB.folder / JOB.leaves
    if damage == "cut":
        path.write_text("a\n")
    elif damage == "in its weights":
        weights.write_bytes(b"as trainee")
    else:
        path.unlink()
    if damage == "never written":
        write_record(JOB.folder, finished(JOB))
    assert not conductor.is_done(JOB, current_commit())


def test_a_run_that_goes_on_elsewhere_waits_until_it_was_begun() -> None:
    begun = Job("gluon", "train", "ladder", 1, into=Path("results/runs/moved"))
    goes_on = Job("deepspeed", "train", "ladder", 1, after=begun.into, label="-moved")
    queue = conductor.Queue([begun, goes_on], room=8)
    assert queue.next() == begun
    queue.running.append(conductor.Running(begun, subprocess.Popen(["true"])))
    assert queue.next() is None
    queue.running.clear()
    assert queue.next() == goes_on


def test_the_time_left_counts_jobs_beside_each_other_and_what_has_passed() -> None:
    oracle = Job("oracle", "oracle", "ladder", 30)
    held = [Job(backend, "parity", "ladder", 10, oracle=oracle.folder) for backend in ("gluon", "deepspeed")]
    timed = Job("gluon", "bench", "full", 5)
    queue = conductor.Queue([oracle, *held, Job("gluon", "train", "photos", 20), timed], room=8)
    # The training run beside the oracle, both parity runs beside each other, then the bench alone.
    assert queue.forecast() == (30 + 10 + 5, 3.0)
    assert queue.next() == oracle
    queue.running.append(conductor.Running(oracle, subprocess.Popen(["true"]), time.monotonic() - 12))
    assert queue.forecast()[0] == pytest.approx(45 - 10, abs=0.1)  # the training run, which takes 20 s, is late
    queue.running[0].since -= 100  # far over its usual time: it may end at any moment
    queue.waiting.clear()
    assert queue.forecast()[0] == pytest.approx(1)
    # With room for one at a time, all follow each other.
    assert conductor.Queue([*held, timed], room=2).forecast() == (25, 3.0)


def test_an_audit_says_what_it_takes_before_it_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [Job("gluon", "train", "photos", 180), Job("oracle", "oracle", "parity", 60)]
    conductor.run_jobs(jobs, {"gluon": "true", "oracle": "true"}, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("2 jobs: usually 3 min on two cores, up to 9 GiB of memory and 3 GiB of disk")
    assert "about" in said[1]
    assert "min left" in said[1]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_stays_on_one_line_at_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with conductor.display(51) as progress:
        progress.console.width = columns
        bar = progress.add_task("about 11 min left", total=51, completed=7)
        assert not progress.finished
        lines = progress.console.render_lines(progress.get_renderable())
        text = "".join(segment.text for segment in lines[0])
    assert len(lines) == 1
    assert "7/51" in text
    assert "about 11 min left" in text
    assert bar is not None


def test_what_another_commit_began_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job("gluon", "train", "photos", 1)
    assert not conductor.is_begun(job, "one")
    leave(job, commit="one", status="interrupted")
    assert conductor.is_begun(job, "one")
    assert not conductor.is_begun(job, "two")


def test_two_at_a_time_in_one_checkout_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RUNS.mkdir(parents=True)
    with locked(RUNS / ".lock", "taken"), refused("another audit or ladder"):
        conductor.run_jobs([JOB], {"gluon": "true"}, tmp_path)


def test_an_oracles_networks_are_made_again_when_they_are_needed_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    oracle = Job("oracle", "oracle", "ladder", 1)
    runs = [Job(backend, "parity", "ladder", 1, oracle=oracle.folder) for backend in ("gluon", "deepspeed")]
    jobs, commit = [oracle, *runs], current_commit()
    assert conductor.unfinished(jobs, commit) == jobs
    leave(oracle)
    for name in conductor.NETWORKS:
        (oracle.folder / name).touch()
    assert conductor.unfinished(jobs, commit) == runs
    for job in runs:
        leave(job)
    conductor.discard_networks(oracle.folder)
    assert conductor.unfinished(jobs, commit) == []
    leave(runs[1], status="interrupted")
    assert conductor.unfinished(jobs, commit) == [oracle, runs[1]]


def test_what_is_timed_runs_alone_and_the_oracle_comes_first() -> None:
    oracle = Job("oracle", "oracle", "ladder", 1)
    parity = [Job(backend, "parity", "ladder", 1, oracle=oracle.folder) for backend in ("gluon", "deepspeed")]
    train, after = Job("gluon", "train", "photos", 1), Job("deepspeed", "train", "photos", 1)
    queue = conductor.Queue([oracle, *parity, train, JOB, after], room=8)

    def start(expected: Job | None) -> None:
        assert queue.next() == expected
        if expected:
            queue.running.append(conductor.Running(expected, subprocess.Popen(["true"])))

    def end(job: Job) -> None:
        queue.running = [other for other in queue.running if other.job != job]

    start(oracle)
    # The parity runs wait for the oracle; what is timed lets nobody overtake it.
    start(train)
    start(None)
    end(train)
    start(None)
    end(oracle)
    start(parity[0])
    start(parity[1])
    end(parity[0])
    start(None)
    assert queue.needs(oracle.folder)
    end(parity[1])
    assert not queue.needs(oracle.folder)
    start(JOB)
    start(None)
    end(JOB)
    start(after)
    start(None)


@pytest.mark.parametrize(
    ("limit", "used"),
    [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ],
)
def test_a_container_has_no_more_memory_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, used: str
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * 2**30))
    assert conductor.free_memory(tmp_path) == 16
    (tmp_path / "memory").mkdir()
    (tmp_path / used).write_text(f"{3 * 2**30}\n")
    for most, left in (("max", 16), (f"{2**63 - 4096}", 16), (f"{10 * 2**30}", 7)):
        (tmp_path / limit).write_text(f"{most}\n")
        assert conductor.free_memory(tmp_path) == left
    assert conductor.Queue([]).room == pytest.approx(0.8 * conductor.free_memory())


def test_two_oracles_of_whole_networks_are_in_memory_together_only_where_there_is_room() -> None:
    first, second = Job("oracle", "oracle", "parity", 1), Job("oracle", "oracle", "parity-paper", 1)
    small = Job("gluon", "train", "photos", 1)
    under_way = conductor.Running(first, subprocess.Popen(["true"]))
    assert conductor.Queue([second, small], [under_way], room=first.gib + second.gib).next() == second
    queue = conductor.Queue([second, small], [under_way], room=first.gib + small.gib)
    assert queue.next() == small
    assert queue.next() is None
    queue.running.clear()
    assert queue.next() == second


def test_a_failed_job_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conductor, "LOGS", tmp_path / "logs")
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho what went wrong\nexit 3\n")
    failing.chmod(0o755)
    jobs = [JOB, Job("deepspeed", "bench", "full", 1)]
    failed, _ = conductor.run_jobs(jobs, {"gluon": str(failing), "deepspeed": "/bin/true"}, tmp_path)
    assert failed == [JOB]
    assert "what went wrong" in capsys.readouterr().err


def test_interpreters_must_exist() -> None:
    with pytest.raises(Misuse, match="no backend is named"):
        conductor.interpreters_of(())
    with pytest.raises(Misuse, match="nowhere"):
        conductor.interpreters_of(("gluon=/nowhere/python",))
    with pytest.raises(Misuse, match="no backend 'glue'"):
        conductor.interpreters_of((f"glue={sys.executable}",))
    found = conductor.interpreters_of((f"deepspeed={sys.executable}",))
    assert list(found) == ["oracle", "deepspeed"]


@pytest.mark.parametrize("profile", [*PROFILES.values(), ladder], ids=lambda profile: profile.__name__)
def test_no_two_jobs_of_a_profile_share_a_folder_but_those_that_go_on_in_one(profile: Profile) -> None:
    jobs = profile(("gluon", "deepspeed"))
    folders = [job.folder for job in jobs if not job.into]
    assert len(folders) == len(set(folders))
    begun = {job.into for job in jobs if job.into}
    assert begun == {job.after for job in jobs if job.after}
    for job in jobs:
        if job.after:
            assert job.folder == job.after


def test_the_audit_tries_every_placement_and_every_preset() -> None:
    parity = [job for job in quick(("gluon", "deepspeed")) if job.verb == "parity" and job.case == "ladder"]
    assert {job.preset or "paper" for job in parity} == set(PRESETS)
    for name, backend in BACKENDS.items():
        assert {job.placement for job in parity if job.backend == name} >= set(backend.placements)
    everywhere = [job for job in ladder(("gluon", "deepspeed")) if job.verb == "parity"]
    for name, backend in BACKENDS.items():
        tried = {job.placement for job in everywhere if job.backend == name}
        assert tried == {*backend.placements, *backend.products}


def test_both_backends_go_on_from_the_other_and_the_ladder_from_every_placement() -> None:
    moved = [(job.backend, job.placement) for job in quick(("gluon", "deepspeed")) if job.into or job.after]
    assert {backend for backend, _ in moved[::2]} == {backend for backend, _ in moved[1::2]} == {"gluon", "deepspeed"}
    places = {(job.backend, job.placement) for job in ladder(("gluon", "deepspeed")) if job.into or job.after}
    assert places >= {(backend, placement) for backend, own in BACKENDS.items() for placement in own.placements}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audit", "--runs", "absent"], "no runs in absent"),
        (["run", "--profile", "huge"], "no profile 'huge'"),
        (["frobnicate"], "frobnicate"),
        (["audit", "--nonsense"], "nonsense"),
    ],
)
def test_misuse_is_one_sentence_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_so_it_is_as_a_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "compare", "audit", "--runs", "absent"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert not list(tmp_path.iterdir())

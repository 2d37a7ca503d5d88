"""An audit of less than its profile makes says so: each way of lacking something, and none where all is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from compare import completeness, conductor
from compare.load import RunFolder, Runs
from compare.profiles import Job
from protocol.experiment.cases import find_case
from protocol.runs.record import Kept, Record
from protocol.runs.request import RUNS

ORACLE = Job("oracle", "oracle", "ladder", 1)
PARITY = Job("gluon", "parity", "ladder", 1, oracle=ORACLE.folder)
TRAIN = Job("gluon", "train", "photos", 1, "columns")
BENCH = Job("deepspeed", "bench", "full", 1, extra=("--batch", "128", "--steps", "3"))
JOBS = [ORACLE, PARITY, TRAIN, BENCH]
READINGS = {"readings": ["fp64", "imposed", "free"]}


def run_of(job: Job, **changes: object) -> RunFolder:
    """What the job leaves, with ``changes`` in its record."""
    settings: dict[str, object] = {
        "kind": "train" if job.verb == "train" else job.verb,
        "status": "finished",
        "backend": job.backend,
        "placement": job.placement,
        "devices": ["cpu:0"],
        "case": job.content,
        "seed": job.seed,
        "precision": "fp32",
        "threads": 1,
        "plan_hash": f"of {job.case}",
        "files": {name: Kept(sha256="") for name in (job.leaves, "predictions.safetensors")[: 1 + job.whole]},
        "result": READINGS if job.verb == "parity" else {},
    }
    return RunFolder(job.folder, RUNS, Record(**(settings | changes)))  # type: ignore[arg-type]


def runs(*changed: RunFolder, without: Job | None = None) -> Runs:
    """All that the jobs leave, but for those changed, and for one."""
    found = {job.folder: run_of(job) for job in JOBS if job != without}
    found |= {run.folder: run for run in changed}
    diverged = tuple(run for run in found.values() if run.record.status == "diverged")
    return Runs(tuple(run for run in found.values() if run not in diverged), diverged)


def test_nothing_is_missing_where_all_is_there() -> None:
    assert completeness.missing(runs(), JOBS) == []
    assert "All 4 runs" in completeness.sentence([], 4)


def test_of_nothing_everything_is_missing() -> None:
    found = completeness.missing(Runs(()), JOBS)
    assert len(found) == len(JOBS)
    assert all("not carried out" in sentence for sentence in found)
    assert "incomplete, 4 things" in completeness.sentence(found, 4)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.title)
def test_each_missing_run_is_named(job: Job) -> None:
    found = completeness.missing(runs(without=job), JOBS)
    assert found[0 if job != PARITY else -1].startswith(job.title)
    # Without its oracle a parity run was compared with nothing.
    assert len(found) == (2 if job == ORACLE else 1)


LACKS: dict[str, tuple[RunFolder, str]] = {
    "a reading": (run_of(PARITY, result={"readings": ["fp64"]}), "lacks the reading free, imposed"),
    "the oracle's experiment": (run_of(PARITY, plan_hash="another"), "no oracle that it could be compared with"),
    "its last test": (run_of(TRAIN, files={"epochs.csv": Kept(sha256="")}), "did not do all that it was asked for"),
    "the case's rate": (run_of(TRAIN, history=[{"step": 9, "fallen": 1}]), "did not do all that it was asked for"),
    "its last table": (run_of(TRAIN, files={}), "did not do all that it was asked for"),
    "an end of its own": (run_of(TRAIN, status="diverged"), "diverged"),
    "its own length": (run_of(TRAIN, case=replace(find_case("photos"), epochs=1).content()), "of another case or seed"),
    "its own preset": (run_of(TRAIN, case=replace(find_case("photos"), preset="caffe").content()), "of another case"),
    "its own batch": (run_of(BENCH, case=find_case("full").content()), "of another case or seed"),
    "its own seed": (run_of(TRAIN, seed=7), "of another case or seed"),
}


@pytest.mark.parametrize("name", LACKS)
def test_a_run_that_is_not_what_was_asked_for_is_named(name: str) -> None:
    run, words = LACKS[name]
    (found,) = completeness.missing(runs(run), JOBS)
    assert words in found


def test_how_a_case_is_told_changes_nothing() -> None:
    told = {**TRAIN.content, "why": "another sentence", "cost": "less"}
    assert completeness.missing(runs(run_of(TRAIN, case=told)), JOBS) == []


def test_a_reading_of_the_recipe_may_diverge() -> None:
    job = Job("gluon", "train", "recipes", 1, preset="caffe")
    assert completeness.missing(Runs((), (run_of(job, status="diverged"),)), [job]) == []


@pytest.mark.parametrize(("seed", "done"), [(0, True), (3, False)])
def test_what_another_experiment_left_in_a_jobs_place_is_not_done(
    seed: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(TRAIN, commit="this", seed=seed)
    monkeypatch.setattr(conductor, "read_record", lambda folder: run.record)
    monkeypatch.setattr(RunFolder, "check", lambda self: None)
    assert conductor.is_done(TRAIN, "this") is done
    assert not conductor.is_done(TRAIN, "that")


def test_a_moved_run_must_have_been_begun_elsewhere(tmp_path: Path) -> None:
    job = Job("gluon", "train", "ladder", 1, oracle=ORACLE.folder, after=ORACLE.folder)
    begun = {"backend": "deepspeed", "placement": "stages", "step": 0}
    whole = [begun, {"backend": "gluon", "placement": "single", "step": 2}]
    files = {name: Kept(sha256="") for name in ("ladder.csv", "predictions.safetensors")}
    readings = {"readings": ["resumed"]}

    def found(history: object) -> list[str]:
        run = run_of(job, history=history, files=files, result=readings)
        return completeness.missing(Runs((run_of(ORACLE), run)), [ORACLE, job])

    assert found(whole) == []
    assert found([begun]) == [f"{job.title} was not begun elsewhere"]

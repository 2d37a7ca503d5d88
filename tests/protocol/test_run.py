"""A run's folder in use: held by one process, taken up again, ended in order."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from protocol import run as runs
from protocol import state
from protocol.cases import CASES
from protocol.experiment import Experiment, open_experiment
from protocol.record import Record, Status, read_record, write_record
from protocol.request import make_request
from protocol.run import Run, claimed, latest_state, note_interruption, oracle_of, saved_weights
from tests.refusals import refused

HOLD = """
import sys
from pathlib import Path
from protocol.run import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def experiment(data: Path) -> Experiment:
    return open_experiment(CASES["tiny"], data, 3)


def record(experiment: Experiment) -> Record:
    return Record(
        kind="train",
        backend="gluon",
        placement="single",
        devices=["cpu:0"],
        case=experiment.case.content(),
        seed=experiment.seed,
        precision="fp32",
        threads=1,
        plan_hash=experiment.plan_hash(),
    )


def logged(folder: Path, experiment: Experiment, steps: int) -> Run:
    """A run that has logged and published ``steps`` steps."""
    run = Run(folder, record(experiment))
    run.resume(None)
    run.log_steps(experiment, [(step, 3.0 - step, 0.5) for step in range(steps)], 2.0)
    state.write_shard(state.draft_of(folder, steps), 0, {"a": np.zeros(1)})
    run.publish(steps)
    return run


def test_a_folder_is_held_against_another_process_until_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 0.3)
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with refused("another process", str(folder)), claimed(folder):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with claimed(folder):
        pass


def test_a_run_takes_up_what_was_logged(tmp_path: Path, experiment: Experiment) -> None:
    first = logged(tmp_path, experiment, 4)
    again = Run(tmp_path, record(experiment))
    assert again.resume(latest_state(tmp_path, experiment, resume=True)) == 4
    assert again.steps == first.steps
    assert first.steps[2] == {
        "step": 2,
        "epoch": 0,
        "loss": 1.0,
        "error": 0.5,
        "rate": 0.01,
        "images_per_second": 4 * 32 / 2.0,
    }
    assert (tmp_path / "steps.csv").read_text().splitlines()[0] == "step,epoch,loss,rate,images_per_second,error"


def test_an_epochs_row_is_the_mean_of_its_steps(tmp_path: Path, experiment: Experiment) -> None:
    run = Run(tmp_path, record(experiment))
    losses = np.arange(20.0)
    run.log_steps(experiment, [(step, losses[step], step % 2) for step in range(20)], 1.0)
    run.log_epoch(experiment, 1, {"validation_loss": 1.0, "top1_error": 0.5, "top5_error": 0.1}, views=1)
    assert run.epochs == [
        {
            "epoch": 1,
            "train_loss": losses[10:].mean(),
            "train_error": 0.5,
            "validation_loss": 1.0,
            "top1_error": 0.5,
            "top5_error": 0.1,
            "views": 1,
        }
    ]


def test_without_resume_the_states_of_the_run_before_are_gone(tmp_path: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    assert latest_state(tmp_path, experiment, resume=False) is None
    run = Run(tmp_path, record(experiment))
    assert run.resume(None) == 0
    assert run.steps == []
    assert state.states(tmp_path) == []


def test_a_draft_is_cleared_by_the_process_that_keeps_the_record(tmp_path: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    draft = state.draft_of(tmp_path, 6)
    state.write_shard(draft, 0, {"a": np.zeros(1)})
    latest = latest_state(tmp_path, experiment, resume=True)
    assert Run(tmp_path, record(experiment)).resume(latest, write=False) == 4
    assert draft.exists()
    assert Run(tmp_path, record(experiment)).resume(latest) == 4
    assert not draft.exists()


def test_a_state_of_another_experiment_is_refused(tmp_path: Path, data: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    others = [
        open_experiment(CASES["tiny"], data, 4),
        open_experiment(replace(CASES["tiny"], rate=0.02), data, 3),
    ]
    for other in others:
        with refused("another experiment", "--out"):
            latest_state(tmp_path, other, resume=True)
    assert latest_state(tmp_path, experiment, resume=True) == tmp_path / "state" / "step-000004"


def test_a_damaged_state_is_refused_before_anything_is_changed(tmp_path: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    shard = tmp_path / "state" / "step-000004" / "shard-0.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with refused("shard-0.safetensors", "damaged"):
        latest_state(tmp_path, experiment, resume=True)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", ""),
        (MemoryError(), "out_of_memory", ""),
        (ValueError("bad\nvery"), "failed", "ValueError: bad"),
        (RuntimeError(), "failed", "RuntimeError: "),
    ],
)
def test_how_a_run_ends_is_recorded(
    tmp_path: Path, experiment: Experiment, error: BaseException, status: str, reason: str
) -> None:
    run = Run(tmp_path, record(experiment))
    run.resume(None)
    assert read_record(tmp_path).status == "running"
    with pytest.raises(type(error)), run.recorded():
        raise error
    found = read_record(tmp_path)
    assert (found.status, found.reason) == (status, reason)


@pytest.mark.parametrize(
    ("status", "noted"),
    [
        ("running", "interrupted"),
        ("failed", "interrupted"),
        ("finished", "finished"),
        ("out_of_memory", "out_of_memory"),
    ],
)
def test_a_run_that_was_stopped_has_not_failed(
    tmp_path: Path, experiment: Experiment, status: Status, noted: Status
) -> None:
    began = time.time()
    write_record(tmp_path, record(experiment).model_copy(update={"status": status, "reason": "what went wrong"}))
    note_interruption(tmp_path, time.time() + 60)
    assert read_record(tmp_path).status == status  # another run's, that was there before
    note_interruption(tmp_path, began - 1)
    found = read_record(tmp_path)
    assert (found.status, found.reason) == (noted, "what went wrong")


def test_a_run_that_was_stopped_before_it_had_a_record_has_none(tmp_path: Path) -> None:
    note_interruption(tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()


def test_weights_of_another_network_or_none_are_refused(tmp_path: Path, experiment: Experiment) -> None:
    with refused("no weights", "--out"):
        saved_weights(tmp_path, experiment.network)
    weights = experiment.weights()
    save_file(weights, tmp_path / "weights.safetensors")
    assert set(saved_weights(tmp_path, experiment.network)) == set(weights)
    with refused("conv2.weight", "shape"):
        saved_weights(tmp_path, replace(CASES["tiny"], variant="merged").network())


def test_parity_needs_the_oracle_of_the_same_experiment(tmp_path: Path, data: Path, experiment: Experiment) -> None:
    request = make_request("gluon", "tiny", data=data, seed=3)
    with refused("--oracle"):
        oracle_of(request)
    with refused("no record", str(tmp_path)):
        oracle_of(replace(request, oracle=tmp_path))
    Run(tmp_path, record(experiment)).resume(None)
    with refused("tensors.safetensors", "protocol oracle"):
        oracle_of(replace(request, oracle=tmp_path))
    save_file({"logits": np.zeros(3)}, tmp_path / "tensors.safetensors")
    with refused("choices.safetensors"):
        oracle_of(replace(request, oracle=tmp_path))
    (tmp_path / "choices.safetensors").write_text("nothing")
    with refused("choices.safetensors", "damaged"):
        oracle_of(replace(request, oracle=tmp_path))
    save_file({"0.relu1": np.zeros(3)}, tmp_path / "choices.safetensors")
    assert oracle_of(replace(request, oracle=tmp_path)) == tmp_path
    with refused("another experiment"):
        oracle_of(replace(request, oracle=tmp_path, seed=4))

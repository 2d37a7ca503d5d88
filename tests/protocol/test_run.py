"""A run's folder in use: held by one process, taken up again, ended in order."""

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.base.errors import Diverged, Misuse
from protocol.base.tensors import save_tensors
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs import run as runs
from protocol.runs import state
from protocol.runs.record import Record, Status, read_record, write_record
from protocol.runs.request import make_parity, make_train
from protocol.runs.run import Run, check_oracle, claimed, is_finished, latest_state, note_end, saved_weights
from tests.support.refusals import refused

HOLD = """
import sys
from pathlib import Path
from protocol.runs.run import claimed
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
    run.log_steps(experiment, [(step, 0.01, 3.0 - step, 0.5) for step in range(steps)], 2.0)
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
    run.log_steps(experiment, [(step, 0.01, losses[step], step % 2) for step in range(20)], 1.0)
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


def test_a_rate_that_was_divided_by_hand_stays_so_until_another_is_asked_for(
    experiment: Experiment, tmp_path: Path
) -> None:
    logged(tmp_path, experiment, 2)
    (first,) = state.states(tmp_path)
    run = Run(tmp_path, record(experiment))
    assert run.resume(first, fallen=1) == 2
    assert run.record.history[-1]["fallen"] == 1
    run.log_steps(experiment, [(step, 0.001, 1.0, 0.5) for step in (2, 3)], 1.0)
    state.write_shard(state.draft_of(tmp_path, 4), 0, {"a": np.zeros(1)})
    run.publish(4)
    for asked, expected in ((None, [0, 1]), (1, [0, 1]), (2, [0, 1, 2]), (0, [0, 1, 0])):
        again = Run(tmp_path, record(experiment))
        again.resume(state.states(tmp_path)[-1], fallen=asked)
        assert [row.get("fallen", 0) for row in again.record.history] == expected


def test_a_draft_is_cleared_by_the_process_that_keeps_the_record(tmp_path: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    draft = state.draft_of(tmp_path, 6)
    state.write_shard(draft, 0, {"a": np.zeros(1)})
    latest = latest_state(tmp_path, experiment, resume=True)
    assert Run(tmp_path, record(experiment)).resume(latest, write=False) == 4
    assert draft.exists()
    assert Run(tmp_path, record(experiment)).resume(latest) == 4
    assert not draft.exists()


def test_too_small_a_disk_is_noticed_before_training(
    tmp_path: Path, data: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = sum(int(np.prod(shape)) for shape in experiment.network.parameter_shapes().values())

    def free(states: float, keep: int) -> None:
        """Check with room for so many states and the last weights."""
        room = shutil.disk_usage(tmp_path)._replace(free=int(4 * numbers * (2 * states + 1)))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
        asked = make_train("gluon", case="tiny", keep=keep, data=data, out=tmp_path / "deep" / "run")
        runs.check_room(asked, experiment)

    free(3, keep=2)
    with refused("GB left", "2 saved states"):
        free(2.9, keep=2)
    with refused("5 saved states"):
        free(3, keep=5)
    logged(tmp_path / "deep" / "run", experiment, 4)
    free(2, keep=2)  # one is there


def test_as_many_states_are_kept_as_are_asked_for(tmp_path: Path, experiment: Experiment) -> None:
    run = Run(tmp_path, record(experiment), keeps=3)
    run.resume(None)
    for step in range(5):
        run.log_steps(experiment, [(step, 0.01, 1.0, 0.5)], 1.0)
        state.write_shard(state.draft_of(tmp_path, step + 1), 0, {"a": np.zeros(1)})
        run.publish(step + 1)
    assert [state.step_of(one) for one in state.states(tmp_path)] == [3, 4, 5]


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


def flip(path: Path, place: int = -2) -> None:
    """Turn one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x40
    path.write_bytes(content)


def test_a_damaged_state_is_refused_before_anything_is_changed(tmp_path: Path, experiment: Experiment) -> None:
    logged(tmp_path, experiment, 4)
    flip(tmp_path / "state" / "step-000004" / "shard-0.safetensors")
    with refused("shard-0.safetensors", "damaged"):
        latest_state(tmp_path, experiment, resume=True)


@pytest.mark.parametrize("damaged", ["shard-0.safetensors", "state.json"])
def test_of_two_states_the_whole_one_is_gone_on_from(
    tmp_path: Path, experiment: Experiment, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = logged(tmp_path, experiment, 2)
    run.log_steps(experiment, [(2, 0.01, 1.0, 0.5), (3, 0.01, 1.0, 0.5)], 1.0)
    state.write_shard(state.draft_of(tmp_path, 4), 0, {"a": np.ones(1)})
    run.publish(4)
    flip(tmp_path / "state" / "step-000004" / damaged)
    older = latest_state(tmp_path, experiment, resume=True, speaks=True)
    assert older == tmp_path / "state" / "step-000002"
    said = capsys.readouterr().err
    assert damaged in said
    assert "going on from step 2" in said
    assert Run(tmp_path, record(experiment)).resume(older) == 2
    assert state.states(tmp_path) == [older]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_state(
    tmp_path: Path, experiment: Experiment, loss: float
) -> None:
    run = logged(tmp_path, experiment, 2)
    with pytest.raises(Diverged, match="step 3 is no number"), run.recorded():
        run.log_steps(experiment, [(2, 0.01, 1.0, 0.5), (3, 0.01, loss, 0.5)], 1.0)
    found = read_record(tmp_path)
    assert found.status == "diverged"
    assert found.files["steps.csv"].rows == 4
    assert latest_state(tmp_path, experiment, resume=True) == tmp_path / "state" / "step-000002"


def test_a_run_counts_as_finished_only_while_its_files_are_as_it_left_them(
    tmp_path: Path, data: Path, experiment: Experiment
) -> None:
    request = make_train("gluon", "tiny", data=data, seed=3, out=tmp_path)
    assert not is_finished(request, experiment)
    run = logged(tmp_path, experiment, 2)
    save_tensors(tmp_path / "predictions.safetensors", {"labels": np.zeros(3)})
    run.finish(experiment.weights())
    assert is_finished(request, experiment)
    assert not is_finished(replace(request, resume=False), experiment)
    assert not is_finished(replace(request, steps=1), experiment)
    assert not is_finished(replace(request, precision="fp64"), experiment)
    flip(tmp_path / "predictions.safetensors")
    with refused("predictions.safetensors", "damaged"):
        is_finished(request, experiment)


@pytest.mark.parametrize("place", ["file", "below a file", "foreign", "foreign record"])
def test_a_folder_that_is_no_runs_is_not_written_to(tmp_path: Path, place: str) -> None:
    mine = "record.json" if place == "foreign record" else "thesis.txt"
    (tmp_path / mine).write_text('{"years": "of work"}')
    places = {"file": tmp_path / "thesis.txt", "below a file": tmp_path / "thesis.txt" / "run"}
    folder = places.get(place, tmp_path)
    with refused("--out", str(folder)), claimed(folder):
        pass
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(mine, '{"years": "of work"}')]


def test_a_claim_through_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".claim").symlink_to(tmp_path / "precious")
    with refused(".claim"), claimed(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "years of work"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", ""),
        (Misuse("a file is damaged"), "failed", "a file is damaged"),
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
    note_end(tmp_path, time.time() + 60, "interrupted")
    assert read_record(tmp_path).status == status  # another run's, that was there before
    note_end(tmp_path, began - 1, "interrupted")
    found = read_record(tmp_path)
    assert (found.status, found.reason) == (noted, "what went wrong")


def test_a_run_that_was_stopped_before_it_had_a_record_has_none(tmp_path: Path) -> None:
    note_end(tmp_path / "none", 0, "interrupted")
    assert not (tmp_path / "none").exists()


def test_weights_of_another_network_or_none_are_refused(tmp_path: Path, experiment: Experiment) -> None:
    with refused("no weights", "--out"):
        saved_weights(tmp_path, experiment.network)
    weights = experiment.weights()
    logged(tmp_path, experiment, 2).finish(weights)
    assert set(saved_weights(tmp_path, experiment.network)) == set(weights)
    with refused("conv2.weight", "another network"):
        saved_weights(tmp_path, replace(CASES["tiny"], variant="merged").network())
    flip(tmp_path / "weights.safetensors")
    with refused("weights.safetensors", "damaged"):
        saved_weights(tmp_path, experiment.network)


def test_parity_needs_the_check_oracle_the_same_experiment(tmp_path: Path, data: Path, experiment: Experiment) -> None:
    with refused("--oracle"):
        make_parity("gluon", "tiny", data=data, seed=3)
    request = make_parity("gluon", "tiny", data=data, seed=3, oracle=tmp_path)
    with refused("no record", str(tmp_path)):
        check_oracle(request, tmp_path)
    Run(tmp_path, record(experiment)).resume(None)
    with refused("tensors.safetensors", "protocol oracle"):
        check_oracle(request, tmp_path)
    save_tensors(tmp_path / "tensors.safetensors", {"logits": np.zeros(3)})
    with refused("record", "knows no tensors.safetensors"):
        check_oracle(request, tmp_path)
    Run(tmp_path, record(experiment)).end("finished")
    with refused("choices.safetensors"):
        check_oracle(request, tmp_path)
    save_tensors(tmp_path / "choices.safetensors", {"0.relu1": np.zeros(3)})
    Run(tmp_path, record(experiment)).end("finished")
    check_oracle(request, tmp_path)
    flip(tmp_path / "choices.safetensors")
    with refused("choices.safetensors", "damaged"):
        check_oracle(request, tmp_path)
    with refused("another experiment"):
        check_oracle(replace(request, seed=4), tmp_path)

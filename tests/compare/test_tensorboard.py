"""TensorBoard gets every number that was logged, at its step; and nothing of somebody else's is lost."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from compare import tensorboard
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import open_experiment
from protocol.runs import state
from protocol.runs.record import Record
from protocol.runs.run import Run
from tests.support.refusals import refused

Scalars = dict[str, list[tuple[int, float]]]


@pytest.fixture
def runs(data: Path, tmp_path: Path) -> Path:
    """A run that goes on: fifteen steps, of ten an epoch, the first epoch tested with one view, and as if with ten."""
    experiment = open_experiment(CASES["tiny"], data, 0)
    settings: dict[str, Any] = {"placement": "single", "devices": ["cpu:0"], "precision": "fp32", "threads": 1}
    settings |= {"case": experiment.case.content(), "seed": 0, "plan_hash": experiment.plan_hash()}
    folder = tmp_path / "runs" / "gluon" / "tiny"
    run = Run(folder, Record(kind="train", backend="gluon", **settings))
    run.resume(None)
    run.log_steps(experiment, [(step, 0.01, 3.0 - step / 10, 0.5) for step in range(10)], 5.0)
    for views in (1, 10):
        errors = {"validation_loss": 2.5, "top1_error": 0.5 - views / 100, "top5_error": 0.25}
        run.log_epoch(experiment, 0, errors, views=views)
    run.log_steps(experiment, [(step, 0.001, 2.0, 0.25) for step in range(10, 15)], 5.0)
    state.write_shard(state.draft_of(folder, 15), 0, {"a": np.zeros(1)})
    run.publish(15)
    return tmp_path / "runs"


def read(folder: Path) -> tuple[Scalars, list[float]]:
    """By tag, each value and its step; and the wall time of every event that has any."""
    found: Scalars = {}
    times: list[float] = []
    content = (folder / tensorboard.EVENTS).read_bytes()
    place = 0
    while place < len(content):  # length, its check, the event, its check
        (length,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        place += length + 16
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
            times.append(event.wall_time)
    return found, times


def test_every_number_is_there_at_its_step(runs: Path, tmp_path: Path) -> None:
    (made,) = tensorboard.write(runs, tmp_path / "logs")
    assert made == tmp_path / "logs" / "gluon" / "tiny"
    assert [path.name for path in made.iterdir()] == [tensorboard.EVENTS]
    scalars, times = read(made)
    expected_tags = {f"train/{tag}" for tag in tensorboard.OF_STEPS}
    expected_tags |= {f"{views}/{tag}" for tag in tensorboard.OF_EPOCHS for views in ("test", "ten_views")}
    assert set(scalars) == expected_tags
    expected = [(step, 3.0 - step / 10) for step in range(10)] + [(step, 2.0) for step in range(10, 15)]
    assert [step for step, _ in scalars["train/loss"]] == list(range(15))
    np.testing.assert_allclose(scalars["train/loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(scalars["train/rate"][9:11], [(9, 0.01), (10, 0.001)], rtol=1e-6)
    np.testing.assert_allclose(scalars["test/top1_error"], [(9, 0.49)], rtol=1e-6)
    np.testing.assert_allclose(scalars["ten_views/top1_error"], [(9, 0.4)], rtol=1e-6)
    assert max(times) - min(times) == pytest.approx(9.5)  # the first step took half a second, all of them ten


def test_a_second_call_takes_the_place_of_the_first_and_of_nothing_else(runs: Path, tmp_path: Path) -> None:
    for _ in range(2):
        (made,) = tensorboard.write(runs / "gluon" / "tiny", tmp_path / "logs")
    assert made == tmp_path / "logs" / "tiny"
    assert len(read(made)[0]["train/loss"]) == 15
    (made / "notes.txt").write_text("mine")
    with refused("notes.txt"):
        tensorboard.write(runs / "gluon" / "tiny", tmp_path / "logs")


def test_where_nothing_was_logged_nothing_is_written(tmp_path: Path) -> None:
    with refused("no training run"):
        tensorboard.write(tmp_path, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()

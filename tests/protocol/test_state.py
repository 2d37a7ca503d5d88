"""The training state on disk: published whole, read strictly."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from protocol.base.sealed import write_sealed
from protocol.runs import state
from protocol.runs.state import Progress
from tests.support.disk import ordered
from tests.support.refusals import refused


def progress(step: int, loss: float = 0.5) -> Progress:
    steps = [{"step": number, "loss": loss} for number in range(min(step, 9))]
    return Progress(step=step, seed=0, plan_hash="abc", steps=steps, epochs=[])


def publish(run: Path, step: int) -> Path:
    """A state in two shards."""
    draft = state.draft_of(run, step)
    state.write_shard(draft, 0, {"a": np.full((2, 3), step, np.float32)})
    state.write_shard(draft, 1, {"b": np.full(4, -step, np.float32)})
    state.publish(run, progress(step))
    return run / "state" / f"step-{step:06d}"


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "state").iterdir())


def test_the_last_two_states_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        publish(tmp_path, step)
    assert names(tmp_path) == ["step-000004", "step-000006"]
    latest = state.states(tmp_path)[-1]
    found_progress = state.read_progress(latest)
    assert found_progress.model_copy(update={"sha256": {}}) == progress(6)
    assert set(found_progress.sha256) == {"shard-0.safetensors", "shard-1.safetensors"}
    state.check_shards(latest, found_progress)
    found = state.read_tensors(latest, {"a": (2, 3), "b": (4,)})
    assert (found["a"] == 6).all()
    assert (found["b"] == -6).all()


def test_states_are_ordered_by_number_however_many_digits_it_has(tmp_path: Path) -> None:
    publish(tmp_path, 999_999)
    publish(tmp_path, 1_000_000)
    assert [path.name for path in state.states(tmp_path)] == ["step-999999", "step-1000000"]


def test_a_draft_is_no_state_and_is_discarded(tmp_path: Path) -> None:
    finished = publish(tmp_path, 2)
    state.write_shard(state.draft_of(tmp_path, 4), 0, {"a": np.zeros(1)})
    assert state.states(tmp_path) == [finished]
    state.discard_drafts(tmp_path)
    assert names(tmp_path) == ["step-000002"]


def test_all_states_can_be_discarded(tmp_path: Path) -> None:
    publish(tmp_path, 2)
    publish(tmp_path, 4)
    state.write_shard(state.draft_of(tmp_path, 4), 0, {"a": np.zeros(1)})
    state.discard_states(tmp_path)
    assert names(tmp_path) == []


def test_a_state_that_is_half_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (2, 4):
        publish(tmp_path, step)
    monkeypatch.setattr(shutil, "rmtree", lambda folder: (folder / "shard-0.safetensors").unlink())
    publish(tmp_path, 6)  # which drops the first
    assert [path.name for path in state.states(tmp_path)] == ["step-000004", "step-000006"]
    monkeypatch.undo()
    state.discard_drafts(tmp_path)
    assert names(tmp_path) == ["step-000004", "step-000006"]


def test_a_state_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ordered(monkeypatch)
    publish(tmp_path, 2)
    kept, named = done[: done.index("rename to step-000002")], done[done.index("rename to step-000002") :]
    for name in ("shard-0.safetensors", "shard-1.safetensors", "state.json"):
        # Its data, its name, and the folder that holds it.
        at = kept.index(f"rename to {name}")
        assert kept[at - 1].startswith(f".{name}.")
        assert kept[at + 1] == ".step-000002"
    assert named == ["rename to step-000002", "state"]


def test_a_folder_without_states_has_none(tmp_path: Path) -> None:
    assert state.states(tmp_path) == []
    state.discard_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e-300])
def test_losses_come_back_as_they_were_even_of_a_run_that_diverged(tmp_path: Path, loss: float) -> None:
    state.write_shard(state.draft_of(tmp_path, 1), 0, {})
    state.publish(tmp_path, progress(1, loss))
    (row,) = state.read_progress(state.states(tmp_path)[0]).steps
    assert row["loss"] == pytest.approx(loss, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 3}', '{"step": "x", "seed": 0}', "\xff", "[" * 100_000])
def test_damaged_progress_is_refused(tmp_path: Path, text: str) -> None:
    latest = publish(tmp_path, 2)
    (latest / "state.json").write_bytes(text.encode("latin-1"))
    with refused("state.json"):
        state.read_progress(latest)


def test_absent_progress_is_refused(tmp_path: Path) -> None:
    with refused("state.json", "missing"):
        state.read_progress(tmp_path)


@pytest.mark.parametrize("step", [1, 3, 38])
def test_progress_of_another_step_is_refused(tmp_path: Path, step: int) -> None:
    latest = publish(tmp_path, 2)
    path = latest / "state.json"
    whole = path.read_text()
    path.write_text(whole.replace('"step": 2,', f'"step": {step},'))
    assert path.read_text() != whole
    with refused("state.json", "altered"):
        state.read_progress(latest)
    # Nor is it believed under another name, or with its seal made anew.
    write_sealed(path, progress(2).model_copy(update={"step": step}))
    with refused("state.json", f"step {step}"):
        state.read_progress(latest)
    path.write_text(whole)
    latest.rename(latest.with_name(f"step-{step:06d}"))
    with refused("state.json", "step 2"):
        state.read_progress(latest.with_name(f"step-{step:06d}"))


def test_every_flipped_bit_of_a_shard_is_noticed(tmp_path: Path) -> None:
    latest = publish(tmp_path, 2)
    shard, read = latest / "shard-0.safetensors", state.read_progress(latest)
    whole = shard.read_bytes()
    for place in range(0, 8 * len(whole), 7):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        shard.write_bytes(content)
        with refused("shard-0.safetensors", "damaged"):
            state.check_shards(latest, read)
    shard.write_bytes(whole)
    state.check_shards(latest, read)
    (latest / "shard-2.safetensors").write_bytes(whole)
    with refused("shards"):
        state.check_shards(latest, read)


def test_a_missing_tensor_a_wrong_shape_and_a_damaged_shard_are_refused(tmp_path: Path) -> None:
    latest = publish(tmp_path, 2)
    with refused("no tensor c"):
        state.read_tensors(latest, {"a": (2, 3), "c": (1,)})
    with refused("holds a of shape (2, 3)", "needs (3, 2)"):
        state.read_tensors(latest, {"a": (3, 2)})
    shard = latest / "shard-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with refused("shard-1.safetensors", "damaged"):
        state.read_tensors(latest, {"a": (2, 3)})


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2), "b": np.zeros(3)}, tmp_path / "shard-0.safetensors")
    assert set(state.read_tensors(tmp_path, {"b": (3,)})) == {"b"}


def test_a_shard_holds_values_however_they_lie_in_memory(tmp_path: Path) -> None:
    value = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(0, 2, 1)
    state.write_shard(tmp_path, 0, {"conv1.weight": value})
    assert (load_file(tmp_path / "shard-0.safetensors")["conv1.weight"] == value).all()

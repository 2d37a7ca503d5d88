"""The training state on disk: canonical, readable by every backend and placement, whole or absent.

    state/step-000050/state.json            step, seed, plan hash, what has been logged so far
    state/step-000050/shard-0.safetensors   conv1.weight, momentum.conv1.weight, ...: one file a device

Devices write their shards into one hidden folder; the first device then adds ``state.json`` and renames it. Whatever
kills a process at whatever moment, either the old state stands or the new one. ``state.json`` holds the shards'
checksums and its own: what was altered since is not trained on.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from protocol.base.errors import Misuse
from protocol.base.files import digest_file, sync
from protocol.base.sealed import Damaged, read_sealed, write_sealed
from protocol.base.tensors import opened, save_tensors

VERSION = 2
KEPT = 2
REMEDY = "delete this state, and the run goes on from the one before it"
NAME = re.compile(r"step-(\d+)")


class Progress(BaseModel):
    """``state.json``. Dropout masks, samples and rates follow from ``step`` and ``seed``."""

    # A run that has diverged logs losses that are no numbers; they come back as such.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    version: int = VERSION
    step: int
    seed: int
    plan_hash: str
    steps: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    history: list[dict[str, Any]] = []
    sha256: dict[str, str] = {}  # of each shard


def draft_of(run: Path, step: int) -> Path:
    """The hidden folder that the state after ``step`` steps is written to."""
    return run / "state" / f".step-{step:06d}"


def write_shard(draft: Path, device: int, tensors: Mapping[str, np.ndarray]) -> None:
    """Write one device's part and see it on the disk."""
    draft.mkdir(parents=True, exist_ok=True)
    save_tensors(draft / f"shard-{device}.safetensors", tensors)


def publish(run: Path, progress: Progress, keeps: int = KEPT) -> None:
    """Turn the draft, all shards written, into the latest state, and drop all but the last ``keeps``."""
    draft = draft_of(run, progress.step)
    shards = {path.name: digest_file(path) for path in sorted(draft.glob("*.safetensors"))}
    write_sealed(draft / "state.json", progress.model_copy(update={"sha256": shards}))
    target = run / "state" / draft.name[1:]
    if target.exists():
        shutil.rmtree(target)
    os.rename(draft, target)
    sync(target.parent)
    for old in states(run)[:-keeps]:
        _drop(old)


def states(run: Path) -> list[Path]:
    """Finished states of a run, oldest first."""
    found = [path for path in (run / "state").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(state: Path) -> int:
    """The number of steps that a state's folder is named after."""
    return int(state.name.removeprefix("step-"))


def discard_drafts(run: Path) -> None:
    for draft in (run / "state").glob(".step-*"):
        shutil.rmtree(draft)


def discard_states(run: Path, after: int = 0) -> None:
    """Drop the states after step ``after``: a run that goes on from there is not to be taken for the one before it."""
    discard_drafts(run)
    for old in states(run):
        if step_of(old) > after:
            _drop(old)


def _drop(state: Path) -> None:
    """Remove a state: hidden first, since a kill may leave half of it."""
    hidden = state.with_name(f".{state.name}")
    os.rename(state, hidden)
    shutil.rmtree(hidden)


def read_progress(state: Path) -> Progress:
    """Read ``state.json``.

    Raises:
        Misuse: another version of this project wrote it.
        Damaged: it is absent, or is not what was written, or speaks of another step than its folder or its rows.
    """
    path = state / "state.json"
    if not path.exists():
        raise Damaged(f"{path} is missing: {REMEDY}")
    progress = read_sealed(path, Progress, VERSION, f"there is no {path}", REMEDY)
    named, rows = NAME.fullmatch(state.name), [row.get("step") for row in progress.steps]
    if named and int(named[1]) != progress.step:
        raise Damaged(f"{path} is of step {progress.step}, which is not its folder's: {REMEDY}")
    if rows != list(range(progress.step)):
        raise Damaged(f"{path} is of step {progress.step}, but does not log each step before that: {REMEDY}")
    return progress


def check_shards(state: Path, progress: Progress) -> None:
    """See that a state holds just the shards it was published with, as they were.

    Raises:
        Damaged: it does not.
    """
    found = {path.name for path in state.glob("*.safetensors") if path.is_file()}
    if found != progress.sha256.keys():
        raise Damaged(f"{state} does not hold the shards it was saved with: {REMEDY}")
    for name, digest in progress.sha256.items():
        if digest_file(state / name) != digest:
            raise Damaged(f"{state / name} is damaged: cut or altered after it was saved; {REMEDY}")


def read_tensors(folder: Path, names: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read tensors by canonical name, whichever file holds them; ``names`` gives the shapes they must have.

    Raises:
        Damaged: a file is not whole.
        Misuse: a tensor is missing, or its shape is another.
    """
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with opened(path) as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if name in names}
    for name, shape in names.items():
        if name not in found:
            raise Misuse(f"{folder} holds no tensor {name}")
        if found[name].shape != tuple(shape):
            raise Misuse(f"{folder} holds {name} of shape {found[name].shape}; this network needs {tuple(shape)}")
    return found

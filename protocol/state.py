"""The training state on disk: canonical, readable by every backend and placement, whole or absent.

    state/step-000050/state.json            step, seed, plan hash, what has been logged so far
    state/step-000050/shard-0.safetensors   conv1.weight, momentum.conv1.weight, ...: one file a device

Devices write their shards into one hidden folder; the first device then adds ``state.json`` and renames it. Whatever
kills a process at whatever moment, either the old state stands or the new one.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from protocol.errors import Misuse

KEPT = 2
NAME = re.compile(r"step-(\d+)")


class Progress(BaseModel):
    """``state.json``. Dropout masks, samples and rates follow from ``step`` and ``seed``."""

    # A run that has diverged logs losses that are no numbers; they come back as such.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    step: int
    seed: int
    plan_hash: str
    steps: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    history: list[dict[str, Any]] = []


def draft_of(run: Path, step: int) -> Path:
    """The hidden folder that the state after ``step`` steps is written to."""
    return run / "state" / f".step-{step:06d}"


def write_shard(draft: Path, device: int, tensors: Mapping[str, np.ndarray]) -> None:
    """Write one device's part and see it on the disk."""
    draft.mkdir(parents=True, exist_ok=True)
    path = draft / f"shard-{device}.safetensors"
    # safetensors writes memory as it lies, whatever an array's strides say.
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def publish(run: Path, progress: Progress) -> None:
    """Turn the draft, all shards written, into the latest state, and drop all but the last two."""
    draft = draft_of(run, progress.step)
    path = draft / "state.json"
    with path.open("w") as file:
        file.write(progress.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    target = run / "state" / draft.name[1:]
    if target.exists():
        shutil.rmtree(target)
    os.rename(draft, target)
    for old in states(run)[:-KEPT]:
        _drop(old)


def states(run: Path) -> list[Path]:
    """Finished states of a run, oldest first."""
    found = [path for path in (run / "state").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def discard_drafts(run: Path) -> None:
    for draft in (run / "state").glob(".step-*"):
        shutil.rmtree(draft)


def discard_states(run: Path) -> None:
    """Drop all states, so that a run from the start is not taken for the one before it."""
    discard_drafts(run)
    for old in states(run):
        _drop(old)


def _drop(state: Path) -> None:
    """Remove a state: hidden first, since a kill may leave half of it."""
    hidden = state.with_name(f".{state.name}")
    os.rename(state, hidden)
    shutil.rmtree(hidden)


def read_progress(state: Path) -> Progress:
    """Read ``state.json``.

    Raises:
        Misuse: it is absent or damaged.
    """
    try:
        return Progress.model_validate_json((state / "state.json").read_text())
    except (OSError, ValidationError) as error:
        raise Misuse(f"{state / 'state.json'} cannot be read ({str(error).splitlines()[0]})") from None


def read_tensors(state: Path, names: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read tensors by canonical name, whichever shard holds them; ``names`` gives the shapes they must have.

    Raises:
        Misuse: a file is damaged, a tensor is missing, or its shape is another.
    """
    found: dict[str, np.ndarray] = {}
    for path in sorted(state.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                found |= {name: file.get_tensor(name) for name in file.keys() if name in names}
        except SafetensorError as error:
            raise Misuse(f"{path} is damaged ({error})") from None
    for name, shape in names.items():
        if name not in found:
            raise Misuse(f"{state} holds no tensor {name}")
        if found[name].shape != tuple(shape):
            raise Misuse(f"{state} holds {name} of shape {found[name].shape}; this network needs {tuple(shape)}")
    return found

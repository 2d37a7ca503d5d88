"""A run's folder: what is in it, written whole or not at all, read strictly.

record.json               what was run, on what, and how it ended (:class:`Record`)
steps.csv                 step, epoch, loss, rate, images_per_second, error (share of wrong first guesses)
epochs.csv                epoch, train_loss, train_error, validation_loss, top1_error, top5_error, views
memory.csv                device, kind, predicted_bytes, measured_bytes, method
timings.csv               step, device, phase, seconds: raw samples
timeline.csv              device, doing, start, seconds, of one step
layers.csv                layer, seconds of a step when it is carried out by itself
predictions.safetensors   per test image: label, tile, and the rank its label got, by number of views
features.safetensors      conv1's kernels
weights.safetensors       every parameter, canonical names
state/step-000050/        the training state after 50 steps (:mod:`protocol.state`)
"""

import csv
import io
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import Misuse
from protocol.files import write_text

VERSION = 1
Status = Literal["running", "finished", "failed", "out_of_memory", "interrupted"]
Row = Mapping[str, Any]
Content = TypeVar("Content", bound=BaseModel)


class Record(BaseModel):
    """``record.json``. Holds no host name, no user name and no absolute path."""

    # A distance may be infinite, which JSON proper has no word for.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    version: int = VERSION
    kind: Literal["train", "parity", "bench", "oracle"]
    status: Status = "running"
    reason: str = ""
    backend: str
    placement: str
    devices: list[str]
    case: dict[str, Any]
    seed: int
    precision: str
    threads: int
    plan_hash: str
    norm: str = ""
    parameters: dict[str, int] = Field(default_factory=dict, description="parameters by the device they live on")
    packages: dict[str, str] = Field(default_factory=dict)
    commit: str = ""
    processor: str = ""
    seconds: float = 0.0
    history: list[dict[str, Any]] = Field(
        default_factory=list, description="who trained from which step: backend, placement, step"
    )
    result: dict[str, Any] = Field(default_factory=dict)


def surroundings(packages: Iterable[str]) -> dict[str, Any]:
    """Fields that say where a run took place: versions, commit, processor."""
    versions = {name: package_version(name) for name in packages}
    return {
        "packages": {"python": platform.python_version(), **versions},
        "commit": current_commit(),
        "processor": processor_name(),
    }


def current_commit() -> str:
    """The checkout's commit, marked ``+`` when files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_record(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "record.json", record.model_dump_json(indent=1) + "\n")


def read_record(folder: Path) -> Record:
    """Read ``record.json``.

    Raises:
        Misuse: it is absent or damaged, or a later version of this project wrote it.
    """
    path = folder / "record.json"
    missing = f"there is no record at {path}: is {folder} a run's folder?"
    return read_versioned(path, Record, VERSION, missing, "delete the run's folder and run it again")


def read_versioned(path: Path, model: type[Content], version: int, missing: str, remedy: str) -> Content:
    """Read JSON that this project wrote; ``missing`` is said where there is none, ``remedy`` where it is damaged.

    Raises:
        Misuse: it is absent or damaged, or has another version.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise Misuse(missing) from None
    except ValueError as error:
        raise Misuse(f"{path} is not JSON ({error}): {remedy}") from None
    found = content.get("version") if isinstance(content, dict) else None
    if found != version:
        raise Misuse(f"{path} has version {found}, but this project reads version {version}: update, or run it again")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise Misuse(f"{path} is not a valid record: {where}: {problem['msg']}") from None


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Write a CSV table with just these columns; None is written empty, "not applicable"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


STEP_COLUMNS = ("step", "epoch", "loss", "rate", "images_per_second", "error")
EPOCH_COLUMNS = ("epoch", "train_loss", "train_error", "validation_loss", "top1_error", "top5_error", "views")
MEMORY_COLUMNS = ("device", "kind", "predicted_bytes", "measured_bytes", "method")
TIMING_COLUMNS = ("step", "device", "phase", "seconds")
LAYER_COLUMNS = ("layer", "seconds")
TIMELINE_COLUMNS = ("device", "doing", "start", "seconds")


def log(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)

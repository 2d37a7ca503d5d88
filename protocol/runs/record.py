"""A run's folder: what is in it, written whole or not at all, read strictly.

record.json               what was run, on what, how it ended, and the checksums of the files below (:class:`Record`)
steps.csv                 step, epoch, loss, rate, images_per_second, error (share of wrong first guesses)
epochs.csv                epoch, train_loss, train_error, validation_loss, top1_error, top5_error, views
memory.csv                device, kind, predicted_bytes, measured_bytes, method
timings.csv               step, device, phase, seconds: raw samples
timeline.csv              device, doing, start, seconds, of one step
layers.csv                layer, seconds of a step when it is carried out by itself
predictions.safetensors   per test image: label, tile, and the rank its label got, by number of views
features.safetensors      conv1's kernels
weights.safetensors       every parameter, canonical names
state/step-000050/        the training state after 50 steps (:mod:`protocol.runs.state`)
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.base.files import digest_file
from protocol.base.sealed import Damaged, read_sealed, write_sealed

VERSION = 2
# diverged: the loss was no number any more.
Status = Literal["running", "finished", "diverged", "failed", "out_of_memory", "interrupted"]
Row = Mapping[str, Any]


class Kept(BaseModel):
    """A file of a run's folder as it was when the run ended. ``rows``: of a table, without its header."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    rows: int | None = None


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
    arithmetic: str = Field(default="strict", description="whether float32 products may round their operands")
    parameters: dict[str, int] = Field(default_factory=dict, description="parameters by the device they live on")
    packages: dict[str, str] = Field(default_factory=dict)
    commit: str = ""
    sources: str = Field(default="", description="hash of the sources that a training run's numbers come from")
    processor: str = ""
    seconds: float = 0.0
    history: list[dict[str, Any]] = Field(
        default_factory=list, description="who trained from which step: backend, placement, step"
    )
    result: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, Kept] = Field(default_factory=dict, description="the folder's other files, when the run has ended")


def write_record(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(folder / "record.json", record)


def read_record(folder: Path) -> Record:
    """Read ``record.json``.

    Raises:
        Misuse: it is absent or damaged, or another version of this project wrote it.
    """
    path = folder / "record.json"
    missing = f"there is no record at {path}: is {folder} a run's folder?"
    return read_sealed(path, Record, VERSION, missing, "delete the run's folder and run it again")


def kept_files(folder: Path) -> dict[str, Kept]:
    """Every file of a run's folder, with its checksum, but its record and what frameworks printed."""
    found = {}
    for path in sorted(folder.iterdir()):
        own = path.is_file() and not path.name.startswith(".") and path.suffix != ".log"
        if own and path.name != "record.json":
            found[path.name] = Kept(sha256=digest_file(path), rows=_rows(path) if path.suffix == ".csv" else None)
    return found


def _rows(table: Path) -> int:
    with table.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def check_file(folder: Path, record: Record, name: str) -> Path:
    """The path of a file of a run's folder, which is as it was when the run ended.

    Raises:
        Damaged: it is not, or the run had none.
    """
    path, kept = folder / name, record.files.get(name)
    if kept is None:
        raise Damaged(f"the record of {folder} knows no {name}: delete the folder and run it again")
    if not path.is_file():
        raise Damaged(f"{path} is missing: delete the run's folder and run it again")
    if digest_file(path) != kept.sha256:
        raise Damaged(f"{path} is damaged: cut or altered after it was written; delete its folder and run it again")
    return path


STEP_COLUMNS = ("step", "epoch", "loss", "rate", "images_per_second", "error")
EPOCH_COLUMNS = ("epoch", "train_loss", "train_error", "validation_loss", "top1_error", "top5_error", "views")
MEMORY_COLUMNS = ("device", "kind", "predicted_bytes", "measured_bytes", "method")
TIMING_COLUMNS = ("step", "device", "phase", "seconds")
LAYER_COLUMNS = ("layer", "seconds")
TIMELINE_COLUMNS = ("device", "doing", "start", "seconds")

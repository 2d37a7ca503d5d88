"""What is kept of many runs: a file a shard with their records and tables, and one with their small tensors.

study.json.gz         of each run: its record, and its tables as they were written, but for the single steps
study.safetensors     of each run: ranks of the test images' labels as uint8, with one view, and conv1's kernels as they
                      ended, float16, of the arms that are asked whether columns specialise; of the baseline's first
                      seed, as they were at the end of every epoch
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from compare.claims.arms import BASELINE, KERNELS_OF
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.files import replacing
from protocol.base.sealed import Damaged, one_line, read_bytes
from protocol.base.tensors import read_tensors, save_tensors
from protocol.runs.record import Record, check_file, read_record

TABLES = ("epochs", "checks", "gradients", "neighbours")


@dataclass(frozen=True)
class Packed:
    """One run, as it was kept. ``arm``: which of the plan's it belongs to."""

    arm: str
    record: Record
    tables: dict[str, str]
    shard: str

    @property
    def key(self) -> str:
        return f"{self.record.backend}/{self.arm}/{self.record.seed}"

    def table(self, name: str) -> pd.DataFrame:
        """One of ``TABLES``; empty where the run diverged before it was written."""
        return pd.read_csv(io.StringIO(self.tables[name])) if name in self.tables else pd.DataFrame()


def packed(arm: str, folder: Path, shard: str) -> tuple[Packed, dict[str, np.ndarray]]:
    """A run's folder, read strictly, and its small tensors.

    Raises:
        Misuse: it is no finished run's, or was altered.
    """
    record = read_record(folder)
    if record.status not in ("finished", "diverged"):
        raise Misuse(f"{folder} is {record.status}, so its shard is not whole: start the shard again")
    tables = {
        name: check_file(folder, record, f"{name}.csv").read_text() for name in TABLES if f"{name}.csv" in record.files
    }
    own = Packed(arm, record, tables, shard)
    tensors = dict[str, np.ndarray]()
    if "predictions.safetensors" in record.files:
        ranks = read_tensors(check_file(folder, record, "predictions.safetensors"))["ranks_1"]
        tensors[f"{own.key}/ranks"] = ranks.astype(np.uint8)
    if "kernels.safetensors" in record.files and arm in KERNELS_OF:
        (kernels,) = read_tensors(check_file(folder, record, "kernels.safetensors")).values()
        grows = arm == BASELINE.name and record.seed == BACKENDS[record.backend].accuracy_seeds[0]
        tensors[f"{own.key}/kernels"] = kernels.astype(np.float16)[0 if grows else -1 :]
    return own, tensors


def write(folder: Path, shard: str, runs: Iterable[tuple[Packed, dict[str, np.ndarray]]]) -> None:
    """Keep a shard's runs in ``folder``."""
    content, tensors = [], dict[str, np.ndarray]()
    for run, own in sorted(runs, key=lambda one: one[0].key):
        content.append({"arm": run.arm, "record": run.record.model_dump(mode="json"), "tables": run.tables})
        tensors |= own
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / f"{shard}.safetensors", tensors)
    # Last of all: that it is there says that the shard is kept.
    with replacing(folder / f"{shard}.json.gz") as draft:
        draft.write_bytes(gzip.compress(json.dumps(content, sort_keys=True).encode(), mtime=0))


def read(folder: Path, name: str = "*") -> list[Packed]:
    """The runs of every shard in ``folder``, or of the one called ``name``, each once.

    Raises:
        Damaged: a file is not what was written, or two shards hold one run.
    """
    found: dict[str, Packed] = {}
    for path in sorted(folder.glob(f"{name}.json.gz")):
        shard = path.name.removesuffix(".json.gz")
        for run in _runs(path, shard):
            if run.key in found:
                raise Damaged(f"{path} and shard {found[run.key].shard} both hold the run {run.key}: keep one of them")
            found[run.key] = run
    return list(found.values())


def _runs(path: Path, shard: str) -> Iterable[Packed]:
    try:
        content: list[dict[str, Any]] = json.loads(gzip.decompress(read_bytes(path)))
        found = [
            Packed(str(one["arm"]), Record.model_validate(one["record"]), dict(one["tables"]), shard) for one in content
        ]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} is no shard of runs ({one_line(error)})") from None
    for run in found:
        _check(run, path)
    return found


def _check(run: Packed, path: Path) -> None:
    """See that a run's tables are there and as the run left them."""
    if run.record.status == "finished" and set(run.tables) != set(TABLES):
        raise Damaged(f"{path} lacks tables of the run {run.key}: take the shard from where it came, or run it again")
    for name, text in run.tables.items():
        kept = run.record.files.get(f"{name}.csv")
        if kept is None or hashlib.sha256(str(text).encode()).hexdigest() != kept.sha256:
            raise Damaged(f"{path} was altered: table {name} of the run {run.key} is not what the run wrote")


class Kernels:
    """conv1's kernels of the runs in ``folder``; each shard is read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[str, dict[str, np.ndarray]] = {}

    def of(self, run: Packed) -> np.ndarray:
        """Of one run, (1 or epochs + 1, maps, 3, rows, columns), the last as it ended.

        Raises:
            Damaged: its shard holds none.
        """
        if run.shard not in self.shards:
            self.shards[run.shard] = tensors(self.folder, run.shard)
        if (name := f"{run.key}/kernels") not in self.shards[run.shard]:
            raise Damaged(f"{self.folder / run.shard}.safetensors holds no kernels of the run {run.key}")
        return self.shards[run.shard][name]


def tensors(folder: Path, shard: str) -> dict[str, np.ndarray]:
    """A shard's small tensors, by the runs' keys."""
    return read_tensors(folder / f"{shard}.safetensors")

"""The run folders of an audit, read once and strictly: a file is used only if it is as its run left it."""

import io
import json
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paper.architecture import Network
from protocol.base.errors import Misuse
from protocol.base.sealed import Damaged, one_line, read_bytes
from protocol.base.tensors import read_tensors
from protocol.experiment.cases import find_case, what
from protocol.oracle.quantities import LOWERED
from protocol.runs.rate import BY_HAND
from protocol.runs.record import Record, check_file, read_record

TWIN_SEED = 0
# No table is made from them. An oracle's networks are gone when the runs that are compared with it are done, and the
# committed runs hold no whole weights.
MAY_BE_GONE = ("weights.safetensors", "tensors.safetensors", "choices.safetensors")


@dataclass(frozen=True)
class RunFolder:
    """One run: its record, and its tables when asked for."""

    folder: Path
    root: Path
    record: Record

    @property
    def name(self) -> str:
        """Its path below the runs' folder: what tables cite as evidence."""
        return self.folder.relative_to(self.root).as_posix()

    @property
    def case(self) -> str:
        return str(self.record.case["name"])

    @property
    def variant(self) -> str:
        return str(self.record.case["variant"])

    @property
    def title(self) -> str:
        """Who ran it, and how it lay on devices."""
        if self.record.backend == "oracle":
            return "oracle"
        return f"{self.record.backend} {self.record.placement}"

    def table(self, name: str) -> pd.DataFrame:
        """A table of the run's.

        Raises:
            Damaged: it is missing, or was cut or altered.
        """
        return read_csv(check_file(self.folder, self.record, f"{name}.csv"))

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """A tensor file of the run's.

        Raises:
            Damaged: it is missing, or was cut or altered.
        """
        return read_tensors(check_file(self.folder, self.record, f"{name}.safetensors"))

    def has(self, file: str) -> bool:
        return file in self.record.files

    @property
    def is_as_planned(self) -> bool:
        """Whether it trained to its case's end, the rate falling where the case says and nowhere else."""
        return self.has("predictions.safetensors") and not any(entry.get(BY_HAND) for entry in self.record.history)

    def has_done(self, leaves: str, *, whole: bool) -> bool:
        """Whether it has left the file ``leaves`` and, if it was to train ``whole``, did so or diverged on the way."""
        return self.has(leaves) and (not whole or self.record.status == "diverged" or self.is_as_planned)

    def check(self) -> None:
        """See that every file is as the run left it, and that what tables are made from is there.

        Raises:
            Damaged: one is not.
        """
        for name in self.record.files:
            if name not in MAY_BE_GONE or (self.folder / name).exists():
                check_file(self.folder, self.record, name)

    @cached_property
    def network(self) -> Network:
        """The table of the network that the run's case names."""
        return find_case(self.case, variant=self.variant, preset_name=str(self.record.case["preset"])).network()


@dataclass(frozen=True)
class Runs:
    """All runs below a folder that came to an end of their own. ``damaged``: what is wrong with the others' files."""

    finished: tuple[RunFolder, ...]
    diverged: tuple[RunFolder, ...] = ()
    damaged: dict[str, str] = field(default_factory=dict)

    def of(
        self, kind: str, *, backend: str | None = None, case: str | None = None, lowered: bool = False
    ) -> list[RunFolder]:
        """Runs of a kind; ``lowered``: those in tf32 and bf16 too, which answer for no claim."""
        return [
            run
            for run in self.finished
            if run.record.kind == kind
            and backend in (None, run.record.backend)
            and case in (None, run.case)
            and (lowered or run.record.precision not in LOWERED)
        ]

    def twins(self) -> list[RunFolder]:
        """The baseline's run of each backend with the seed they have in common, in the placement that comes first."""
        asked = what(find_case("photos").content())
        found: dict[str, RunFolder] = {}
        for run in self.of("train", case="photos"):
            if what(run.record.case) == asked and run.record.seed == TWIN_SEED and run.is_as_planned:
                found.setdefault(run.record.backend, run)
        return list(found.values())

    def backends(self) -> list[str]:
        return sorted({run.record.backend for run in self.finished} - {"oracle"}, reverse=True)


def read_csv(path: Path, **settings: Any) -> pd.DataFrame:
    """A CSV table, packed by gzip or not.

    Raises:
        Damaged: it is none.
    """
    try:
        packed = "gzip" if path.suffix == ".gz" else None
        return pd.read_csv(io.BytesIO(read_bytes(path)), compression=packed, **settings)
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    # pandas' own errors are ValueErrors, and gzip's OSErrors
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise Damaged(f"{path} is no table ({one_line(error)})") from None


def read_kept(path: Path, columns: tuple[str, ...], command: str, **settings: Any) -> pd.DataFrame:
    """A table that ``command`` wrote, with just these columns; one without rows where there is none yet.

    Raises:
        Damaged: it is not as it was written.
    """
    if not path.is_file():
        return pd.DataFrame(columns=columns)
    table = read_csv(path, **settings)
    if tuple(table.columns) != columns or not isinstance(table.index, pd.RangeIndex) or table.empty:
        raise altered(path, command)
    return table


def altered(path: Path, command: str) -> Damaged:
    """The refusal of a table that is not what ``command`` wrote."""
    return Damaged(f"{path} is not as it was written: delete it, and {command} writes it anew")


def read_json(path: Path) -> dict[str, Any]:
    """An object that a bench wrote beside its tables.

    Raises:
        Damaged: it is none.
    """
    try:
        content = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not JSON ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} holds no object")
    return content


def load_runs(root: Path) -> Runs:
    """Read every run below ``root`` that came to an end; what is damaged is named, and the others stand.

    Raises:
        Misuse: there is none, or a record is of another version.
    """
    paths = sorted(path.parent for path in root.glob("**/record.json"))
    if not paths:
        raise Misuse(f"there are no runs in {root}; make some with: nox -s audit")
    found: list[RunFolder] = []
    damaged: dict[str, str] = {}
    for path in paths:
        try:
            run = RunFolder(path, root, read_record(path))
            run.check()
        except Damaged as error:
            damaged[path.relative_to(root).as_posix()] = str(error)
        else:
            found.append(run)
    ended = {status: tuple(run for run in found if run.record.status == status) for status in ("finished", "diverged")}
    return Runs(ended["finished"], ended["diverged"], damaged)

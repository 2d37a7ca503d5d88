"""The run folders of an audit, read once and strictly."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from paper.architecture import Network
from protocol.cases import find_case
from protocol.errors import Misuse
from protocol.probe import read_tensors
from protocol.record import Record, read_record

TWIN_SEED = 0


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
        return pd.read_csv(self.folder / f"{name}.csv")

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        return read_tensors(self.folder / f"{name}.safetensors")

    def has(self, file: str) -> bool:
        return (self.folder / file).is_file()

    @cached_property
    def network(self) -> Network:
        """The table of the network that the run's case names."""
        return find_case(self.case, variant=self.variant, preset_name=str(self.record.case["preset"])).network()


@dataclass(frozen=True)
class Runs:
    """All finished runs below a folder."""

    finished: tuple[RunFolder, ...]

    def of(
        self, kind: str, *, backend: str | None = None, case: str | None = None, lowered: bool = False
    ) -> list[RunFolder]:
        """Runs of a kind; ``lowered``: those in bf16 too, which answer for no claim and keep to no fp32 bound."""
        return [
            run
            for run in self.finished
            if run.record.kind == kind
            and backend in (None, run.record.backend)
            and case in (None, run.case)
            and (lowered or run.record.precision != "bf16")
        ]

    def twins(self) -> list[RunFolder]:
        """The baseline's run of each backend with the seed they have in common."""
        baseline = self.of("train", case="photos")
        return [run for run in baseline if run.variant == "two_column" and run.record.seed == TWIN_SEED]

    def backends(self) -> list[str]:
        return sorted({run.record.backend for run in self.finished} - {"oracle"}, reverse=True)


def load_runs(root: Path) -> Runs:
    """Read every finished run below ``root``.

    Raises:
        Misuse: there is none, or a record is damaged or from a later version.
    """
    paths = sorted(path.parent for path in root.glob("**/record.json"))
    if not paths:
        raise Misuse(f"there are no runs in {root}; make some with: nox -s audit")
    found = [RunFolder(path, root, read_record(path)) for path in paths]
    return Runs(tuple(run for run in found if run.record.status == "finished"))

"""How long a pass takes of the nets whose time to 25 % training error is compared.

A shard's own seconds do not tell: other work may go on beside it. So the nets train in turn, one at a time on one core,
several times each, on a machine that does nothing else: nox -s claims -- --clock
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from compare.claims.arms import ARMS, Arm
from compare.claims.comparisons import COMPARISONS, PASSES
from compare.claims.plan import images_of
from compare.limit import limit, printed
from compare.load import read_csv
from paper.cost import train_flops
from protocol.backends import BACKENDS, Backend
from protocol.base.log import log
from protocol.base.provenance import current_commit, processor_name
from protocol.base.sealed import Damaged
from protocol.base.tables import write_table

TABLE = "clock.csv"
COLUMNS = ("backend", "arm", "repeat", "images_per_second", "pass_seconds", "of_peak", "processor", "commit")
REPEATS, STEPS = 3, 200


@dataclass(frozen=True)
class Clock:
    """``pass_seconds``: of training on every image once, by backend and arm; the median of what was measured."""

    pass_seconds: dict[tuple[str, str], float]

    @classmethod
    def read(cls, folder: Path) -> "Clock":
        """The clock that ``folder`` has; an empty one where nothing was measured.

        Raises:
            Damaged: its table is not as it was written.
        """
        path = folder / TABLE
        if not path.is_file():
            return cls({})
        table = read_csv(path)
        seconds = table["pass_seconds"] if set(COLUMNS) <= set(table.columns) else None
        if seconds is None or seconds.dtype.kind not in "if" or not (seconds > 0).all():
            raise Damaged(f"{path} is not as it was written: delete it, and nox -s claims -- --clock measures it anew")
        middle = seconds.groupby([table["backend"], table["arm"]]).median()
        return cls({(str(backend), str(arm)): float(value) for (backend, arm), value in middle.items()})


def timed() -> list[Arm]:
    """The arms whose times are compared."""
    names = {name for one in COMPARISONS if one.quantity == PASSES for name in (one.left, one.right)}
    return [arm for arm in ARMS if arm.name in names]


def measure(interpreters: dict[str, str], data: Path, folder: Path) -> list[str]:
    """Train each net for some steps in each backend, in turn; write what was measured, and say it.

    Raises:
        Misuse: one of them failed.
    """
    rows: list[dict[str, Any]] = []
    where = processor_name(), current_commit()
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            peak = limit(interpreters, threads=1)["fp32"]
            for arm in timed():
                for name in BACKENDS:
                    log(f"round {repeat + 1} of {REPEATS}: {arm.name} in {name}")
                    out = Path(scratch) / f"{repeat}-{arm.name}-{name}"
                    rate = _rate(BACKENDS[name], arm, interpreters[name], data, out)
                    share = rate * train_flops(arm.content().network()) / peak
                    whole = images_of(arm) / arm.content().epochs / rate
                    rows.append(dict(zip(COLUMNS, (name, arm.name, repeat, rate, whole, share, *where), strict=True)))
    write_table(folder / TABLE, COLUMNS, rows)
    said = []
    for arm in timed():
        for name in BACKENDS:
            found = [row for row in rows if (row["backend"], row["arm"]) == (name, arm.name)]
            rate, share = (median(row[column] for row in found) for column in ("images_per_second", "of_peak"))
            said.append(f"{arm.name} in {name}: {rate:.0f} images/s on one core, {share:.0%} of its matrix products")
    return said


def _rate(backend: Backend, arm: Arm, interpreter: str, data: Path, out: Path) -> float:
    """Images a second, from the median step."""
    case = arm.content()
    command = [interpreter, "-m", backend.module, "bench", "--case", arm.case, "--batch", str(case.batch)]
    printed([*command, "--steps", str(STEPS), "--data", str(data), "--out", str(out)], {"OMP_NUM_THREADS": "1"})
    timings = read_csv(out / "timings.csv")
    return case.batch / float(timings.loc[timings["phase"] == "step", "seconds"].median())

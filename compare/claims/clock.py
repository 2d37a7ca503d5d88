"""How long a pass takes of the nets whose times to 25 % training error are compared.

A shard's own seconds do not tell: other work may go on beside it. So the nets train in turn, one at a time on one core,
several times each, on a machine that does nothing else: nox -s claims -- --clock
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from compare.claims.arms import ARMS, Arm
from compare.claims.comparisons import COMPARISONS, PASSES
from compare.claims.plan import images_of
from compare.limit import limit, printed
from compare.load import altered, read_csv, read_kept
from paper.cost import train_flops
from protocol.backends import BACKENDS, Backend
from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.base.provenance import current_commit, processor_name
from protocol.base.tables import write_table

TABLE, COMMAND = "clock.csv", "nox -s claims -- --clock"
COLUMNS = ("backend", "arm", "repeat", "images_per_second", "pass_seconds", "of_peak", "processor", "commit")
REPEATS, STEPS = 5, 100


def timed() -> list[Arm]:
    """The arms whose times are compared."""
    names = {name for one in COMPARISONS if one.quantity == PASSES for name in (one.left, one.right)}
    return [arm for arm in ARMS if arm.name in names]


@dataclass(frozen=True)
class Clock:
    """``pass_seconds``: of training on every image once, by backend and arm, at the fastest.

    What else a machine does can only add to a time.
    """

    pass_seconds: dict[tuple[str, str], float]

    @classmethod
    def read(cls, folder: Path) -> "Clock":
        """The clock that ``folder`` has; an empty one where nothing was measured.

        Raises:
            Damaged: its table is not as it was written.
        """
        least: dict[tuple[str, str], float] = {}
        for row in read(folder).to_dict("records"):
            key = str(row["backend"]), str(row["arm"])
            least[key] = min(least.get(key, np.inf), float(row["pass_seconds"]))
        return cls(least)


def read(folder: Path) -> pd.DataFrame:
    """The clock's table in ``folder``; one without rows where nothing was measured.

    Raises:
        Damaged: it is not as it was written.
    """
    table = read_kept(folder / TABLE, COLUMNS, COMMAND)
    whole = bool(table.drop(columns="commit").notna().all(axis=None))
    whole = whole and set(table["backend"]) <= set(BACKENDS) and set(table["arm"]) <= {arm.name for arm in timed()}
    for name in ("images_per_second", "pass_seconds", "of_peak") if whole and len(table) else ():
        numbers = table[name].to_numpy()
        whole = whole and numbers.dtype.kind in "if" and bool(np.isfinite(numbers).all() and (numbers > 0).all())
    if not whole:
        raise altered(folder / TABLE, COMMAND)
    return table


def measure(interpreters: dict[str, str], data: Path, folder: Path) -> list[str]:
    """Train each net for some steps in each backend, in turn; write what was measured, and say it.

    Raises:
        Misuse: a backend's interpreter is not named, or a net could not be trained.
    """
    if lacking := sorted(set(BACKENDS) - set(interpreters)):
        raise Misuse(f"no interpreter is named for {' and '.join(lacking)}: nox -s claims names both")
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
                    share = rate * train_flops(arm.as_case().network()) / peak
                    whole = images_of(arm) / arm.as_case().epochs / rate
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
    case = arm.as_case()
    command = [interpreter, "-m", backend.module, "bench", "--case", arm.case, "--batch", str(case.batch)]
    command += ["--variant", case.variant, "--steps", str(STEPS), "--data", str(data), "--out", str(out)]
    with _on_one_core():
        printed(command, {"OMP_NUM_THREADS": "1"})
    timings = read_csv(out / "timings.csv")
    return case.batch / float(timings.loc[timings["phase"] == "step", "seconds"].median())


@contextmanager
def _on_one_core() -> Iterator[None]:
    """What is started within has one core for all its threads: those that prepare images too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

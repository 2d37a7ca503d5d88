"""A kept run trained anew: on a machine of the same kind it comes to the same numbers, bit for bit.

again.csv   by run that was trained anew: how many files it came to, and which of them differed from those of the record
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from compare.claims.arms import ARMS, STUDIES
from compare.claims.pack import Packed
from compare.claims.shards import ROOT, Place, Task, train
from compare.load import altered, read_kept
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.provenance import sources_of
from protocol.base.tables import write_table
from protocol.runs.record import read_record

AGAIN = Place(root=ROOT.absolute() / "again")
TIMED = ("steps.csv",)  # holds images a second, which no two runs share
TABLE, COMMAND = "again.csv", "nox -s claims -- --again"
COLUMNS = ("run", "files", "differing", "processor", "trained_on", "commit")


def train_anew(
    key: str, kept: list[Packed], interpreters: Mapping[str, str], data: Path, table: Path, checkout: Path | None = None
) -> list[str]:
    """Train the run ``backend/arm/seed`` once more; returns the files of its folder that are not as they were.

    ``table``: the folder of ``again.csv``, where it is told; ``checkout``: whose sources train it, if not these.

    Raises:
        Misuse: no such run is kept, no interpreter is named for its backend, or the sources are not those it came from.
        Failed: the run ended early.
    """
    runs = {run.key: run for run in kept}
    if key not in runs:
        raise Misuse(unknown("kept run", key, list(runs)[:8]))
    run, known = runs[key], runs[key].record
    if known.backend not in interpreters:
        raise Misuse(f"no interpreter is named for {known.backend}: nox -s claims names both")
    backend = BACKENDS[known.backend]
    read(table)  # a damaged one is refused before anything is trained
    if checkout and not (checkout / backend.module).is_dir():
        raise Misuse(f"{checkout} is no checkout: there is no {backend.module} in it")
    if sources_of(backend.module, checkout) != known.sources:
        raise Misuse(
            f"{key} comes from other sources than those of {checkout or 'this checkout'}: --sources names one that has "
            f"them; the record's commit is {known.commit}"
        )
    (arm,) = (arm for arm in STUDIES.get(run.shard, ARMS) if arm.name == run.arm)
    task = Task(backend, arm, known.seed, AGAIN)
    # What an earlier call has left would not be trained anew.
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    train("again", [task], interpreters, data.absolute(), AGAIN, checkout)
    found = read_record(task.folder)

    names = (known.files.keys() | found.files.keys()) - set(TIMED)
    differing = sorted(name for name in names if known.files.get(name) != found.files.get(name))
    where = {"processor": known.processor, "trained_on": found.processor, "commit": found.commit}
    row = {"run": key, "files": len(names), "differing": " ".join(differing), **where}
    others = [other for other in read(table).to_dict("records") if other["run"] != key]
    write_table(table / TABLE, COLUMNS, [*others, row])
    return differing


def read(folder: Path) -> pd.DataFrame:
    """The table of runs trained anew in ``folder``; one without rows where there is none.

    Raises:
        Damaged: it is not as it was written.
    """
    table = read_kept(folder / TABLE, COLUMNS, COMMAND, dtype=str, keep_default_na=False)
    named = (table[["run", "processor", "trained_on"]] != "").all(axis=None) and table["run"].is_unique
    if not named or not table["files"].str.isdecimal().all():
        raise altered(folder / TABLE, COMMAND)
    return table

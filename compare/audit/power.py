"""How much is seen: planted mistakes, as ``python -m mistakes`` found them, and faults of ``faults``."""

from pathlib import Path
from typing import Any

import pandas as pd

from compare.load import read_csv
from compare.tables import COLUMNS
from protocol.base.sealed import Damaged

NOTHING = "none"  # the trials in which nothing was planted
# What kind of mistake: in one backend alone, in what the oracle obeys as well, or so small that it is just found.
ALONE, WITH_ORACLE, SMALL = "alone", "oracle too", "small"


def read(folder: Path, name: str = "power") -> pd.DataFrame:
    """``power.csv``, ``sensitivity.csv`` or ``faults.csv`` of ``folder``; without rows where nothing was tried.

    Raises:
        Damaged: it is no such table.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS[name]))
    table = read_csv(path, keep_default_na=False)
    if missing := set(COLUMNS[name]) - set(table.columns):
        raise Damaged(f"{path} has no column {sorted(missing)[0]}: delete it, and let nox -s power or faults write it")
    return table


def sentence(power: pd.DataFrame) -> str:
    """How many were found, how many were named rightly, and how often nothing was found where there was nothing."""
    if power.empty:
        return "The mistakes were not planted for this audit."
    quiet = power[power["mistake"] == NOTHING]
    whole = power[power["kind"].isin((ALONE, WITH_ORACLE))]
    found = [
        f"{whole['mistake'].nunique()} planted mistakes in {whole['backend'].nunique()} backends, "
        f"{whole.loc[whole['kind'] == WITH_ORACLE, 'mistake'].nunique()} of which the oracle makes too: "
        f"{_true(whole['found'])} of {len(whole)} found, {_true(whole['as_expected'])} named where they were planted; "
        f"with none planted, {_true(quiet['found'])} false alarms in {len(quiet)} trials over "
        f"{quiet['seed'].nunique()} seeds."
    ]
    small = power[power["kind"] == SMALL]
    if not small.empty:
        larger = small[small["share"].astype(float) > 1]
        smaller = small.drop(larger.index)
        found.append(
            f"{small['mistake'].nunique()} more can be made as small as one likes: {_true(larger['found'])} of "
            f"{len(larger)} found where they come to {larger['share'].astype(float).min():.1f} to "
            f"{larger['share'].astype(float).max():.1f} tolerances, {_true(smaller['found'])} of {len(smaller)} where "
            "they stay within one."
        )
    return " ".join(found)


def _true(column: pd.Series) -> int:
    return int((column.astype(str) == "True").sum())


def by_mistake(power: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a mistake, with what each backend's ladder named; those made as small as one likes have a table of their
    own."""
    planted = power[power["kind"].isin((ALONE, WITH_ORACLE))]
    return [
        {"mistake": mistake, **{row["backend"]: f"{row['rung']}: {row['named']}" for row in group.to_dict("records")}}
        for mistake, group in planted.groupby("mistake", sort=False)
    ]


def by_dial(sensitivity: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a mistake that can be made as small as one likes: the smallest that was found, in either backend."""
    rows = []
    for mistake, group in sensitivity.groupby("mistake", sort=False):
        row: dict[str, Any] = {"mistake": mistake}
        for one in group.to_dict("records"):
            size = one["smallest_found"]
            row[one["backend"]] = f"{float(size):.1e} ({one['quantity']})" if size != "" else "not found"
        rows.append(row)
    return rows


def held(faults: pd.DataFrame) -> str:
    """What befell files and processes, and whether anything of it passed unseen."""
    if faults.empty:
        return "No faults were injected for this audit."
    count = {name: int(pd.to_numeric(faults[name]).fillna(0).sum()) for name in ("tried", "wrong", "traceback", "hang")}
    return (
        f"{count['tried']:,} faults injected (damaged and strange files to every reader, simulated losses of power, "
        f"kill -9): {count['wrong']} wrong results taken for right, {count['traceback']} tracebacks, {count['hang']} "
        "hangs."
    )

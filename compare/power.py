"""How much the ladder sees: planted mistakes, as ``python -m tests.mistakes`` found them."""

from pathlib import Path
from typing import Any

import pandas as pd

from compare.load import read_csv
from compare.tables import COLUMNS
from protocol.sealed import Damaged

NOTHING = "none"  # the trials in which nothing was planted


def read(folder: Path) -> pd.DataFrame:
    """``power.csv`` of ``folder``; without rows where the mistakes were not planted.

    Raises:
        Damaged: it is no such table.
    """
    path = folder / "power.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS["power"]))
    table = read_csv(path, keep_default_na=False)
    if missing := set(COLUMNS["power"]) - set(table.columns):
        raise Damaged(f"{path} has no column {sorted(missing)[0]}: nox -s power writes it anew")
    return table


def sentence(power: pd.DataFrame) -> str:
    """How many were found, how many were named rightly, and how often nothing was found where there was nothing."""
    if power.empty:
        return "The mistakes were not planted for this audit."
    planted, quiet = power[power["mistake"] != NOTHING], power[power["mistake"] == NOTHING]
    return (
        f"{planted['mistake'].nunique()} planted mistakes in {planted['backend'].nunique()} backends: "
        f"{_true(planted['found'])} of {len(planted)} found, {_true(planted['as_expected'])} named where they were "
        f"planted; with none planted, {_true(quiet['found'])} false alarms in {len(quiet)} trials over "
        f"{quiet['seed'].nunique()} seeds."
    )


def _true(column: pd.Series) -> int:
    return int((column.astype(str) == "True").sum())


def by_mistake(power: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a mistake, with what each backend's ladder named."""
    planted = power[power["mistake"] != NOTHING]
    return [
        {"mistake": mistake, **{row["backend"]: f"{row['rung']}: {row['named']}" for row in group.to_dict("records")}}
        for mistake, group in planted.groupby("mistake", sort=False)
    ]

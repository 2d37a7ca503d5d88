"""Claims that training tests: what ``nox -s claims`` found, here or in the reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from compare.audit.findings import RULES, Finding, Verdict, at_full_scale
from compare.load import read_csv
from paper.claims import Claim
from protocol.backends import BACKENDS
from protocol.base.sealed import Damaged

TABLE = "claims.csv"
NEEDED = ("claim", "verdict", *BACKENDS, "low", "high", "seeds", "reason")
AGAIN = "nox -s claims"


@dataclass(frozen=True)
class Trained:
    """The verdicts of the claims that train, by claim; of each row, ``source`` is whose runs it comes from."""

    rows: dict[str, dict[str, Any]]

    def under(self, other: "Trained") -> "Trained":
        """These, but for claims that ``other`` has too."""
        return Trained({**self.rows, **other.rows})

    def finding(self, claim: Claim) -> Finding:
        """What the runs say of ``claim``, which is among ``rows``."""
        row = self.rows[claim.id]
        further = f"{AGAIN}; on images of your own: {AGAIN} -- --store NAME"
        if claim.id in RULES:
            further += f"; at the paper's scale: {at_full_scale(claim)}"
        return Finding(
            Verdict(row["verdict"]),
            {backend: "" if pd.isna(row[backend]) else str(row[backend]) for backend in BACKENDS},
            interval_low=None if pd.isna(row["low"]) else float(row["low"]),
            interval_high=None if pd.isna(row["high"]) else float(row["high"]),
            seeds=int(row["seeds"]),
            evidence=TABLE,
            reason=str(row["reason"]),
            test_further=further,
            source=row["source"],
        )


def read(folder: Path, source: str) -> Trained:
    """What stands in ``folder``; nothing where no claim has been trained for yet.

    Raises:
        Damaged: it is no such table, or a verdict in it is none.
    """
    path = folder / TABLE
    if not path.is_file():
        return Trained({})
    table = read_csv(path)
    if missing := set(NEEDED) - set(table.columns):
        raise Damaged(f"{path} has no column {sorted(missing)[0]}: delete it, and let {AGAIN} write it")
    if strange := set(table["verdict"]) - set(Verdict):
        raise Damaged(
            f"{path} has a verdict that is none, {sorted(map(str, strange))[0]!r}: delete it, and let {AGAIN} write it"
        )
    for name in ("seeds", "low", "high"):
        if not pd.api.types.is_numeric_dtype(table[name]) or (name == "seeds" and table[name].isna().any()):
            raise Damaged(f"{path} has a {name} that is no number: delete it, and let {AGAIN} write it")
    return Trained({str(row["claim"]): {**row, "source": source} for row in table.to_dict("records")})

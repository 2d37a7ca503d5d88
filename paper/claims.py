"""The typed reading of ``claims.toml``, where every field is explained."""

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

CLAIMS = Path(__file__).with_name("claims.toml")
LONGEST = 80  # characters of a value in a sentence


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or of the notes this project began from. Fields without a default must be given."""

    id: str
    section: str
    source: str
    statement: str
    paper: str
    record_2012: str
    unit: str
    tests: tuple[str, ...]
    primary: bool
    how: str
    record_at: str = ""
    retrained: str = ""
    digits: int | None = None
    tolerance: float | None = None
    caveat: str = ""


# Of a field's value in the file; text where not named.
KINDS = {"tests": list, "primary": bool, "tolerance": float, "digits": int}
CHOICES = {
    "source": {"paper", "notes"},
    "tests": {"E", "R", "T", "F", "measured", "shown"},
}


NUMBER = re.compile(r"\d[\d,]*\.?\d*|\.\d+")
WORDS = {"million": 1e6}


def figures(text: str) -> list[float]:
    """The numbers that a field states, in order; ``60 million`` is one."""
    found = []
    for match in NUMBER.finditer(text):
        word = text[match.end() :].split()[:1]
        found.append(float(match[0].replace(",", "")) * WORDS.get(word[0] if word else "", 1.0))
    return found


def load_claims(path: Path = CLAIMS) -> dict[str, Claim]:
    """Every claim by its id, in the order of the file.

    Raises:
        ValueError: it is no TOML, a field is unknown, missing or of the wrong kind, or an id occurs twice.
    """
    claims: dict[str, Claim] = {}
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        try:
            tables = tomllib.load(file).get("claim")
        except RecursionError:
            raise ValueError(f"{path} nests too deeply") from None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path} holds no tables [[claim]]")
    for number, table in enumerate(tables, start=1):
        claim = _claim(table, str(table.get("id", f"number {number}")))
        if claim.id in claims:
            raise ValueError(f"claim {claim.id} occurs twice: its field 'id' must be its own")
        claims[claim.id] = claim
    return claims


def _quoted(value: object) -> str:
    """What a sentence shows of a strange value."""
    return repr(value)[:LONGEST]


def _claim(table: dict[str, Any], name: str) -> Claim:
    known = {field.name: field.default is MISSING for field in fields(Claim)}
    for field, required in known.items():
        if required and field not in table:
            raise ValueError(f"claim {name} lacks the field {field!r}")
    for field, value in table.items():
        if field not in known:
            raise ValueError(f"claim {name} has an unknown field {field!r}")
        if type(value) is not (kind := KINDS.get(field, str)):
            raise ValueError(f"claim {name} has a field {field!r} that is not a {kind.__name__}: {_quoted(value)}")
        for choice in value if isinstance(value, list) else [value]:
            if field in CHOICES and (not isinstance(choice, str) or choice not in CHOICES[field]):
                raise ValueError(f"claim {name} has a field {field!r} with an unknown value {_quoted(choice)}")
    return Claim(**{**table, "tests": tuple(table["tests"])})

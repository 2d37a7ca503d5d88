"""A list of training runs, as a file names them."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line, read_bytes


class Entry(BaseModel):
    """A run, as the flags of ``train`` say it; the recipe is the case's own where nothing is said."""

    model_config = ConfigDict(extra="forbid", strict=True)

    case: str
    seed: int
    out: str
    variant: str | None = None
    preset: str | None = None
    batch: int | None = None
    epochs: int | None = None
    rate: float | None = None
    store: str | None = None


ENTRIES = TypeAdapter(list[Entry])


def read_entries(path: Path) -> list[Entry]:
    """The runs that a file names.

    Raises:
        Misuse: it is absent, or no such list.
    """
    try:
        found = ENTRIES.validate_json(read_bytes(path))
    except FileNotFoundError:
        raise Misuse(f"{path} does not exist: nox -s claims writes such lists") from None
    except (ValidationError, RecursionError) as error:
        raise Misuse(f"{path} is no list of runs ({one_line(error)})") from None
    if not found:
        raise Misuse(f"{path} names no run")
    return found

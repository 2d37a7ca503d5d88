"""CSV tables, written whole or not at all."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from protocol.base.files import write_text

Row = Mapping[str, Any]


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Write a CSV table with just these columns; None is written empty, "not applicable"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())

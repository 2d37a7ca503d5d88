"""The audit's tables as CSV: these columns first, in this order; empty means "not applicable"."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from protocol.backends import BACKENDS
from protocol.base.tables import write_table

COLUMNS: dict[str, tuple[str, ...]] = {
    name: tuple(columns.split())
    for name, columns in {
        "verdicts": f"claim section statement paper record_2012 retrained {' '.join(BACKENDS)} unit interval_low "
        "interval_high seeds verdict evidence test_further reason caveat primary source",
        "parity": "rung quantity left right preset precision difference tolerance agrees where reading case variant "
        "evidence",
        "accuracy": "case variant preset backend placement seed epoch train_error top1_error top5_error views "
        "train_loss evidence",
        "memory": "backend placement device batch micro_batch precision kind predicted_bytes measured_bytes method "
        "variant evidence",
        "scaling": "backend placement devices batch precision images_per_second days days_low days_high source card "
        "variant threads evidence",
        "power": "mistake kind backend size share found rung named seed expected as_expected",
        "sensitivity": "mistake backend smallest_found tolerances rung quantity largest_missed",
        "faults": "what fault tried same refused another wrong traceback hang slowest",
        "presets": "fact paper chm-145 caffe notes",
        "signal": "preset deviations variant backend placement precision share evidence",
        "first_steps": "preset backend placement step loss",
        "fits_3gb": "variant devices policy modelled_bytes fits_3_gib",
        "colour_bar": "backend accuracy linear forest passes",
        "stages": "batch device compute_seconds share",
    }.items()
}


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    write_table(folder / f"{name}.csv", COLUMNS[name], rows)

"""From run folders to ``results/audit``: tables, figures, reports."""

from pathlib import Path

import pandas as pd

from compare import ladder, tables
from compare.audit import accuracy, memory, plots, power, presets, report, scaling, stages, verdicts
from compare.audit.trained_claims import Trained
from compare.load import Runs
from protocol.base.files import check_replaceable, new_folder

# All that an audit's folder may hold.
HOLDS = (
    "audit.md",
    "audit.html",
    *(f"{name}.csv" for name in tables.COLUMNS),
    *(f"{name}.png" for name in plots.FIGURES),
)


def build(runs: Runs, data: Path, mistakes: Path, trained: Trained) -> dict[str, pd.DataFrame]:
    """Every table, from this run's records; ``mistakes``: the folder of the ladder's trials.

    The folder of what befell files and processes stands beside that. ``trained``: what the claims' own runs came to.
    """
    climbed = ladder.rows(runs)
    found = {
        "parity": climbed,
        "accuracy": accuracy.rows(runs),
        "colour_bar": accuracy.bar(runs, data / "photos-small"),
        "memory": memory.rows(runs),
        "scaling": scaling.rows(runs),
        "stages": stages.rows(runs),
        "power": power.read(mistakes).to_dict("records"),
        "sensitivity": power.read(mistakes, "sensitivity").to_dict("records"),
        "faults": power.read(mistakes.with_name("faults"), "faults").to_dict("records"),
        "presets": presets.differences(),
        "signal": presets.signal(runs),
        "first_steps": presets.curves(runs),
        "fits_3gb": memory.fits().to_dict("records"),
        "verdicts": verdicts.rows(verdicts.gather(runs, climbed), trained),
    }
    return {name: pd.DataFrame(rows, columns=list(tables.COLUMNS[name])) for name, rows in found.items()}


def write(
    folder: Path,
    runs: Runs,
    data: Path,
    mistakes: Path,
    trained: Trained,
    reference: Path | None = None,
    incomplete: str = "",
) -> dict[str, pd.DataFrame]:
    """Write the audit to ``folder``, whole or not at all, and return its tables; ``reference``: to show beside it.

    ``incomplete``: what it lacks, in a sentence.

    Raises:
        Misuse: something else stands at ``folder``, or a table that it is made from is damaged.
    """
    check_replaceable(folder, HOLDS, "verdicts.csv")
    built = build(runs, data, mistakes, trained)
    with new_folder(folder, HOLDS, "verdicts.csv") as draft:
        for name, table in built.items():
            rows = table.astype(object).where(table.notna(), None).to_dict("records")
            tables.write(draft, name, rows)
        figures = plots.draw(draft, built, runs)
        report.write(draft, built, runs, figures, reference, incomplete)
    return built

"""The comparison's command line: ``python -m compare run | audit | lint``."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from compare import audit as auditing
from compare import conductor
from compare import lint as linting
from compare.load import load_runs
from compare.readme import regenerate
from compare.reference import keep
from compare.report import parity_sentence, summary
from protocol.__main__ import photos
from protocol.command import run
from protocol.errors import Misuse
from protocol.lint import read_lint
from protocol.profiles import PROFILES, TWINS
from protocol.record import log, write_table
from protocol.request import RUNS

AUDIT = Path("results/audit")
STORES = Path("results/stores")
REFERENCE = Path("results/reference/audit")
WIDE = 150  # columns, where the output is not a terminal
STYLES = {
    "reproduced": "green",
    "contradicted": "red",
    "not tested here": "dim",
    linting.KEPT: "green",
    linting.BROKEN: "red",
    linting.NOT_SEEN: "dim",
}

app = typer.Typer(
    help="Hold the backends against each other and the paper.", add_completion=False, pretty_exceptions_enable=False
)


@app.command("run")
def carry_out(
    deepspeed: Annotated[Path | None, typer.Option(help="The DeepSpeed environment's interpreter.")] = None,
    gluon: Annotated[Path | None, typer.Option(help="The Gluon environment's interpreter.")] = None,
    profile: Annotated[str, typer.Option(help="Which cases to run.")] = "quick",
) -> None:
    """Prepare the photographs, run a profile's jobs in both backends, and write the audit."""
    if profile not in PROFILES:
        raise Misuse(f"there is no profile {profile!r}; there are {', '.join(PROFILES)}")
    interpreters = conductor.interpreters_of(gluon, deepspeed)
    photos(STORES)
    jobs = PROFILES[profile](tuple(backend for backend in TWINS if backend in interpreters))
    failed, peak = conductor.carry_out(jobs, interpreters, STORES)
    log(f"peak memory of all processes together: {peak / 2**30:.1f} GiB")
    agrees = _audit(RUNS, STORES, AUDIT)
    if failed:
        log(f"{len(failed)} job(s) failed: {', '.join(job.title for job in failed)}")
    sys.exit(0 if agrees and not failed else 1)


@app.command()
def audit(
    runs: Annotated[Path, typer.Option(help="The folder of runs.")] = RUNS,
    data: Annotated[Path, typer.Option(help="The folder of prepared data sets.")] = STORES,
    out: Annotated[Path, typer.Option(help="The audit's folder.")] = AUDIT,
) -> None:
    """Write the audit of the runs there are; status 1 when they do not carry out one network."""
    sys.exit(0 if _audit(runs, data, out) else 1)


@app.command()
def reference() -> None:
    """Keep results/runs as the committed reference, and write README.md's figures anew from it."""
    keep(RUNS, STORES, REFERENCE.parent)
    regenerate(Path("README.md"), REFERENCE)


@app.command()
def lint(
    record: Annotated[Path, typer.Argument(help="What a backend's lint wrote: the folder or its probe.json.")],
) -> None:
    """Say which of the paper's facts a linted network keeps; status 1 when it breaks any."""
    measured = read_lint(record)
    findings = linting.judge(measured)
    folder = record if record.is_dir() else record.parent
    write_table(folder / "lint.csv", linting.COLUMNS, map(asdict, findings))
    _print_findings(findings)
    log(linting.summary(measured, findings))
    log(f"table: {folder / 'lint.csv'}")
    sys.exit(1 if any(finding.verdict == linting.BROKEN for finding in findings) else 0)


def _audit(runs: Path, data: Path, out: Path) -> bool:
    """Whether every rung of parity holds."""
    tables = auditing.write(out, load_runs(runs), data, REFERENCE)
    _print(tables["verdicts"])
    log(summary(tables))
    log(parity_sentence(tables["parity"]))
    log(f"report: {out / 'audit.html'}; tables and plots: {out}")
    return bool(tables["parity"]["agrees"].astype(bool).all())


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _print_findings(findings: list[linting.Finding]) -> None:
    table = Table(box=None, header_style="bold")
    for heading, whole in (("fact", True), ("paper", False), ("found", False), ("verdict", True), ("note", False)):
        table.add_column(heading, no_wrap=whole)
    for row in findings:
        style = STYLES[row.verdict]
        table.add_row(row.fact, row.paper, row.found, f"[{style}]{row.verdict}[/]", row.note)
    _console().print(table)


def _print(verdicts: pd.DataFrame) -> None:
    table = Table(box=None, header_style="bold")
    for heading, whole in (
        ("claim", True),
        ("paper", False),
        ("gluon", False),
        ("deepspeed", False),
        ("verdict", True),
    ):
        table.add_column(heading, no_wrap=whole)
    for row in verdicts.astype(object).fillna("").to_dict("records"):
        style = STYLES.get(row["verdict"], "yellow")
        table.add_row(row["claim"], row["paper"], row["gluon"], row["deepspeed"], f"[{style}]{row['verdict']}[/]")
    _console().print(table)


if __name__ == "__main__":
    run(app)

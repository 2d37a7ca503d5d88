"""The comparison's command line: ``python -m compare run | ladder | bench | audit | lint``."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compare import completeness, conductor, ensemble, looks, tables, tensorboard
from compare import ladder as climbing
from compare.audit import build as auditing
from compare.audit.findings import Verdict
from compare.audit.report import each_quantity, parity_sentence, summary, worst_by_rung
from compare.audit.trained_claims import Trained
from compare.audit.trained_claims import read as read_trained
from compare.bench import decode, gpu_report, one_gpu, throughput
from compare.bench import measure as benching
from compare.claims import clock, controls, judge, pack, plan, reading, seen, shards
from compare.claims.again import train_anew
from compare.claims.arms import LATER, STUDIES
from compare.claims.evidence import Evidence
from compare.ladder import RUNGS
from compare.lint import judge as linting
from compare.load import Runs, load_runs
from compare.profiles import PROFILES, Job, jobs_of
from compare.reference.keep import keep
from compare.reference.readme import regenerate
from paper.names import unknown
from protocol.__main__ import photos
from protocol.backends import BACKENDS
from protocol.base.errors import Failed, Misuse
from protocol.base.files import check_replaceable, write_text
from protocol.base.log import log
from protocol.base.tables import write_table
from protocol.command import run
from protocol.datasets.store import read_manifest
from protocol.lint.record import read_lint
from protocol.runs.request import RUNS

AUDIT = Path("results/audit")
LADDER = Path("results/ladder")
POWER = Path("results/power")
BENCH = Path("results/bench")
CLAIMS = Path("results/claims")
LINT = Path("results/lint")
STORES = Path("results/stores")
REFERENCE = Path("results/reference/audit")
ALL_HELP = "Print every claim, not only what is contradicted."
WIDE = 150  # columns, where the output is not a terminal
STYLES = {
    "reproduced": "green",
    "contradicted": "red",
    "not tested here": "dim",
    linting.KEPT: "green",
    linting.BROKEN: "red",
    linting.NOT_SEEN: "dim",
}

Interpreters = Annotated[list[str] | None, typer.Option(help=conductor.INTERPRETER_HELP, metavar="BACKEND=PYTHON")]

DataFolder = Annotated[Path, typer.Option(help="The folder of prepared data sets.")]
OnStore = Annotated[
    str | None, typer.Option(help="Other data: the name of a store in results/stores, such as cifar10 or imagenet.")
]

app = typer.Typer(
    help="Hold the backends against each other and the paper.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@app.command("run")
def run_profile(
    interpreter: Interpreters = None,
    profile: Annotated[str, typer.Option(help="Which cases to run.")] = "quick",
    every: Annotated[bool, typer.Option("--all", help=ALL_HELP)] = False,
) -> None:
    """Prepare the photographs, run a profile's jobs in both backends, and write the audit."""
    if profile not in PROFILES:
        raise Misuse(unknown("profile", profile, PROFILES))
    interpreters = conductor.interpreters_of(interpreter or ())
    photos(STORES)
    jobs = PROFILES[profile](tuple(name for name in BACKENDS if name in interpreters))
    check_replaceable(AUDIT, auditing.HOLDS, "verdicts.csv")
    failed, peak = conductor.run_jobs(jobs, interpreters, STORES)
    log(f"peak memory of all processes together: {peak / 2**30:.1f} GiB")
    holds = _audit(RUNS, STORES, AUDIT, jobs, every=every)
    if failed:
        log(f"{len(failed)} job(s) failed: {', '.join(job.title for job in failed)}")
    sys.exit(0 if holds and not failed else 1)


@app.command()
def ladder(
    interpreter: Interpreters = None,
    rung: Annotated[str | None, typer.Option(help="Climb to this rung alone, and show its every quantity.")] = None,
) -> None:
    """Hold both backends against the oracle in every interpretation of the recipe; status 1 when a rung fails."""
    if rung and rung not in RUNGS:
        raise Misuse(unknown("rung", rung, RUNGS))
    interpreters = conductor.interpreters_of(interpreter or ())
    photos(STORES)
    here, out = benching.machine(), LADDER / "rungs" / rung if rung else LADDER
    jobs = jobs_of(rung, tuple(name for name in BACKENDS if name in interpreters))
    failed, _ = conductor.run_jobs(jobs, interpreters, STORES)
    folders = {job.folder for job in jobs}
    ended = load_runs(RUNS)
    runs = Runs(tuple(run for run in ended.finished if run.folder in folders), damaged=ended.damaged)
    absent = completeness.missing(runs, jobs)
    found = [row for row in climbing.rows(runs) if rung in (None, row["rung"])]
    tables.write(out, "parity", found)
    write_text(out / benching.MACHINE, here)
    table = climbing.table(found)
    _print_ladder(table, whole=rung is not None)
    log(parity_sentence(table))
    log(f"every quantity: {out / 'parity.csv'}")
    if absent:
        log(completeness.sentence(absent, len(jobs)))
    agrees = not table.empty and table["agrees"].astype(bool).all()
    sys.exit(0 if not failed and not absent and agrees else 1)


@app.command()
def bench(
    interpreter: Interpreters = None,
) -> None:
    """Time every placement at full size beside its peers and the machine's limit."""
    interpreters = conductor.interpreters_of(interpreter or ())
    photos(STORES)
    benching.measure(interpreters, STORES, BENCH)
    throughput.write(BENCH)
    for sentence in throughput.sentences(BENCH):
        log(sentence)
    log(f"tables and plot: {BENCH}")


@app.command()
def claims(
    interpreter: Interpreters = None,
    study: Annotated[bool, typer.Option("--study", help="The runs by which recipe and rates were chosen.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(help=f"This one alone of the plan, or a study: {', '.join(sorted(LATER))}."),
    ] = None,
    store: OnStore = None,
    again: Annotated[
        str | None, typer.Option(metavar="BACKEND/ARM/SEED", help="Train a run of the reference anew, and compare.")
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(metavar="CHECKOUT", help="Whose sources train it, where these are later ones.")
    ] = None,
    timed: Annotated[
        bool, typer.Option("--clock", help="How long a pass takes of the nets whose times to 25 % are compared.")
    ] = False,
) -> None:
    """Train the claims' arms over seeds, shard by shard; what is kept is not trained again."""
    if sum((study, bool(again), timed, bool(shard or store))) > 1:
        raise Misuse("--study, --again, --clock, and --shard or --store exclude each other")
    if sources and not again:
        raise Misuse("--sources goes with --again")
    interpreters = conductor.interpreters_of(interpreter or ())
    photos(STORES)
    studies = {name: shards.study(name, interpreters) for name in STUDIES}
    if study:
        for name in (name for name in studies if name not in LATER):
            shards.carry_out(name, studies[name], interpreters, STORES)
        return
    if timed:
        for sentence in clock.measure(interpreters, STORES, shards.OWN.kept):
            log(sentence)
        return
    if again:
        kept = pack.read(plan.PLAN)
        if other := train_anew(again, kept, interpreters, STORES, shards.OWN.kept, sources):
            raise Failed(f"{again} came out otherwise: {', '.join(other)}")
        log(f"{again} came out the same, bit for bit")
        return
    place = shards.Place(store)
    if store:
        read_manifest(STORES / store)
    planned = plan.read(place=place)
    tasks = planned if store else planned | studies
    if shard and shard not in tasks:
        raise Misuse(unknown("shard", shard, tasks))
    for name in [shard] if shard else planned:
        shards.carry_out(name, tasks[name], interpreters, STORES, place)
    judge_claims(store)


@app.command("judge")
def judge_claims(store: OnStore = None) -> None:
    """Say what the runs kept so far show of the claims that train."""
    place = shards.Place(store)
    runs = pack.read(place.kept)
    if not runs:
        raise Misuse(f"there are no runs in {place.kept}: nox -s claims makes them")
    evidence = Evidence(runs, store)
    write_table(place.folder / "controls.csv", controls.COLUMNS, controls.rows(evidence))
    for row in judge.write(evidence, place.kept, place.folder):
        log(f"{row['claim']}: {row['verdict']}; {row['reason']}")
    log(f"tables and figures: {place.folder}")


@app.command()
def see(out: Annotated[Path, typer.Option(help="Where the pictures, and reading.csv, go.")] = CLAIMS) -> None:
    """Draw what layers see, what is read off them, images' neighbours and guesses, of one trained network a backend."""
    for name in (*seen.draw(out, STORES), *reading.write(out, STORES)):
        log(str(out / name))


@app.command("plan")
def make_plan() -> None:
    """Write what the claims' arms would take and could show, from the study, before they are trained."""
    for sentence in plan.write(pack.read(shards.OWN.kept, "study")):
        log(sentence)


@app.command()
def audit(
    runs: Annotated[Path, typer.Option(help="The folder of runs.")] = RUNS,
    data: DataFolder = STORES,
    out: Annotated[Path, typer.Option(help="The audit's folder.")] = AUDIT,
    profile: Annotated[str, typer.Option(help="Whose runs should be there.")] = "quick",
    every: Annotated[bool, typer.Option("--all", help=ALL_HELP)] = False,
) -> None:
    """Write the audit of the runs there are; status 1 when some are missing or do not carry out one network."""
    if profile not in PROFILES:
        raise Misuse(unknown("profile", profile, PROFILES))
    sys.exit(0 if _audit(runs, data, out, PROFILES[profile](tuple(BACKENDS)), every=every) else 1)


@app.command("decode")
def measure_decoding(
    out: Annotated[Path, typer.Option(help="Where decode.csv goes.")] = Path("results/bench"),
) -> None:
    """Measure how fast pictures are decoded and a store is prepared on this machine."""
    for sentence in decode.measure(out):
        log(sentence)


OutputsFolder = Annotated[Path, typer.Argument(help="What a backend's verb outputs wrote.")]
Images = Annotated[str | None, typer.Option(help="Which test images to draw: 0,5,9.", show_default="spread over all")]


@app.command()
def classify(folder: OutputsFolder, images: Images = None, data: DataFolder = STORES) -> None:
    """Write and draw the five likeliest classes of a store's test images, from a model's outputs (figure 4, left)."""
    for path in looks.classify(folder, data, images):
        log(str(path))


@app.command()
def search(folder: OutputsFolder, images: Images = None, data: DataFolder = STORES) -> None:
    """Find and draw the training images nearest to test images in fc7, from a model's outputs (figure 4, right)."""
    for path in looks.search(folder, data, images):
        log(str(path))


@app.command()
def average(
    folders: Annotated[list[Path], typer.Argument(help="What outputs wrote, of each of the models.")],
    data: DataFolder = STORES,
    out: Annotated[Path, typer.Option(help="The table.")] = Path("results/average.csv"),
) -> None:
    """Average the predictions of several models, and write their errors on a store's test images (table 2)."""
    for row in ensemble.average(folders, data, out):
        log(f"{row['outputs']}: {row['top1_error']:.2%} top-1, {row['top5_error']:.2%} top-5")
    log(str(out))


@app.command("tensorboard")
def write_tensorboard(
    runs: Annotated[Path, typer.Argument(help="A run's folder, or one above several.")] = RUNS,
    out: Annotated[Path, typer.Option(help="Where its log folders go.")] = tensorboard.TENSORBOARD,
) -> None:
    """Write what training runs have logged, finished or going on, as files that TensorBoard reads."""
    for path in tensorboard.write(runs, out):
        log(str(path))


@app.command()
def gpu(
    folder: Annotated[Path, typer.Argument(help="What python -m compare.bench.one_gpu left.")] = one_gpu.OUT,
) -> None:
    """Say what a visit to a machine with one GPU came to; status 1 when a quantity is off."""
    _, found, holds = gpu_report.judge(folder)
    for sentence in found:
        log(sentence)
    log(f"tables: {folder}")
    sys.exit(0 if holds else 1)


@app.command()
def reference() -> None:
    """Keep results/runs as the committed reference, and write the figures of README.md and docs/results.md anew."""
    keep(RUNS, STORES, POWER, LINT, BENCH, LADDER, shards.OWN.kept, REFERENCE.parent)
    regenerate(Path(), REFERENCE)


@app.command()
def lint(
    record: Annotated[Path, typer.Argument(help="What a backend's lint wrote: the folder or its lint.json.")],
) -> None:
    """Say which of the paper's facts a linted network keeps; status 1 when it breaks any."""
    measured = read_lint(record)
    findings = linting.judge(measured)
    folder = record if record.is_dir() else record.parent
    target = folder / "lint.csv"
    if target.exists() and not target.read_text(errors="replace").startswith(",".join(linting.COLUMNS)):
        raise Misuse(f"{target} is not of this project, and would be lost: move it away")
    write_table(target, linting.COLUMNS, map(asdict, findings))
    _print_findings(findings)
    log(linting.summary(measured, findings))
    log(f"table: {folder / 'lint.csv'}")
    sys.exit(1 if any(finding.verdict == linting.BROKEN for finding in findings) else 0)


def _audit(runs: Path, data: Path, out: Path, jobs: list[Job], *, every: bool) -> bool:
    """Whether all that ``jobs`` should have left is there, and every rung of parity holds."""
    ended = load_runs(runs)
    absent = completeness.missing(ended, jobs)
    incomplete = completeness.sentence(absent, len(jobs)) if absent else ""
    found = auditing.write(out, ended, data, POWER, trained(), REFERENCE, incomplete)
    _print(found["verdicts"], every=every)
    log(summary(found))
    log(parity_sentence(found["parity"]))
    log(f"report: {out / 'audit.html'}; tables and plots: {out}")
    if incomplete:
        log(incomplete)
    return not absent and not found["parity"].empty and bool(found["parity"]["agrees"].astype(bool).all())


def trained() -> Trained:
    """What the claims that train came to: here, where they have been judged, and of the others in the reference."""
    return read_trained(plan.PLAN, "the reference").under(read_trained(CLAIMS, "this machine"))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _print_ladder(found: pd.DataFrame, *, whole: bool) -> None:
    """A line for each rung and run, or for every quantity."""
    table = Table(box=None, header_style="bold")
    columns = ("rung", "left", "case", "preset", "quantity", "difference", "share", "where")
    for heading in columns:
        table.add_column(heading)
    for row in (each_quantity if whole else worst_by_rung)(found):
        style = None if row["agrees"] else "red"
        table.add_row(*(_cell(row[name]) for name in columns), style=style)
    _console().print(table)


def _print_findings(findings: list[linting.Judgement]) -> None:
    table = Table(box=None, header_style="bold")
    for heading, whole in (("fact", True), ("paper", False), ("found", False), ("verdict", True), ("note", False)):
        table.add_column(heading, no_wrap=whole)
    for row in findings:
        style = STYLES[row.verdict]
        told = (_cell(text) for text in (row.fact, row.paper, row.found))
        table.add_row(*told, f"[{style}]{row.verdict}[/]", _cell(row.note))
    _console().print(table)


def _cell(text: object) -> str:
    """Text of a table as it stands, whatever it says to a terminal."""
    return escape("".join(letter if letter.isprintable() or letter == "\n" else " " for letter in str(text)))


def _print(verdicts: pd.DataFrame, *, every: bool) -> None:
    """What is contradicted and why, or every claim."""
    shown = verdicts if every else verdicts[verdicts["verdict"] == Verdict.CONTRADICTED]
    table = Table(box=None, header_style="bold", title=None if every else "What is contradicted", title_justify="left")
    headings = ("claim", "the paper says", "paper", *BACKENDS, "verdict", "why")
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("claim", "verdict"))
    for row in shown.astype(object).fillna("").to_dict("records"):
        style = STYLES.get(row["verdict"], "yellow")
        told = (_cell(row[name]) for name in ("claim", "statement", "paper", *BACKENDS))
        table.add_row(*told, f"[{style}]{row['verdict']}[/]", _cell(row["reason"]))
    _console().print(table)
    if not every:
        log(f"the other {len(verdicts) - len(shown)} claims: nox -s compare -- audit --all")


def main() -> None:
    run(app)


if __name__ == "__main__":
    main()

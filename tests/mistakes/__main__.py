"""How much the ladder sees: plant every mistake in both backends, and none with twenty seeds.

python -m tests.mistakes --gluon PYTHON --deepspeed PYTHON

Writes ``results/power/power.csv``: whether each was found, on which rung, and what was named. Status 1 when one was not
found, was named wrongly, or something was found where nothing was planted.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from compare import parity
from compare.load import RunFolder, Runs
from compare.tables import write
from protocol.__main__ import photos
from protocol.command import run
from protocol.errors import Misuse
from protocol.record import log, read_record
from tests.commands import rank_environment
from tests.mistakes.catalogue import CRASH, CRASH_NOTE, MISTAKES, Mistake
from tests.mistakes.shared import MICRO_BATCH

POWER = Path("results/power")
STORES = Path("results/stores")
SPLIT = {"gluon": "columns", "deepspeed": "stages"}
SEEDS = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def slug(text: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def oracle_folder(case: str, preset: str, seed: int) -> Path:
    return POWER / "runs" / "oracle" / f"{case}-{preset}" / f"seed{seed}"


def planned(backend: str, mistake: Mistake | None, seed: int = 0) -> dict[str, Any]:
    """One run for :mod:`tests.mistakes.climb`; without a mistake, the placement alternates with the seed."""
    split = mistake.split if mistake else seed % 2 == 1
    chosen = mistake or Mistake("none", ())
    settings: dict[str, Any] = {"preset": chosen.preset, "seed": seed, "readings": "fp64,free"}
    if mistake is None:
        settings["readings"] = "fp64,imposed,free"
    settings["placement"] = SPLIT[backend] if split else "single"
    if backend == "deepspeed":
        settings["micro_batch"] = MICRO_BATCH
    return {
        "mistake": mistake.name if mistake else None,
        "case": chosen.case,
        "settings": settings,
        "data": str(STORES),
        "oracle": str(oracle_folder(chosen.case, chosen.preset, seed)),
        "out": str(POWER / "runs" / backend / slug(chosen.name) / f"seed{seed}"),
    }


def consult_oracles(runs: list[dict[str, Any]]) -> None:
    """Let the oracle carry out each experiment that the runs are compared with, two at a time."""
    wanted = {run["oracle"]: run for run in runs}

    def consult(run: dict[str, Any]) -> None:
        settings = run["settings"]
        command = [sys.executable, "-m", "protocol", "oracle", "--case", run["case"], "--preset", settings["preset"]]
        command += ["--seed", str(settings["seed"]), "--data", run["data"], "--out", run["oracle"]]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(consult, wanted.values()))


def carry_out(backend: str, interpreter: Path, runs: list[dict[str, Any]]) -> None:
    """Carry out the runs on one device in one process, and those on two in another group."""
    for devices in (1, 2):
        own = [run for run in runs if (run["settings"]["placement"] != "single") == (devices == 2)]
        plan = POWER / f"{backend}-{devices}.json"
        plan.write_text(json.dumps(own, indent=1))
        command = [str(interpreter), "-m", "tests.mistakes.climb", backend, str(plan)]
        ranks = devices if backend == "deepspeed" else 1
        # With the norm as composed operators nothing is compiled anew for each mistake in it.
        told = {**os.environ, "OMP_NUM_THREADS": "1", "CXX": "none"}
        with (POWER / f"{backend}-{devices}.log").open("w") as output:
            processes = [
                subprocess.Popen(
                    command, env=told | rank_environment(rank, ranks, 29600 + devices), stdout=output, stderr=output
                )
                for rank in range(ranks)
            ]
            if any(process.wait() for process in processes):
                raise Misuse(f"the {backend} backend could not be tried; see {output.name}")


def judge(backend: str, mistake: Mistake | None, planned_run: dict[str, Any]) -> dict[str, Any]:
    """A row of ``power.csv``."""
    folder, root = Path(planned_run["out"]), POWER / "runs"
    row = {"mistake": mistake.name if mistake else "none", "backend": backend, "seed": planned_run["settings"]["seed"]}
    row["expected"] = " or ".join(mistake.named) if mistake else ""
    crash = folder / CRASH_NOTE
    if crash.is_file():
        found = {"rung": CRASH, "named": crash.read_text()}
    else:
        pair = [RunFolder(path, root, read_record(path)) for path in (Path(planned_run["oracle"]), folder)]
        first = parity.first_divergence(parity.table(parity.rows(Runs(tuple(pair)))))
        found = {"rung": "", "named": ""}
        if first:
            apart = f"{first['difference']:.1e} against {first['tolerance']:.1e}"
            found = {
                "rung": first["rung"],
                "named": f"{first['quantity']} {first['reading']}: {apart}, {first['where']}",
            }
    named = f"{found['rung']}: {found['named']}"
    as_expected = named.startswith(mistake.named) if mistake else not found["rung"]
    return {**row, "found": bool(found["rung"]), **found, "as_expected": as_expected}


@app.command()
def main(
    gluon: Annotated[Path, typer.Option(help="The Gluon environment's interpreter.")],
    deepspeed: Annotated[Path, typer.Option(help="The DeepSpeed environment's interpreter.")],
    only: Annotated[str, typer.Option(help="Plant just the mistakes whose name holds this.")] = "",
    seeds: Annotated[int, typer.Option(help="How many seeds to try with nothing planted.")] = SEEDS,
) -> None:
    """Plant every mistake in both backends, and none with many seeds."""
    photos(STORES)
    POWER.mkdir(parents=True, exist_ok=True)
    trials: list[tuple[Mistake | None, int]] = [(mistake, 0) for mistake in MISTAKES.values() if only in mistake.name]
    trials += [(None, seed) for seed in range(seeds)]
    interpreters = {"gluon": gluon, "deepspeed": deepspeed}
    plans = {backend: [planned(backend, *trial) for trial in trials] for backend in interpreters}
    log(f"{len(trials)} trials a backend; the oracle's answers come first")
    consult_oracles(plans["gluon"])
    log("both backends")
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda backend: carry_out(backend, interpreters[backend], plans[backend]), interpreters))
    rows = [
        judge(backend, mistake, planned_run)
        for backend in interpreters
        for (mistake, _), planned_run in zip(trials, plans[backend], strict=True)
    ]
    write(POWER, "power", rows)
    wrong = [row for row in rows if not row["as_expected"]]
    for row in wrong:
        log(f"{row['backend']}, {row['mistake']}: named {row['rung']}: {row['named']}, expected {row['expected']}")
    log(f"{len(rows) - len(wrong)} of {len(rows)} trials as expected; {POWER / 'power.csv'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run(app)

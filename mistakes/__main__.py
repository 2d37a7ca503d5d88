"""How much the ladder sees: plant every mistake in both backends, and none with twenty seeds.

python -m mistakes --interpreter gluon=PYTHON --interpreter deepspeed=PYTHON

Writes ``results/power/power.csv``: whether each was found, on which rung, and what was named; and ``sensitivity.csv``:
how small a mistake is found. Status 1 when one was not found, was named wrongly, or something was found where nothing
was planted, or something too small to be found.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from compare.audit.power import SMALL
from compare.conductor import INTERPRETER_HELP, interpreters_of
from compare.tables import write
from mistakes.catalogue import CRASH_NOTE, DIALS, MISTAKES
from mistakes.sensitivity import LARGER, PLAIN, SMALLER, sensitivity
from mistakes.trial import POWER, STORES, Trial
from protocol.__main__ import photos
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.command import run
from tests.support.commands import rank_environment

SEEDS = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def consult_oracles(trials: Iterable[Trial]) -> None:
    """Let the oracle carry out each experiment that the trials are compared with, two at a time."""
    wanted = {trial.oracle: trial for trial in trials}

    def consult(trial: Trial) -> None:
        planned = trial.planned()
        settings = planned["settings"]
        mistake = trial.mistake
        module = ["mistakes.fooled", planned["plant"]] if mistake and mistake.fools_oracle else ["protocol"]
        command = [sys.executable, "-m", *module, "oracle", "--case", planned["case"], "--preset", settings["preset"]]
        command += ["--seed", str(trial.seed), "--data", planned["data"], "--out", planned["oracle"]]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(consult, wanted.values()))


def run_trials(backend: str, interpreter: str, trials: Iterable[Trial]) -> None:
    """Carry out the trials of one backend, each group of them in processes of its own."""
    groups: dict[tuple[int, bool], list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.backend == backend:
            groups[trial.group].append(trial)
    for number, ((devices, compiled), own) in enumerate(groups.items()):
        plan = POWER / f"{backend}-{devices}{'-compiled' if compiled else ''}.json"
        plan.write_text(json.dumps([trial.planned() for trial in own], indent=1))
        command = [interpreter, "-m", "mistakes.climb", backend, str(plan)]
        ranks = devices if BACKENDS[backend].ranks else 1
        # With the norm as composed operators nothing is compiled anew for each mistake in it.
        told = {**os.environ, "OMP_NUM_THREADS": "1"} | ({} if compiled else {"CXX": "none"})
        with plan.with_suffix(".log").open("w") as output:
            processes = [
                subprocess.Popen(
                    command, env=told | rank_environment(rank, ranks, 29600 + number), stdout=output, stderr=output
                )
                for rank in range(ranks)
            ]
            if any([process.wait() for process in processes]):
                raise Misuse(f"the {backend} backend could not be tried; see {output.name}")


def try_all(interpreters: dict[str, str], trials: list[Trial]) -> None:
    """Carry out the trials, the backends at the same time."""
    for trial in trials:
        (trial.out / CRASH_NOTE).unlink(missing_ok=True)
    consult_oracles(trials)
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda backend: run_trials(backend, interpreters[backend], trials), BACKENDS))


@app.command()
def main(
    interpreter: Annotated[list[str], typer.Option(help=INTERPRETER_HELP, metavar="BACKEND=PYTHON")],
    only: Annotated[str, typer.Option(help="Plant just the mistakes whose name holds this.")] = "",
    seeds: Annotated[int, typer.Option(help="How many seeds to try with nothing planted.")] = SEEDS,
    small: Annotated[bool, typer.Option(help="Turn the dials too, down to where they are just found.")] = True,
) -> None:
    """Plant every mistake in both backends, and none with many seeds."""
    photos(STORES)
    POWER.mkdir(parents=True, exist_ok=True)
    interpreters = interpreters_of(interpreter)
    planted, dials = ([mistake for mistake in known.values() if only in mistake.name] for known in (MISTAKES, DIALS))
    trials = [Trial(backend, mistake) for backend in BACKENDS for mistake in planted]
    trials += [Trial(backend, None, seed) for backend in BACKENDS for seed in range(seeds)]
    plain = [Trial(backend, mistake, size=PLAIN) for backend in BACKENDS for mistake in dials if small]
    log(f"{len(trials)} trials, and {len(plain)} dials turned so far that it shows")
    try_all(interpreters, trials + plain)
    one = {trial: trial.size / trial.share() for trial in plain}
    turned = [trial.turned(LARGER * size, sought=True) for trial, size in one.items()]
    turned += [trial.turned(SMALLER * size, sought=False) for trial, size in one.items()]
    if turned:
        log("each dial so far that it is just found, and just not")
        try_all(interpreters, turned)
    rows = [trial.judged() for trial in trials + turned]
    write(POWER, "sensitivity", sensitivity([row for row in rows if row["kind"] == SMALL]))
    write(POWER, "power", [{name: value for name, value in row.items() if name != "quantity"} for row in rows])
    wrong = [row for row in rows if not row["as_expected"]]
    for row in wrong:
        found = f"{row['backend']}, {row['mistake']} {row['size']}: named {row['rung']}: {row['named']}"
        log(f"{found}, expected {row.get('expected', 'nothing')}")
    log(f"{len(rows) - len(wrong)} of {len(rows)} trials as expected; {POWER / 'power.csv'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run(app)

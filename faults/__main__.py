"""What befalls files and processes, and that nothing of it passes unseen.

python -m faults --interpreter gluon=PYTHON --interpreter deepspeed=PYTHON

Writes ``results/faults/faults.csv``: damaged inputs to every reader, simulated losses of power, kills. Status 1 when a
result was wrong, a traceback came for a sentence, or something hung.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from compare.conductor import INTERPRETER_HELP, interpreters_of
from compare.tables import COLUMNS, write
from faults.power_loss import lose_power
from faults.readers import attack
from faults.subjects import subjects
from protocol.backends import BACKENDS
from protocol.base.log import log
from protocol.command import run

FAULTS = Path("results/faults")
BROKEN = ("wrong", "traceback", "hang")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def kill(backend: str, interpreter: str, count: int, folder: Path) -> dict[str, Any]:
    """A row of ``faults.csv``: runs of a backend killed at least ``count`` times."""
    folder.mkdir()
    command = [interpreter, "-m", "faults.kills", backend, str(count), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    hits = int(done.stdout or count)
    row = {"what": f"runs of {backend}", "fault": "kill -9", "tried": hits}
    return row | ({"same": hits} if done.returncode == 0 else {"wrong": 1})


@app.command()
def main(
    interpreter: Annotated[list[str], typer.Option(help=INTERPRETER_HELP, metavar="BACKEND=PYTHON")],
    inputs: Annotated[int, typer.Option(help="Damaged inputs to each reader.")] = 10_000,
    kills: Annotated[int, typer.Option(help="Kills of each backend's runs.")] = 100,
) -> None:
    """Damage what is read, cut the power, kill what runs: each is refused, or ends as if nothing had been."""
    interpreters, rows = interpreters_of(interpreter), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as scratch:
        for subject in subjects(Path(scratch) / "readers"):
            rows += attack(subject, inputs)
            log(f"{subject.name}: {inputs} inputs")
        rows.append(lose_power(Path(scratch) / "power"))
        log(f"power lost {rows[-1]['tried']} times")
        for backend in BACKENDS:
            if kills and backend in interpreters:
                rows.append(kill(backend, interpreters[backend], kills, Path(scratch) / backend))
                log(f"{backend}: {rows[-1]['tried']} kills")
    write(FAULTS, "faults", [dict.fromkeys(COLUMNS["faults"], "") | row for row in rows])
    broken = [row for row in rows if any(row.get(outcome) for outcome in BROKEN)]
    for row in broken:
        log(f"{row['what']}, {row['fault']}: {', '.join(f'{row.get(name, 0)} {name}' for name in BROKEN)}")
    log(f"{sum(row['tried'] for row in rows)} faults, {len(broken)} kinds of them not held; {FAULTS / 'faults.csv'}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    run(app)

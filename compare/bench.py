"""Run every placement, the peers and the machine's limit in turn, several times: all meet the same machine.

nox -s bench
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from compare.conductor import MODULES, display
from protocol.errors import Misuse
from protocol.profiles import NAMED
from protocol.record import log, read_record, write_table

BATCH, STEPS, REPEATS = 128, 3, 3
PEERS = {
    "torch-eager": "deepspeed",
    "torch-compiled": "deepspeed",
    "mxnet-stock": "gluon",
    "deepspeed-default-cut": "deepspeed",
}
LOWERED = ("single", "columns")  # placements also timed in bf16
SAMPLE_COLUMNS = ("backend", "placement", "precision", "batch", "threads", "repeat", "seconds")
PHASE_COLUMNS = ("backend", "placement", "precision", "repeat", "device", "phase", "step", "seconds")
LIMIT_COLUMNS = ("repeat", "fp32", "bf16", "copy")


@dataclass(frozen=True)
class Contender:
    """A backend in one placement, or a peer with a number of threads."""

    name: str
    placement: str = ""
    threads: int = 0
    precision: str = "fp32"

    @property
    def title(self) -> str:
        return f"{self.name} {self.placement or f'with {self.threads} threads'} {self.precision}"

    def run(self, interpreters: dict[str, str], data: Path, out: Path) -> Iterator[dict[str, Any]]:
        """Train for some steps; yield a sample for each."""
        row = {"backend": self.name, "placement": self.placement, "precision": self.precision, "batch": BATCH}
        if self.name in PEERS:
            found = peer(self.name, interpreters, self.threads)
            threads, seconds = self.threads, found["seconds"]
        else:
            command = [interpreters[self.name], "-m", MODULES[self.name], "bench", "--case", "full"]
            command += ["--placement", self.placement, "--batch", str(BATCH), "--steps", str(STEPS)]
            command += ["--precision", self.precision]
            _output([*command, "--data", str(data), "--out", str(out)], {})
            timings = pd.read_csv(out / "timings.csv")
            threads = read_record(out).threads
            seconds = timings.loc[timings["phase"] == "step", "seconds"].tolist()
        for value in seconds:
            yield {**row, "threads": threads, "seconds": value}


def peer(name: str, interpreters: dict[str, str], threads: int) -> dict[str, Any]:
    """What a peer's script prints."""
    script = Path("peers") / f"{name.replace('-', '_')}.py"
    command = [interpreters[PEERS[name]]]
    if name == "deepspeed-default-cut":
        command += ["-m", "deepspeed.launcher.runner", "--quiet", "--num_gpus", "2", "--no_local_rank"]
    output = _output([*command, str(script), str(BATCH), str(STEPS)], {"OMP_NUM_THREADS": str(threads)})
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def limit(interpreters: dict[str, str]) -> dict[str, Any]:
    """The machine's rates: products of matrices in floating-point operations a second, copies in bytes a second."""
    threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    return json.loads(_output([interpreters["deepspeed"], "peers/limit.py"], threads))


def _output(command: list[str], environment: dict[str, str]) -> str:
    """What ``command`` prints.

    Raises:
        Misuse: it failed.
    """
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise Misuse(f"{' '.join(command[1:4])} failed with status {done.returncode}; it last said: {last[0]}")
    return done.stdout


def contenders(interpreters: dict[str, str]) -> list[Contender]:
    """All that can run here, the peers once for each number of threads to try."""
    cores = os.cpu_count() or 1
    found = [Contender(name, place) for name, places in NAMED.items() if name in interpreters for place in places]
    if "deepspeed" in interpreters:
        found += [Contender("deepspeed", placement, precision="bf16") for placement in LOWERED]
    for name, backend in PEERS.items():
        if backend in interpreters:
            found += [Contender(name, threads=threads) for threads in sorted({max(1, cores // 2), cores})]
    return found


def best(tried: list[Contender], samples: list[dict[str, Any]]) -> list[Contender]:
    """The backends' placements, and each peer with the number of threads that served it best."""
    median = pd.DataFrame(samples).groupby(["backend", "threads"])["seconds"].median()
    found: dict[Contender, Contender] = {}
    for contender in tried:
        anyhow = replace(contender, threads=0)
        known = found.setdefault(anyhow, contender)
        if contender.threads and median[contender.name, contender.threads] < median[known.name, known.threads]:
            found[anyhow] = contender
    return list(found.values())


def measure(interpreters: dict[str, str], data: Path, target: Path) -> None:
    """Run all in turn, and write ``samples.csv``, ``phase_samples.csv`` and ``limit.csv`` to ``target``.

    Raises:
        Misuse: one of them failed, or there is no DeepSpeed environment.
    """
    if "deepspeed" not in interpreters:
        raise Misuse("the bench measures the machine's limit in the deepspeed environment: --deepspeed names none")
    left = contenders(interpreters)
    total = len(left) + (REPEATS - 1) * len({replace(contender, threads=0) for contender in left})
    samples: list[dict[str, Any]] = []
    phases: list[dict[str, Any]] = []
    limits: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, display(total) as progress:
        bar = progress.add_task("", total=total)
        for repeat in range(REPEATS):
            limits.append({"repeat": repeat, **limit(interpreters)})
            for contender in left:
                progress.update(bar, description=f"round {repeat + 1} of {REPEATS}: {contender.title}")
                if not progress.console.is_terminal:
                    log(f"[{len(samples) // STEPS + 1}/{total}] round {repeat + 1}: {contender.title}")
                out = Path(scratch) / f"{repeat}-{contender.title.replace(' ', '-')}"
                samples += [{**row, "repeat": repeat} for row in contender.run(interpreters, data, out)]
                if contender.placement:
                    phases += _phases(contender, repeat, out)
                progress.advance(bar)
            left = best(left, samples)
            # After each round, so that a failure in a later one loses nothing.
            target.mkdir(parents=True, exist_ok=True)
            write_table(target / "samples.csv", SAMPLE_COLUMNS, samples)
            write_table(target / "phase_samples.csv", PHASE_COLUMNS, phases)
            write_table(target / "limit.csv", LIMIT_COLUMNS, limits)


def _phases(contender: Contender, repeat: int, out: Path) -> list[dict[str, Any]]:
    """How long each device spent in each phase of each step."""
    where = {"backend": contender.name, "placement": contender.placement, "precision": contender.precision}
    rows = pd.read_csv(out / "timings.csv").to_dict("records")
    return [{**where, "repeat": repeat, **row} for row in rows if row["phase"] != "step"]

"""Run every placement, the peers and the machine's limit in turn, several times: all meet the same machine.

nox -s bench
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from compare.conductor import display, module_of
from compare.limit import limit, printed
from compare.load import read_csv
from protocol.backends import BACKENDS, DEEPSPEED, GLUON
from protocol.base.errors import Misuse
from protocol.base.files import write_text
from protocol.base.log import log
from protocol.base.provenance import current_commit, processor_name
from protocol.base.tables import write_table
from protocol.placement.grid import Grid
from protocol.runs.record import read_record

BATCH, STEPS, REPEATS = 128, 3, 3
PEERS = {
    "torch-eager": DEEPSPEED.name,
    "torch-compiled": DEEPSPEED.name,
    "mxnet-stock": GLUON.name,
    "deepspeed-default-cut": DEEPSPEED.name,
}
PRECISE_PEERS = ("torch-eager", "torch-compiled")  # which run on a GPU too, and in other precisions
LOWERED = ("single", "columns", "stages")  # placements also timed in bf16, by a backend that has it
VARIANTS = ("half", "merged")  # also timed, on one device, for the scaling model
BASELINE = "two_column"
WHO = ("backend", "placement", "variant", "precision")
SAMPLE_COLUMNS = (*WHO, "batch", "micro_batch", "stages", "threads", "repeat", "seconds")
PHASE_COLUMNS = (*WHO, "repeat", "device", "phase", "step", "seconds")
MEMORY_COLUMNS = (*WHO, "batch", "micro_batch", "device", "kind", "predicted_bytes", "measured_bytes", "method")
TIMELINE_COLUMNS = (*WHO, "micro_batches", "device", "doing", "start", "seconds")
LAYER_COLUMNS = (*WHO, "repeat", "layer", "seconds")
FEED_COLUMNS = ("backend", "repeat", "images_per_second", "augmented_by")
MACHINE = "machine.json"
LIMIT_COLUMNS = ("repeat", "fp32", "tf32", "bf16", "copy", "link")


Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Contender:
    """A backend in one placement, or a peer with a number of threads. ``threads``: 0 leaves them to the backend."""

    name: str
    placement: str = ""
    threads: int = 0
    precision: str = "fp32"
    variant: str = BASELINE

    @property
    def title(self) -> str:
        threads = f"with {self.threads} threads" if self.threads else ""
        return " ".join(filter(None, (self.name, self.placement, self.variant, self.precision, threads)))

    @property
    def layered(self) -> bool:
        """Whether its layers are timed by themselves too."""
        return self.placement == "single" and self.variant == BASELINE and not self.threads

    @property
    def who(self) -> dict[str, str]:
        return {
            "backend": self.name,
            "placement": self.placement,
            "variant": self.variant,
            "precision": self.precision,
        }

    def run(
        self, interpreters: dict[str, str], data: Path, out: Path, device: str, steps: int
    ) -> Iterator[dict[str, Any]]:
        """Train for some steps on the processor or, in one process, on a GPU; yield a sample for each."""
        row = {**self.who, "batch": BATCH, "micro_batch": BATCH, "stages": "", "threads": self.threads}
        if self.name in PEERS:
            seconds = peer(self, interpreters, device, steps)["seconds"]
        else:
            command = [interpreters[self.name], "-m", module_of(self.name), "bench", "--case", "full"]
            command += ["--placement", self.placement, "--batch", str(BATCH), "--steps", str(steps)]
            command += ["--devices", "gpu:0"] if device == "cuda" else []
            command += ["--precision", self.precision, "--variant", self.variant]
            command += ["--layers"] if self.layered else []
            environment = {"OMP_NUM_THREADS": str(self.threads)} if self.threads else {}
            printed([*command, "--data", str(data), "--out", str(out)], environment)
            record, timings = read_record(out), read_csv(out / "timings.csv")
            row |= {"threads": record.threads, "micro_batch": record.result["micro_batch"]}
            row["stages"] = " ".join(record.result["stages"])
            seconds = timings.loc[timings["phase"] == "step", "seconds"].tolist()
        for value in seconds:
            yield {**row, "seconds": value}


def peer(contender: Contender, interpreters: dict[str, str], device: str, steps: int) -> dict[str, Any]:
    """What a peer's script prints."""
    script = Path("peers") / f"{contender.name.replace('-', '_')}.py"
    command = [interpreters[PEERS[contender.name]]]
    if contender.name == "deepspeed-default-cut":
        command += ["-m", "deepspeed.launcher.runner", "--quiet", "--num_gpus", "2", "--no_local_rank"]
    command += [str(script), str(BATCH), str(steps)]
    if contender.name in PRECISE_PEERS:
        command += [device, contender.precision]
    output = printed(command, {"OMP_NUM_THREADS": str(contender.threads)} if contender.threads else {})
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def machine(gpu: str = "") -> str:
    """What runs a bench or a ladder, and since when, as ``machine.json`` has it."""
    found = {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "commit": current_commit(),
        "started": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    return json.dumps(found | ({"gpu": gpu} if gpu else {}), indent=1) + "\n"


def feeding(interpreter: str, data: Path) -> dict[str, Any]:
    """Augmented images a second that one thread makes from the store, and what augments them."""
    return json.loads(printed([interpreter, "-m", "protocol", "feed", "--data", str(data)], {"OMP_NUM_THREADS": "1"}))


def contenders(interpreters: dict[str, str], *, lowered: bool) -> list[Contender]:
    """All that can run here, the peers once for each number of threads to try; ``lowered``: in bf16 too."""
    cores = os.cpu_count() or 1
    ours = [backend for name, backend in BACKENDS.items() if name in interpreters]
    found = [Contender(backend.name, place) for backend in ours for place in backend.placements]
    for backend in ours:
        if lowered and "bf16" in backend.precisions:
            found += [Contender(backend.name, place, precision="bf16") for place in LOWERED]
    for name, needs in PEERS.items():
        if needs in interpreters:
            found += [Contender(name, threads=threads) for threads in sorted({max(1, cores // 2), cores})]
    return found


def scaled(interpreters: dict[str, str]) -> list[Contender]:
    """What only the scaling model asks for, once: one core alone, and networks of other widths."""
    found = []
    for name in BACKENDS:
        if name in interpreters:
            found.append(Contender(name, "single", threads=1))
            found += [Contender(name, "single", variant=variant) for variant in VARIANTS]
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


@dataclass
class Collected:
    """What was measured so far, table by table; ``results/README.md`` says what each holds."""

    here: str
    samples: Rows = field(default_factory=list)
    phases: Rows = field(default_factory=list)
    memory: Rows = field(default_factory=list)
    timeline: Rows = field(default_factory=list)
    layers: Rows = field(default_factory=list)
    limits: Rows = field(default_factory=list)
    feeds: Rows = field(default_factory=list)

    def add(self, contender: Contender, repeat: int, samples: Rows, out: Path, *, whole: bool) -> None:
        """Take what a contender's steps left; ``whole``: beyond their samples, and beyond the first round's memory."""
        own = [{**row, "repeat": repeat} for row in samples]
        self.samples += own
        if contender.placement and whole:
            self.phases += _phases(contender, repeat, out)
            self.layers += _rows(contender, out / "layers.csv", own[0], LAYER_COLUMNS)
        if contender.placement and repeat == 0:
            self.memory += _rows(contender, out / "memory.csv", own[0], MEMORY_COLUMNS)
            self.timeline += _rows(contender, out / "timeline.csv", own[0], TIMELINE_COLUMNS)

    def write(self, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / MACHINE, self.here)
        write_table(target / "samples.csv", SAMPLE_COLUMNS, self.samples)
        write_table(target / "phase_samples.csv", PHASE_COLUMNS, self.phases)
        write_table(target / "memory.csv", MEMORY_COLUMNS, self.memory)
        write_table(target / "timeline.csv", TIMELINE_COLUMNS, self.timeline)
        write_table(target / "layer_samples.csv", LAYER_COLUMNS, self.layers)
        write_table(target / "feed.csv", FEED_COLUMNS, self.feeds)
        write_table(target / "limit.csv", LIMIT_COLUMNS, self.limits)


def measure(interpreters: dict[str, str], data: Path, target: Path) -> None:
    """Run all in turn, and write what they and the machine did to ``target``; ``results/README.md`` says which tables.

    Raises:
        Misuse: one of them failed, or there is no DeepSpeed environment.
    """
    if DEEPSPEED.name not in interpreters:
        raise Misuse(f"the bench measures the machine's limit by torch: name --interpreter {DEEPSPEED.name}=PYTHON")
    rates = limit(interpreters)
    left, once = contenders(interpreters, lowered="bf16" in rates), scaled(interpreters)
    total = len(left) + len(once) + (REPEATS - 1) * len({replace(contender, threads=0) for contender in left})
    found, done = Collected(machine()), 0
    with tempfile.TemporaryDirectory() as scratch, display(total) as progress:
        bar = progress.add_task("", total=total)
        for repeat in range(REPEATS):
            found.limits.append({"repeat": repeat, **(limit(interpreters) if repeat else rates)})
            for name in BACKENDS:
                if name in interpreters:
                    found.feeds.append({"backend": name, "repeat": repeat, **feeding(interpreters[name], data)})
            for contender in left if repeat else [*left, *once]:
                done += 1
                log(f"[{done}/{total}] round {repeat + 1} of {REPEATS}: {contender.title}")
                out = Path(scratch) / f"{repeat}-{contender.title.replace(' ', '-')}"
                samples = list(contender.run(interpreters, data, out, "cpu", STEPS))
                found.add(contender, repeat, samples, out, whole=contender in left)
                progress.advance(bar)
            left = best(left, found.samples)
            # After each round, so that a failure in a later one loses nothing.
            found.write(target)


def _phases(contender: Contender, repeat: int, out: Path) -> list[dict[str, Any]]:
    """How long each device spent in each phase of each step."""
    rows = read_csv(out / "timings.csv").to_dict("records")
    return [{**contender.who, "repeat": repeat, **row} for row in rows if row["phase"] != "step"]


def _rows(contender: Contender, path: Path, sample: dict[str, Any], columns: tuple[str, ...]) -> Rows:
    """The rows of a run's table, if it has one, with whose they are."""
    if not path.is_file():
        return []
    batch, micro = sample["batch"], sample["micro_batch"]
    count = batch // Grid.parse(contender.placement).replicas // micro
    where = {**contender.who, "repeat": sample["repeat"], "batch": batch, "micro_batch": micro, "micro_batches": count}
    table = read_csv(path)
    found = [{**where, **row} for row in table.astype(object).where(table.notna(), None).to_dict("records")]
    return [{name: row[name] for name in columns} for row in found]

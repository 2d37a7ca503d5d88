"""A training run in progress, as its folder sees it: claimed, logged, saved, resumed, ended."""

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from paper.architecture import Network
from protocol import probe, state
from protocol.errors import Misuse
from protocol.experiment import Experiment, open_experiment
from protocol.probe import Reading
from protocol.record import (
    EPOCH_COLUMNS,
    LAYER_COLUMNS,
    MEMORY_COLUMNS,
    STEP_COLUMNS,
    TIMELINE_COLUMNS,
    TIMING_COLUMNS,
    Record,
    log,
    read_record,
    write_record,
    write_table,
)
from protocol.reference import Arrays
from protocol.request import Request

BENCH_STEPS = 5  # that a bench times unless told
PATIENCE = 20.0  # seconds that a killed run's other processes have to notice and let go of the folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other processes; the claim falls with the process.

    Raises:
        Misuse: another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".claim").open("w") as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Misuse(f"another process is working in {folder}") from None
                time.sleep(0.2)
        yield


class Run:
    """Logs a run's steps and epochs and keeps its record; rows are saved with the state, so a resumed run has all."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder, self.record = folder, record
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.ladder: list[dict[str, Any]] = []
        self.kept: Arrays = {}
        self.started = time.monotonic()

    def resume(self, latest: Path | None, *, write: bool = True) -> int:
        """Take up the rows of ``latest`` (or none) and return the step to go on from.

        ``write``: this process keeps the record and clears the folder of what a killed run left half-written.
        """
        start = 0
        if latest is not None:
            progress = state.read_progress(latest)
            self.steps, self.epochs, start = progress.steps, progress.epochs, progress.step
            self.record.history = progress.history
        here = {"backend": self.record.backend, "placement": self.record.placement}
        if not self.record.history or here != {name: self.record.history[-1][name] for name in here}:
            self.record.history.append({**here, "step": start})
        if write:
            if latest is None:
                state.discard_states(self.folder)
            state.discard_drafts(self.folder)
            write_record(self.folder, self.record)
        return start

    def log_steps(self, experiment: Experiment, rows: list[tuple[int, float, float]], seconds: float) -> None:
        """Log (step, loss, share of wrong first guesses) of steps that took ``seconds`` together."""
        speed = round(experiment.case.batch * len(rows) / seconds, 2)
        for step, loss, error in rows:
            epoch = step // experiment.steps_per_epoch
            rate = experiment.rate(step)
            self.steps.append(
                {"step": step, "epoch": epoch, "loss": loss, "error": error, "rate": rate, "images_per_second": speed}
            )

    def log_epoch(self, experiment: Experiment, epoch: int, errors: dict[str, Any], *, views: int) -> None:
        """Log an epoch's training loss and error, as seen in training, beside its test errors."""
        rows = [row for row in self.steps if row["epoch"] == epoch]
        loss, error = (sum(row[key] for row in rows) / len(rows) for key in ("loss", "error"))
        self.epochs.append({"epoch": epoch, "train_loss": loss, "train_error": error, **errors, "views": views})
        log(
            f"{self.record.backend} {experiment.case.name} epoch {epoch + 1}/{experiment.case.epochs}: "
            f"training loss {loss:.3f}, test error {errors['top1_error']:.1%} ({views} view{'s' * (views > 1)}), "
            f"{rows[-1]['images_per_second']:.0f} images/s"
        )

    def publish(self, step: int) -> None:
        """Publish the state after ``step`` steps, whose shards have been written, and refresh the tables."""
        progress = state.Progress(
            step=step,
            seed=self.record.seed,
            plan_hash=self.record.plan_hash,
            steps=self.steps,
            epochs=self.epochs,
            history=self.record.history,
        )
        state.publish(self.folder, progress)
        self.write_tables()

    def write_tables(self) -> None:
        write_table(self.folder / "steps.csv", STEP_COLUMNS, self.steps)
        write_table(self.folder / "epochs.csv", EPOCH_COLUMNS, self.epochs)
        write_table(self.folder / "timings.csv", TIMING_COLUMNS, self.timings)

    def finish(self, weights: Mapping[str, np.ndarray] | None = None) -> None:
        if weights is not None:
            save_file(dict(weights), self.folder / "weights.safetensors")
            save_file({"conv1.weight": weights["conv1.weight"]}, self.folder / "features.safetensors")
        self.write_tables()
        self.end("finished")

    def log_reading(self, reading: Reading, seen: Arrays, oracle: Path, experiment: Experiment) -> None:
        """Log how far ``seen`` is from the oracle's run, and keep samples of it to compare backends by."""
        expected = probe.each_tensor(oracle / "tensors.safetensors")
        found = probe.distances(seen, expected, experiment.weights(), imposed=reading.imposed)
        self.ladder += probe.rows(reading, found)
        self.kept |= probe.samples(reading, seen)

    def finish_parity(self) -> None:
        write_table(self.folder / "ladder.csv", probe.LADDER_COLUMNS, self.ladder)
        probe.save_tensors(self.folder / "probe.safetensors", self.kept)
        self.end("finished")

    def finish_bench(
        self,
        memory: list[dict[str, Any]],
        rows: list[dict[str, Any]],
        timeline: list[dict[str, Any]] | None = None,
        layers: dict[str, float] | None = None,
    ) -> None:
        """Keep a bench run's memory and timing samples; ``images_per_second`` is the median step's.

        ``timeline``: who did what when in the last step. ``layers``: seconds of a step by layer.
        """
        self.timings = rows
        write_table(self.folder / "memory.csv", MEMORY_COLUMNS, memory)
        write_table(self.folder / "timings.csv", TIMING_COLUMNS, rows)
        if timeline:
            write_table(self.folder / "timeline.csv", TIMELINE_COLUMNS, timeline)
        if layers:
            own = [{"layer": name, "seconds": seconds} for name, seconds in layers.items()]
            write_table(self.folder / "layers.csv", LAYER_COLUMNS, own)
        steps = sorted(row["seconds"] for row in rows if row["phase"] == "step")
        self.record.result["images_per_second"] = self.record.case["batch"] / median(steps)
        self.end("finished")

    def end(self, status: Any, reason: str = "") -> None:
        self.record.status, self.record.reason = status, reason
        self.record.seconds = round(self.record.seconds + time.monotonic() - self.started, 2)
        write_record(self.folder, self.record)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write how the block ends into the record: interrupted, out of memory, failed."""
        try:
            yield
        except KeyboardInterrupt:
            self.end("interrupted")
            raise
        except MemoryError:
            self.end("out_of_memory")
            raise
        except Exception as error:
            self.end("failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            raise


def note_interruption(folder: Path, since: float) -> None:
    """Say in the record that its run, of several processes ended in turn, was stopped; ``since``: when it began.

    The one that keeps the record may have been ended before it could, or have taken another's end for a failure.
    """
    try:
        record = read_record(folder)
        own = (folder / "record.json").stat().st_mtime >= since
    except Misuse:
        return
    if own and record.status in ("running", "failed"):
        record.status = "interrupted"
        write_record(folder, record)


def bench_length(experiment: Experiment, beside: int, asked: int | None) -> int:
    """How many steps a bench times, where it takes ``beside`` more.

    Raises:
        Misuse: the case has too few.
    """
    left = experiment.total_steps - beside
    if left < 1:
        raise Misuse(
            f"case {experiment.case.name} has {experiment.total_steps} steps of {experiment.case.batch} images, and a "
            f"bench needs {beside + 1}: ask for a smaller --batch or more --epochs"
        )
    return min(left, asked or BENCH_STEPS)


def latest_state(folder: Path, experiment: Experiment, resume: bool) -> Path | None:
    """The state to go on from, if there is one and ``resume`` asks for it.

    Raises:
        Misuse: the state belongs to another experiment (other data, case or seed), or is damaged.
    """
    finished = state.states(folder)
    if not resume or not finished:
        return None
    progress = state.read_progress(finished[-1])
    if progress.plan_hash != experiment.plan_hash():
        raise Misuse(f"{finished[-1]} belongs to another experiment (other data, case or seed): choose another --out")
    state.read_tensors(finished[-1], {})
    return finished[-1]


def saved_weights(folder: Path, network: Network) -> dict[str, np.ndarray]:
    """The weights of a finished run.

    Raises:
        Misuse: there are none, or they belong to another network.
    """
    if not (folder / "weights.safetensors").is_file():
        raise Misuse(f"there are no weights in {folder}; train first, or name a run's folder with --out")
    return state.read_tensors(folder, network.parameter_shapes())


def oracle_of(request: Request) -> Path:
    """The folder of the oracle that a parity run is compared with.

    Raises:
        Misuse: none was named, it carried out another experiment, or what it found is not there; or parity is asked for
            in a precision that it has no reading of.
    """
    if request.precision == "bf16":
        raise Misuse(
            "parity takes its readings in fp64 and fp32; bf16 is held to fp32 by: nox -s ladder -- --rung accuracy"
        )
    if request.oracle is None:
        raise Misuse("parity needs the oracle's folder: --oracle results/runs/oracle/ladder/single/seed0")
    experiment = open_experiment(request.case, request.data, request.seed)
    if read_record(request.oracle).plan_hash != experiment.plan_hash():
        raise Misuse(
            f"{request.oracle} is of another experiment (other data, case or seed): the two have no common truth"
        )
    for name in ("tensors", "choices"):
        probe.check_tensors(request.oracle / f"{name}.safetensors")
    return request.oracle


def check_folders(verb: str, request: Request, experiment: Experiment) -> None:
    """Refuse, before anything is started, what ``verb`` would refuse in the folders that it reads.

    Raises:
        Misuse: a folder lacks what is needed, is damaged, or belongs to another experiment.
    """
    if verb == "train":
        latest_state(request.out, experiment, request.resume)
    elif verb == "evaluate":
        saved_weights(request.out, experiment.network)
    elif verb == "parity":
        oracle_of(request)

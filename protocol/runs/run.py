"""A training run in progress, as its folder sees it: claimed, logged, saved, resumed, ended."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite, prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from paper.architecture import Network
from protocol.base.errors import Diverged, Misuse, of_the_system
from protocol.base.files import is_own, locked, sweep
from protocol.base.log import log
from protocol.base.sealed import Damaged
from protocol.base.tables import write_table
from protocol.base.tensors import each_tensor, read_tensors, save_tensors
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle import literal, own_choices, quantities
from protocol.oracle.network import Arrays
from protocol.oracle.quantities import Reading
from protocol.runs import state
from protocol.runs.rate import BY_HAND
from protocol.runs.record import (
    EPOCH_COLUMNS,
    LAYER_COLUMNS,
    MEMORY_COLUMNS,
    STEP_COLUMNS,
    TIMELINE_COLUMNS,
    TIMING_COLUMNS,
    Record,
    Status,
    check_file,
    kept_files,
    read_record,
    write_record,
)
from protocol.runs.request import EvaluateRequest, ParityRequest, PlacedRequest, TrainRequest

BENCH_STEPS = 5  # that a bench times unless told
PATIENCE = 20.0  # seconds that a killed run's other processes have to notice and let go of the folder
SPEAK_EVERY = 10.0  # seconds between two lines of progress
AT_THE_END = ("predictions.safetensors", "weights.safetensors", "features.safetensors", "ladder.csv")  # left by a run


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other processes; the claim falls with the process.

    Raises:
        Misuse: another process works in it, or it is no folder of a run's.
    """
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".claim", f"another process is working in {folder}", PATIENCE):
        yield


def check_out(folder: Path) -> None:
    """See that a run can be written to ``folder``, and that nothing else stands there.

    Raises:
        Misuse: it is a file or below one, or holds what no run of this project wrote.
    """
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise Misuse(f"--out {folder} cannot be a run's folder: {above} is a file")
    # The claim comes first into a run's folder: looked for last, it is there when anything is, also while ranks begin.
    if folder.is_dir() and any(folder.iterdir()) and not _is_a_runs(folder):
        raise Misuse(
            f"--out {folder} holds what no run of this project wrote: name a folder that is new or a run's own"
        )


def _is_a_runs(folder: Path) -> bool:
    return (folder / ".claim").is_file() or is_own(folder / "record.json")


class Run:
    """Logs a run's steps and epochs and keeps its record; rows are saved with the state, so a resumed run has all.

    ``speaks``: of several processes that carry the run out, this one says how far it is. ``keeps``: how many states.
    """

    def __init__(self, folder: Path, record: Record, *, speaks: bool = True, keeps: int = state.KEPT) -> None:
        self.folder, self.record, self.speaks, self.keeps = folder, record, speaks, keeps
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.ladder: list[dict[str, Any]] = []
        self.kept: Arrays = {}
        self.started = self.spoke = time.monotonic()

    def resume(self, latest: Path | None, *, fallen: int | None = None, write: bool = True) -> int:
        """Take up the rows of ``latest`` (or none) and return the step to go on from.

        ``fallen``: how often the rate has fallen by hand from there on, where it is not as before.

        ``write``: this process keeps the record and clears the folder of what a killed run left half-written.
        """
        start = 0
        if latest is not None:
            progress = state.read_progress(latest)
            self.steps, self.epochs, start = progress.steps, progress.epochs, progress.step
            self.record.history = progress.history
        before = self.record.history[-1] if self.record.history else {}
        here: dict[str, Any] = {"backend": self.record.backend, "placement": self.record.placement}
        if by_hand := before.get(BY_HAND, 0) if fallen is None else fallen:
            here[BY_HAND] = by_hand
        if here != {name: value for name, value in before.items() if name != "step"}:
            self.record.history.append({**here, "step": start})
        if write:
            state.discard_states(self.folder, after=start)
            state.discard_drafts(self.folder)
            sweep(self.folder)
            write_record(self.folder, self.record)
            if latest is None:
                # Of a run that was there before, whose record said that it is whole until now.
                for name in AT_THE_END:
                    (self.folder / name).unlink(missing_ok=True)
        return start

    def log_steps(self, experiment: Experiment, rows: list[tuple[int, float, float, float]], seconds: float) -> None:
        """Log (step, rate, loss, share of wrong first guesses) of steps that took ``seconds`` together.

        Raises:
            Diverged: a loss is no number.
        """
        speed = round(experiment.case.batch * len(rows) / seconds, 2)
        for step, rate, loss, error in rows:
            epoch = step // experiment.steps_per_epoch
            self.steps.append(
                {"step": step, "epoch": epoch, "loss": loss, "error": error, "rate": rate, "images_per_second": speed}
            )
            if not isfinite(loss):
                said = f"the loss of step {step} is no number: the run has diverged; what was saved before is kept"
                raise Diverged(f"{said} in {self.folder}" if self.speaks else "")
        if self.speaks and time.monotonic() - self.spoke >= SPEAK_EVERY:
            self._say(experiment, speed)

    def _say(self, experiment: Experiment, speed: float) -> None:
        """How far the run is, and how long it will take at this speed, tests aside."""
        self.spoke = time.monotonic()
        last = self.steps[-1]
        left = (experiment.total_steps - last["step"] - 1) * experiment.case.batch / speed
        log(
            f"{self.record.backend} {experiment.case.name} step {last['step'] + 1}/{experiment.total_steps}, epoch "
            f"{last['epoch'] + 1}/{experiment.case.epochs}: loss {last['loss']:.3f}, {speed:.0f} images/s, about "
            f"{duration(left)} left"
        )

    def log_epoch(self, experiment: Experiment, epoch: int, errors: dict[str, Any], *, views: int) -> None:
        """Log an epoch's training loss and error, as seen in training, beside its test errors."""
        rows = [row for row in self.steps if row["epoch"] == epoch]
        loss, error = (sum(row[key] for row in rows) / len(rows) for key in ("loss", "error"))
        self.epochs.append({"epoch": epoch, "train_loss": loss, "train_error": error, **errors, "views": views})
        self.spoke = time.monotonic()
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
        state.publish(self.folder, progress, self.keeps)
        self.write_tables()

    def write_tables(self) -> None:
        write_table(self.folder / "steps.csv", STEP_COLUMNS, self.steps)
        write_table(self.folder / "epochs.csv", EPOCH_COLUMNS, self.epochs)
        write_table(self.folder / "timings.csv", TIMING_COLUMNS, self.timings)

    def finish(self, weights: Mapping[str, np.ndarray] | None = None) -> None:
        if weights is not None:
            save_tensors(self.folder / "weights.safetensors", weights)
            kernels = next(name for name in weights if name.endswith(".weight"))  # in the layers' order
            save_tensors(self.folder / "features.safetensors", {kernels: weights[kernels]})
        self.write_tables()
        self.end("finished")
        if self.speaks:
            log(f"finished: {self.folder}")

    def log_reading(self, reading: Reading, seen: Arrays, oracle: Path, experiment: Experiment) -> None:
        """Log how far ``seen`` is from the oracle's run, and keep samples of it to compare backends by."""
        expected = each_tensor(oracle / "tensors.safetensors")
        found = quantities.distances(seen, expected, experiment.weights(), reading)
        found |= literal.recount(experiment, seen)
        if reading == quantities.READINGS["free"]:
            found |= own_choices.backward(experiment, seen)
        self.ladder += quantities.rows(reading, found)
        self.record.result["outputs"] = quantities.outputs(seen)
        self.kept |= quantities.samples(reading, seen)

    def hold(self, oracle: Path, experiment: Experiment, last: Mapping[str, np.ndarray]) -> None:
        """Write how far this training run, in float64, is from the oracle's; ``last``: its weights and momentum."""
        seen = {f"loss.{row['step']}": np.array([row["loss"]]) for row in self.steps}
        seen |= {f"error.{row['step']}": np.array([row["error"]]) for row in self.steps}
        for name, value in last.items():
            seen[name if name.startswith("momentum.") else f"weight.{name}"] = value
        for row in self.epochs[-2:]:
            seen |= {f"top{count}.{row['views']}": np.array([row[f"top{count}_error"]]) for count in (1, 5)}
        expected = each_tensor(oracle / "tensors.safetensors")
        found = quantities.distances(seen, expected, experiment.weights(), quantities.RESUMED)
        self.record.result["readings"] = [quantities.RESUMED.name]
        write_table(self.folder / "ladder.csv", quantities.LADDER_COLUMNS, quantities.rows(quantities.RESUMED, found))

    def finish_parity(self) -> None:
        write_table(self.folder / "ladder.csv", quantities.LADDER_COLUMNS, self.ladder)
        save_tensors(self.folder / "probe.safetensors", self.kept)
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
        """Write how the run ended, last of all in its folder: a record never says more than is on the disk."""
        self.record.status, self.record.reason = status, reason
        self.record.seconds = round(self.record.seconds + time.monotonic() - self.started, 2)
        self.record.files = kept_files(self.folder) if status in ("finished", "diverged") else {}
        write_record(self.folder, self.record)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write how the block ends into the record: interrupted, diverged, out of memory, failed."""
        try:
            yield
        except KeyboardInterrupt:
            self.end("interrupted")
            raise
        except MemoryError:
            self.end("out_of_memory")
            raise
        except Diverged as diverged:
            self.write_tables()
            self.end("diverged", str(diverged))
            raise
        except Misuse as misuse:
            self.end("failed", str(misuse))
            raise
        except OSError as error:
            self.end("failed", of_the_system(error))
            raise
        except Exception as error:
            self.end("failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            raise


def note_end(folder: Path, since: float, status: Status, reason: str = "") -> None:
    """Say in the record how its run of several processes ended; ``since``: when it began.

    The one that keeps the record may have been ended before it could, or have taken another's end for a failure.
    """
    try:
        record = read_record(folder)
        own = (folder / "record.json").stat().st_mtime >= since
    except Misuse:
        return
    if own and record.status in ("running", "failed"):
        record.status, record.reason = status, reason or record.reason
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


def latest_state(folder: Path, experiment: Experiment, resume: bool, *, speaks: bool = False) -> Path | None:
    """The newest whole state to go on from, if there is one and ``resume`` asks for it.

    ``speaks``: this process says so where a newer one is damaged.

    Raises:
        Misuse: the state belongs to another experiment (other data, seed or flags), or all are damaged.
    """
    kept = state.states(folder)
    if not resume or not kept:
        return None
    damage: list[Damaged] = []
    for latest in reversed(kept):
        try:
            progress = state.read_progress(latest)
            state.check_shards(latest, progress)
        except Damaged as error:
            damage.append(error)
            continue
        if progress.plan_hash != experiment.plan_hash():
            raise Misuse(f"{latest} belongs to another experiment (other data, seed or flags): choose another --out")
        if damage and speaks:
            log(f"{damage[0]}; going on from step {progress.step}")
        return latest
    if len(damage) > 1:
        raise Damaged(f"all {len(damage)} states in {folder} are damaged ({damage[0]}); --no-resume starts anew")
    raise damage[0]


def has_diverged(request: TrainRequest, experiment: Experiment) -> bool:
    """Whether the run that was asked for has been carried out before, and diverged."""
    try:
        record = read_record(request.out)
    except Misuse:
        return False
    return request.resume and record.status == "diverged" and record.plan_hash == experiment.plan_hash()


def is_finished(request: TrainRequest, experiment: Experiment) -> bool:
    """Whether the run that was asked for has been carried out before, to its end, and is whole."""
    try:
        record = read_record(request.out)
    except Misuse:
        return False
    whole = not request.steps or request.steps >= experiment.total_steps
    if not (request.resume and whole and record.status == "finished" and record.plan_hash == experiment.plan_hash()):
        return False
    if "predictions.safetensors" not in record.files or record.precision != request.precision:
        return False
    for name in record.files:
        check_file(request.out, record, name)
    return True


def saved_weights(folder: Path, network: Network) -> dict[str, np.ndarray]:
    """The weights of a finished run.

    Raises:
        Misuse: there are none, they are damaged, or they belong to another network.
    """
    if not (folder / "weights.safetensors").is_file():
        raise Misuse(f"there are no weights in {folder}; train first, or name a run's folder with --out")
    found = read_tensors(check_file(folder, read_record(folder), "weights.safetensors"))
    for name, shape in network.parameter_shapes().items():
        if name not in found or found[name].shape != shape:
            raise Misuse(f"{folder} holds the weights of another network: {name} does not fit")
    return found


def check_oracle(request: TrainRequest | ParityRequest, oracle: Path) -> None:
    """See that the run can be compared with the oracle's in the folder ``oracle``, all of which is read once.

    Raises:
        Misuse: it is of another experiment, or what it found is damaged or not there.
    """
    record = read_record(oracle)
    if record.plan_hash != open_experiment(request.case, request.data, request.seed, request.start).plan_hash():
        raise Misuse(f"{oracle} is of another experiment (other data, seed or flags): the two have no common truth")
    for name in ("tensors.safetensors", "choices.safetensors"):
        if not (oracle / name).is_file():
            raise Misuse(f"{oracle} holds no {name}: python -m protocol oracle writes it anew")
        check_file(oracle, record, name)


def check_folders(request: PlacedRequest, experiment: Experiment) -> bool:
    """Refuse, before anything is started, what would be refused in the folders that are read and written.

    Returns whether anything is left to do: a run that was finished before is left as it is.

    Raises:
        Misuse: a folder lacks what is needed, is damaged, belongs to another experiment, or is no run's.
    """
    if isinstance(request, EvaluateRequest):
        if request.start is None:
            if (request.out / "record.json").is_file() and read_record(request.out).case.get("start"):
                raise Misuse(
                    f"{request.out} began with a model, whose mean it takes off images: make a model of it with nox -s "
                    "prepare -- export, and name that with --start"
                )
            saved_weights(request.out, experiment.network)
        return True
    check_out(request.out)
    if isinstance(request, TrainRequest):
        if is_finished(request, experiment):
            log(f"{request.out} is finished: nothing is left to do; --no-resume starts it anew")
            return False
        latest_state(request.out, experiment, request.goes_on, speaks=True)
        check_room(request, experiment)
        if request.oracle:
            if request.precision != "fp64":
                raise Misuse("a training run is held to the oracle in float64: train with --precision fp64")
            if request.fallen:
                raise Misuse("the oracle's rate does not fall by hand: leave out --fallen or --oracle")
            check_oracle(request, request.oracle)
    elif isinstance(request, ParityRequest):
        check_oracle(request, request.oracle)
    return True


def check_room(request: TrainRequest, experiment: Experiment) -> None:
    """See that there is room on the disk for the states that a run keeps at once, and its last weights.

    Raises:
        Misuse: there is not.
    """
    parameters = sum(prod(shape) for shape in experiment.network.parameter_shapes().values())
    # A state is weights and momentum; one more than are kept is there while it takes the place of the oldest.
    states = max(1, request.keep + 1 - len(state.states(request.out)))
    needed = parameters * np.dtype(request.dtype).itemsize * (2 * states + 1)
    there = next(folder for folder in (request.out, *request.out.absolute().parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        raise Misuse(
            f"{request.out} needs {needed / 1e9:.1f} GB for {request.keep} saved states, but its disk has "
            f"{free / 1e9:.1f} GB left"
        )


def duration(seconds: float) -> str:
    """A time to wait, in the unit that one would say it in."""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

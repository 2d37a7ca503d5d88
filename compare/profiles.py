"""What the audit runs: the jobs of a profile, in order, each a command line of one backend."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from paper.recipe import PRESETS
from protocol.backends import BACKENDS, DEEPSPEED, GLUON, Backend
from protocol.base.errors import Misuse
from protocol.experiment.cases import find_case, what
from protocol.oracle.quantities import RESUMED, TAKEN
from protocol.runs.record import Record
from protocol.runs.request import default_folder

# Runs that are stopped after so many of the ladder's five steps and go on elsewhere: the rate falls at the fourth, and
# each step ends an epoch.
STOPPED_AFTER = 2
Place = tuple[str, str]  # a backend and a placement
MOVES: tuple[tuple[Place, Place], ...] = (
    ((GLUON.name, "columns"), (DEEPSPEED.name, "stages")),
    ((DEEPSPEED.name, "columns"), (GLUON.name, "single")),
)
MORE_MOVES: tuple[tuple[Place, Place], ...] = (
    ((GLUON.name, "stages"), (GLUON.name, "columns")),
    ((DEEPSPEED.name, "single"), (DEEPSPEED.name, "columns=2,replicas=2")),
    ((GLUON.name, "replicas"), (DEEPSPEED.name, "columns")),
    ((DEEPSPEED.name, "stages"), (GLUON.name, "replicas")),
    ((GLUON.name, "single"), (DEEPSPEED.name, "replicas")),
)


@dataclass(frozen=True)
class Job:
    """``arguments`` follow the backend's name on its command line. ``seconds``: its usual length on two cores."""

    backend: str
    verb: str
    case: str
    seconds: int
    placement: str = "single"
    variant: str | None = None
    preset: str | None = None
    seed: int = 0
    extra: tuple[str, ...] = ()
    oracle: Path | None = None
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    label: str = ""
    into: Path | None = None  # another run's folder, that this one begins
    after: Path | None = None  # the folder that another job has to have begun

    @property
    def readings(self) -> tuple[str, ...]:
        """Those that a parity run takes."""
        if self.verb == "train":
            return (RESUMED.name,) if self.oracle else ()
        flag = "--readings"
        return tuple(self.extra[self.extra.index(flag) + 1].split(",")) if flag in self.extra else TAKEN

    @property
    def leaves(self) -> str:
        """A file that the job's run has in its folder when it has done all that was asked for."""
        if self.verb == "oracle":
            return "tolerances.csv"
        if self.verb == "train":
            return "ladder.csv" if self.oracle else "weights.safetensors" if "--steps" in self.extra else "epochs.csv"
        return {"parity": "ladder.csv", "bench": "timings.csv", "envelope": "envelope.csv"}[self.verb]

    @property
    def whole(self) -> bool:
        """Whether it trains to its case's end."""
        return self.verb == "train" and "--steps" not in self.extra

    @property
    def timed(self) -> bool:
        """Whether its speed is what it is run for."""
        return self.verb == "bench"

    @property
    def gib(self) -> float:
        """About how much memory it takes at the most."""
        full = find_case(self.case).size == "full"
        if self.backend == "oracle":
            return 7.5 if full else 1.0
        return 3.0 if full else 1.5

    @property
    def content(self) -> dict[str, Any]:
        """The case that its run carries out, as records have it."""
        told = dict(zip(self.extra[::2], self.extra[1::2], strict=True))
        case = find_case(self.case, variant=self.variant, preset_name=self.preset)
        batch, epochs = int(told.get("--batch", case.batch)), int(told.get("--epochs", case.epochs))
        return replace(case, batch=batch, epochs=epochs).content()

    def is_of(self, record: Record) -> bool:
        """Whether a record is of this job's own experiment; a folder's name does not say all of it."""
        return what(record.case) == what(self.content) and record.seed == self.seed

    @property
    def disk(self) -> float:
        """About how many GiB its folder takes, whole networks included, until they are not needed any more."""
        full = find_case(self.case).size == "full"
        if self.backend == "oracle":
            return 3.0 if full else 0.05
        return 0.5 if full and self.verb == "train" else 0.05

    @property
    def folder(self) -> Path:
        if self.into:
            return self.into
        case = find_case(self.case, variant=self.variant, preset_name=self.preset)
        folder = default_folder(self.backend, case, self.placement, self.seed, "fp32")
        return folder.with_name(f"{folder.name}{self.label}")

    @property
    def arguments(self) -> list[str]:
        named = [self.verb, "--case", self.case, "--seed", str(self.seed)]
        if self.backend != "oracle":
            named += ["--placement", self.placement]
        if self.variant:
            named += ["--variant", self.variant]
        if self.preset:
            named += ["--preset", self.preset]
        if self.oracle:
            named += ["--oracle", str(self.oracle)]
        return [*named, *self.extra, "--out", str(self.folder)]

    @property
    def title(self) -> str:
        words = [self.backend, self.verb if self.verb != self.backend else "", self.case, self.variant or ""]
        words += [self.preset or "", "" if self.backend == "oracle" else self.placement]
        words.append(f"seed {self.seed}" if self.seed else "")
        words.append("begun" if self.into else "resumed" if self.after else "")
        return " ".join(filter(None, words))


Places = Callable[[Backend], tuple[str, ...]]  # which placements of a backend


def _parity(
    oracle: Job,
    backends: tuple[str, ...],
    seconds: int,
    readings: str = "",
    placements: Places = attrgetter("compared_placements"),
) -> list[Job]:
    """The oracle, and each backend's placements after it; ``readings``: not all of them."""
    chosen = ("--readings", readings) if readings else ()
    label = f"-{readings.replace(',', '-')}" if readings else ""
    jobs = [oracle]
    for backend in backends:
        for placement in placements(BACKENDS[backend]):
            network = find_case(oracle.case, variant=oracle.variant, preset_name=oracle.preset).network()
            if "columns" in placement and (network.columns == 1 or network.norm_spans_columns):
                continue
            own = replace(oracle, backend=backend, verb="parity", placement=placement, oracle=oracle.folder)
            others = tuple(word for word in oracle.extra if word not in ("--readings", readings))
            jobs.append(replace(own, seconds=seconds, extra=(*others, *chosen), label=label))
    return jobs


def _moves(oracle: Job, backends: tuple[str, ...], moves: Iterable[tuple[Place, Place]]) -> list[Job]:
    """Two jobs for each move, the second of which goes on in the folder of the first."""
    jobs = []
    for (left, before), (right, after) in moves:
        if left not in backends or right not in backends:
            continue
        precise = ("--precision", "fp64")
        goal = replace(
            oracle,
            backend=right,
            verb="train",
            placement=after,
            oracle=oracle.folder,
            seconds=10,
            extra=precise,
            label=f"-from-{left}-{before}",
        )
        stopped = (*precise, "--steps", str(STOPPED_AFTER))
        jobs.append(
            replace(goal, backend=left, placement=before, oracle=None, extra=stopped, into=goal.folder, label="")
        )
        jobs.append(replace(goal, after=goal.folder))
    return jobs


def quick(backends: tuple[str, ...]) -> list[Job]:
    """The default profile: exact claims, parity, one trained network a backend, memory and speed at full size."""
    one_step, bench = ("--epochs", "1"), ("--steps", "5")
    jobs: list[Job] = []
    imposed = ("--readings", "imposed")
    jobs += _parity(Job("oracle", "oracle", "parity", 130, extra=imposed), backends, 18, "imposed")
    # The long ones first, so that at the end none is left alone.
    for backend in backends:
        jobs.append(Job(backend, "train", "photos", 155, BACKENDS[backend].split))
    for variant in ("merged", "half"):
        oracle = Job("oracle", "oracle", "parity", 40, variant=variant, extra=(*one_step, *imposed))
        jobs += _parity(oracle, backends, 13, "imposed")
    for preset in PRESETS:
        oracle = Job("oracle", "oracle", "ladder", 10, preset=None if preset == "paper" else preset)
        jobs += _parity(oracle, backends, 12, placements=_compared_in(preset))
        if preset == "paper":
            jobs += _moves(oracle, backends, MOVES)
    jobs += _trajectories(backends)
    for name in backends:
        own = BACKENDS[name]
        # Of claims about the paper's two GPUs, the columns of both backends speak.
        for placement in dict.fromkeys((*own.compared_placements, "columns")):
            cores = {"OMP_NUM_THREADS": "2"} if own.takes_turns and placement == "columns" else {}
            jobs.append(Job(name, "bench", "full", 25, placement, extra=bench, environment=cores))
        jobs.append(Job(name, "bench", "full", 25, variant="merged", extra=bench))
        # One core stands for one GPU: the half net on one, beside the two columns or stages on one each.
        one_core = {"OMP_NUM_THREADS": "1"}
        jobs.append(Job(name, "bench", "full", 25, variant="half", extra=bench, environment=one_core))
    for name in backends:
        if not BACKENDS[name].takes_turns:
            # How even the cut is shows at the paper's batch, where the weights are touched less often for each image.
            large = ("--batch", "128", "--steps", "3")
            jobs.append(Job(name, "bench", "full", 40, "stages", extra=large, label="-batch128"))
    return jobs


def _compared_in(preset: str) -> Places:
    """Every placement and every preset are tried in the audit, though not each with each."""

    def places(backend: Backend) -> tuple[str, ...]:
        if preset not in backend.compared:
            raise Misuse(
                f"no audit tries preset {preset} in the {backend.name} backend: name its placements in `compared` of "
                "protocol/backends.py"
            )
        return backend.compared[preset]

    return places


def _everywhere(backend: Backend) -> tuple[str, ...]:
    return (*backend.placements, *backend.products)


def _trajectories(backends: tuple[str, ...]) -> list[Job]:
    """The losses of fifty steps, and the bounds that float32 runs should keep to."""
    jobs = [Job("oracle", "envelope", "trajectory", 35)]
    for backend in backends:
        jobs += [
            Job(backend, "train", "trajectory", 12, placement) for placement in BACKENDS[backend].compared_placements
        ]
    return jobs


def recipes(backends: tuple[str, ...]) -> list[Job]:
    """The first few hundred steps of the full-size network under each interpretation of the recipe."""
    return [Job(backend, "train", "recipes", 120, preset=preset) for backend in backends for preset in PRESETS]


def ladder(backends: tuple[str, ...]) -> list[Job]:
    """Every named placement at two presets, the others at two, at small size; full size; and trajectories."""
    # The full-size oracles come first: where memory is short, a small job beside each of them is all it has room for.
    jobs = _parity(Job("oracle", "oracle", "parity", 140), backends, 105)
    jobs += _parity(Job("oracle", "oracle", "parity-paper", 140), backends, 35, "imposed,free")
    # One step shows the other readings at full size, and how much of the image is left in their logits.
    for preset in ("chm-145", "caffe", "notes"):
        oracle = Job("oracle", "oracle", "parity", 60, preset=preset, extra=("--epochs", "1"))
        jobs += _parity(oracle, backends, 23, "imposed,free")
    wide: dict[str, Places] = {"paper": _everywhere, "chm-145": attrgetter("placements")}
    for preset in PRESETS:
        tried = wide.get(preset, attrgetter("compared_placements"))
        oracle = Job("oracle", "oracle", "ladder", 10, preset=None if preset == "paper" else preset)
        jobs += _parity(oracle, backends, 12, placements=tried)
        if preset == "paper":
            jobs += _moves(oracle, backends, (*MOVES, *MORE_MOVES))
    jobs += _parity(Job("oracle", "oracle", "ladder-cifar", 15), backends, 12)
    return [*jobs, *_trajectories(backends)]


def accuracy(backends: tuple[str, ...]) -> list[Job]:
    """The ladder's last rung: final accuracy over seeds, of which few show little."""
    jobs = []
    for backend in backends:
        for seed in BACKENDS[backend].accuracy_seeds:
            jobs.append(Job(backend, "train", "accuracy", 15, seed=seed))
        for seed in BACKENDS[backend].lowered_seeds:
            lowered = ("--precision", "bf16")
            jobs.append(Job(backend, "train", "accuracy", 15, seed=seed, extra=lowered, label="-bf16"))
    return jobs


def jobs_of(rung: str | None, backends: tuple[str, ...]) -> list[Job]:
    """The ladder's jobs, or those that one rung needs; the last rung is climbed by itself."""
    jobs = ladder(backends)
    if rung is None:
        return jobs
    if rung == "accuracy":
        return accuracy(backends)
    if rung == "trajectory":
        return [job for job in jobs if job.case == rung]
    if rung == "resume":
        moved = [job for job in jobs if job.verb == "train" and job.case == "ladder"]
        return [job for job in jobs if job in moved or job.folder in {other.oracle for other in moved}]
    return [job for job in jobs if job.verb in ("oracle", "parity")]


PROFILES = {"quick": quick, "recipes": recipes}

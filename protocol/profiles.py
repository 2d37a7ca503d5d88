"""What the audit runs: the jobs of a profile, in order, each a command line of one backend."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from paper.recipe import PRESETS
from protocol.cases import find_case
from protocol.probe import READINGS
from protocol.request import default_folder

# The backends' seeds differ: twins of one seed are a matter of parity, not of replication.
SEEDS = {"gluon": (1, 2, 3), "deepspeed": (11, 12, 13)}
ACCURACY_SEEDS = {"gluon": range(1, 25), "deepspeed": range(101, 125)}
LOWERED_SEEDS = {"deepspeed": range(201, 225)}  # of bf16, which the other backend has not
# The placements that the audit tries, the first of them on one device; the ladder tries them all, and a product.
TWINS: dict[str, tuple[str, ...]] = {"gluon": ("single", "columns"), "deepspeed": ("single", "stages")}
# Those that are timed: of claims about the paper's two GPUs, the columns of both backends speak.
BENCHED = {**TWINS, "deepspeed": (*TWINS["deepspeed"], "columns")}
NAMED: dict[str, tuple[str, ...]] = {
    "gluon": ("single", "columns", "stages", "replicas"),
    "deepspeed": ("single", "stages", "columns", "replicas"),
}
EVERY = {**NAMED, "deepspeed": (*NAMED["deepspeed"], "columns=2,stages=2")}


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
    environment: dict[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def readings(self) -> tuple[str, ...]:
        """Those that a parity run takes."""
        flag = "--readings"
        return tuple(self.extra[self.extra.index(flag) + 1].split(",")) if flag in self.extra else tuple(READINGS)

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
    def folder(self) -> Path:
        case = find_case(self.case, variant=self.variant, preset_name=self.preset)
        folder = default_folder(self.backend, case, self.placement, self.seed, "fp32")
        return folder.with_name(f"{folder.name}{self.label}")

    @property
    def arguments(self) -> list[str]:
        named = [self.verb, "--case", self.case, "--placement", self.placement, "--seed", str(self.seed)]
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
        return " ".join(filter(None, words))


def _parity(
    oracle: Job,
    backends: tuple[str, ...],
    seconds: int,
    readings: str = "",
    placements: dict[str, tuple[str, ...]] = TWINS,
) -> list[Job]:
    """The oracle, and each backend's placements after it; ``readings``: not all of them."""
    chosen = ("--readings", readings) if readings else ()
    label = f"-{readings.replace(',', '-')}" if readings else ""
    jobs = [oracle]
    for backend in backends:
        for placement in placements[backend]:
            network = find_case(oracle.case, variant=oracle.variant, preset_name=oracle.preset).network()
            if "columns" in placement and (network.columns == 1 or network.norm_spans_columns):
                continue
            own = replace(oracle, backend=backend, verb="parity", placement=placement, oracle=oracle.folder)
            jobs.append(replace(own, seconds=seconds, extra=(*oracle.extra, *chosen), label=label))
    return jobs


def quick(backends: tuple[str, ...]) -> list[Job]:
    """The default profile: exact claims, parity, one trained network a backend, memory and speed at full size."""
    one_step, bench = ("--epochs", "1"), ("--steps", "5")
    jobs: list[Job] = []
    jobs += _parity(Job("oracle", "oracle", "ladder", 10), backends, 18)
    jobs += _parity(Job("oracle", "oracle", "parity", 80), backends, 20, "imposed")
    # The long ones first, so that at the end none is left alone.
    jobs.append(Job("oracle", "envelope", "photos", 200))
    for backend in backends:
        jobs.append(Job(backend, "train", "photos", 100, TWINS[backend][1]))
    for variant in ("merged", "half"):
        oracle = Job("oracle", "oracle", "parity", 20, variant=variant, extra=one_step)
        jobs += _parity(oracle, backends, 12, "imposed")
    for backend in backends:
        for placement in BENCHED[backend]:
            # MXNet's columns take turns on a processor, so that each of the two has both of two cores.
            cores = {"OMP_NUM_THREADS": "2"} if (backend, placement) == ("gluon", "columns") else {}
            jobs.append(Job(backend, "bench", "full", 25, placement, extra=bench, environment=cores))
        jobs.append(Job(backend, "bench", "full", 25, variant="merged", extra=bench))
        # One core stands for one GPU: the half net on one, beside the two columns or stages on one each.
        one_core = {"OMP_NUM_THREADS": "1"}
        jobs.append(Job(backend, "bench", "full", 25, variant="half", extra=bench, environment=one_core))
    if "deepspeed" in backends:
        # How even the cut is shows at the paper's batch, where the weights are touched less often for each image.
        large = ("--batch", "128", "--steps", "3")
        jobs.append(Job("deepspeed", "bench", "full", 40, "stages", extra=large, label="-batch128"))
    return jobs


def standard(backends: tuple[str, ...]) -> list[Job]:
    """The quick profile, and the claims that train: a few seeds of the baseline and of some changes to it."""
    jobs = quick(backends)
    for backend in backends:
        for seed in SEEDS[backend]:
            jobs += [
                Job(backend, "train", "photos", 70, variant=variant, seed=seed) for variant in (None, "merged", "half")
            ]
            jobs.append(Job(backend, "train", "no-norm", 60, seed=seed))
    return jobs


def recipes(backends: tuple[str, ...]) -> list[Job]:
    """The first few hundred steps of the full-size network under each reading of the recipe."""
    return [Job(backend, "train", "recipes", 120, preset=preset) for backend in backends for preset in PRESETS]


def ladder(backends: tuple[str, ...]) -> list[Job]:
    """Every named placement at two presets, the others at two, at small size; full size; and trajectories."""
    # The full-size oracles come first: where memory is short, a small job beside each of them is all it has room for.
    jobs = _parity(Job("oracle", "oracle", "parity", 80), backends, 100)
    jobs += _parity(Job("oracle", "oracle", "parity-paper", 80), backends, 25, "imposed,free")
    # One step shows the other readings at full size, and how much of the image is left in their logits.
    for preset in ("chm-145", "caffe", "notes"):
        oracle = Job("oracle", "oracle", "parity", 30, preset=preset, extra=("--epochs", "1"))
        jobs += _parity(oracle, backends, 15, "imposed,free")
    for preset in PRESETS:
        tried = {"paper": EVERY, "chm-145": NAMED}.get(preset, TWINS)
        jobs += _parity(Job("oracle", "oracle", "ladder", 10, preset=preset), backends, 18, placements=tried)
    jobs.append(Job("oracle", "envelope", "trajectory", 20))
    for backend in backends:
        jobs += [Job(backend, "train", "trajectory", 15, placement) for placement in TWINS[backend]]
    return jobs


def accuracy(backends: tuple[str, ...]) -> list[Job]:
    """The ladder's last rung: final accuracy over seeds, of which few show little."""
    jobs = []
    for backend in backends:
        for seed in ACCURACY_SEEDS[backend]:
            jobs.append(Job(backend, "train", "accuracy", 15, seed=seed))
        for seed in LOWERED_SEEDS.get(backend, ()):
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
    return [job for job in jobs if job.verb in ("oracle", "parity")]


PROFILES = {"quick": quick, "standard": standard, "recipes": recipes}

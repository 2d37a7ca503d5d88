"""What the audit runs: the jobs of a profile, in order, each a command line of one backend."""

from dataclasses import dataclass, field
from pathlib import Path

from protocol.cases import find_case
from protocol.request import default_folder

# The backends' seeds differ: twins of one seed are a matter of parity, not of replication.
SEEDS = {"gluon": (1, 2, 3), "deepspeed": (11, 12, 13)}
TWINS = {"gluon": ("single", "columns"), "deepspeed": ("single", "stages")}


@dataclass(frozen=True)
class Job:
    """``arguments`` follow the backend's name on its command line. ``seconds``: its usual length on two cores."""

    backend: str
    verb: str
    case: str
    seconds: int
    placement: str = "single"
    variant: str | None = None
    precision: str = "fp32"
    imposed: bool = False
    seed: int = 0
    extra: tuple[str, ...] = ()
    oracle: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def folder(self) -> Path:
        case = find_case(self.case, variant=self.variant)
        folder = default_folder(self.backend, case, self.placement, self.seed, self.precision, self.imposed)
        return folder.with_name(f"{folder.name}{self.label}")

    @property
    def arguments(self) -> list[str]:
        named = [self.verb, "--case", self.case, "--placement", self.placement, "--precision", self.precision]
        named += ["--seed", str(self.seed)]
        if self.variant:
            named += ["--variant", self.variant]
        if self.oracle:
            named += ["--oracle", str(self.oracle)]
        if self.imposed:
            named.append("--imposed")
        return [*named, *self.extra, "--out", str(self.folder)]

    @property
    def title(self) -> str:
        words = [self.backend, self.verb if self.verb != self.backend else "", self.case, self.variant or ""]
        words += ["" if self.backend == "oracle" else self.placement, self.precision, "imposed" * self.imposed]
        words.append(f"seed {self.seed}" if self.seed else "")
        return " ".join(filter(None, words))


def quick(backends: tuple[str, ...]) -> list[Job]:
    """The default profile: exact claims, parity, one trained network a backend, memory and speed at full size."""
    one_step, bench = ("--epochs", "1"), ("--steps", "10")
    oracles = {case: Job("oracle", "oracle", case, 60) for case in ("parity", "parity-paper")}
    variants = {
        variant: Job("oracle", "oracle", "parity", 20, variant=variant, extra=one_step)
        for variant in ("merged", "half")
    }
    jobs = [*oracles.values(), *variants.values(), Job("oracle", "oracle", "photos", 90)]
    for backend in backends:
        for placement in TWINS[backend]:
            tight = oracles["parity"].folder
            jobs.append(Job(backend, "parity", "parity", 25, placement, precision="fp64", oracle=tight))
            for case, oracle in oracles.items():
                for imposed in (True, False):
                    jobs.append(Job(backend, "parity", case, 15, placement, imposed=imposed, oracle=oracle.folder))
        for variant, oracle in variants.items():
            single = Job(
                backend, "parity", "parity", 12, variant=variant, imposed=True, extra=one_step, oracle=oracle.folder
            )
            jobs.append(single)
    for backend in backends:
        jobs.append(Job(backend, "train", "photos", 100, TWINS[backend][1]))
    for backend in backends:
        jobs += [Job(backend, "bench", "full", 25, placement, extra=bench) for placement in TWINS[backend]]
        jobs.append(Job(backend, "bench", "full", 25, variant="merged", extra=bench))
        # One core stands for one GPU: the half net on one, beside the two columns or stages on one each.
        one_core = {"OMP_NUM_THREADS": "1"}
        jobs.append(Job(backend, "bench", "full", 25, variant="half", extra=bench, environment=one_core))
    if "deepspeed" in backends:
        # How even the cut is shows at the paper's batch, where the weights are touched less often for each image.
        large = ("--batch", "128", "--steps", "6")
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


PROFILES = {"quick": quick, "standard": standard}

"""What is trained for the claims: arms, each a network and a recipe, over seeds; and which arms each claim compares."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from protocol.backends import BACKENDS, Backend
from protocol.experiment.cases import Case, find_case
from protocol.runs.entries import Entry

MANY, SOME = 12, 6  # seeds of an arm that a primary claim compares, and of the others


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    ``rate`` and ``batch``: where they are not the case's own; ``swapped``: on the seeds of the backend before its own
    in the list (with two: the other's).
    """

    name: str
    case: str = "claims"
    variant: str | None = None
    preset: str | None = None
    seeds: int = SOME
    rate: float | None = None
    batch: int | None = None
    swapped: bool = False

    def as_case(self) -> Case:
        own = find_case(self.case, variant=self.variant, preset_name=self.preset)
        return replace(own, rate=self.rate or own.rate, batch=self.batch or own.batch)

    def entry(self, seed: int, out: Path, store: str | None) -> Entry:
        """The run as a backend's ``series`` reads it; ``store``: other data than the case's own."""
        return Entry(
            case=self.case,
            seed=seed,
            out=str(out),
            store=store,
            variant=self.variant,
            preset=self.preset,
            rate=self.rate,
            batch=self.batch,
        )


def seeds_of(arm: Arm, backend: Backend) -> range:
    """The backends have different seeds: a seed of one is no replication of the other's."""
    return backend.accuracy_seeds[: arm.seeds]


BASELINE = Arm("baseline", seeds=MANY)
# In this order they are trained: what many claims need, and what decides a claim with few runs, comes first.
ARMS: tuple[Arm, ...] = (
    BASELINE,
    *(Arm(name, case=name, seeds=MANY) for name in ("relu", "tanh")),
    Arm("sigmoid", case="sigmoid", seeds=3),
    *(Arm(name, case=name, seeds=MANY) for name in ("no-dropout", "no-crops")),
    Arm("zero-bias", case="zero-bias"),
    *(Arm(name, variant=name, seeds=MANY) for name in ("merged", "half")),
    *(Arm(name, case=name, seeds=MANY) for name in ("no-norm", "no-overlap", "colour")),
    *(Arm(name, case=name) for name in ("no-decay", "no-colour")),
    *(Arm(name, variant=name) for name in ("merged_parameters", "merged_products")),
    # Where columns meet: everywhere, at the dense layers alone, at the classes alone, early; and four columns.
    *(Arm(name, variant=name) for name in ("cross_everywhere", "no_crossing", "four_column")),
    Arm("cross_fc8", variant="cross_at=fc8"),
    Arm("cross_early", variant="cross_at=conv2,fc6,fc7,fc8"),
    *(Arm(f"without_conv{number}", variant=f"without_conv{number}") for number in range(1, 6)),
    *(Arm(name, case=name) for name in ("half-data", "quarter-data")),
    *(Arm(name, case=name) for name in ("narrow", "narrow-half-data", "narrow-quarter-data")),
    # As recorded in 2012: run 148 took both norms of run 145 out.
    Arm("chm-145", preset="chm-145"),
    Arm("chm-148", case="no-norm", preset="chm-145"),
)


def _rates(*rates: float) -> tuple[Arm, ...]:
    """The same rates for either nonlinearity."""
    return tuple(Arm(f"{name}-{rate:g}", case=name, rate=rate, seeds=1) for name in ("relu", "tanh") for rate in rates)


STUDY_147, STUDY_SIDES = "study-147", "study-sides"
LATER = frozenset({STUDY_147, STUDY_SIDES})  # made after the plan, told beside it; they decide nothing
# On seeds of their own. Before the plan was made: which recipe is calm, and which rate suits each nonlinearity.
STUDIES: dict[str, tuple[Arm, ...]] = {
    "study": (
        Arm("batch-128-.01", rate=0.01, batch=128, seeds=3),
        Arm("batch-32-.001", rate=0.001, seeds=4),
        Arm("batch-32-.002", rate=0.002, seeds=4),
        *_rates(0.0005, 0.001, 0.002, 0.004),
    ),
    # Tanh was the faster the higher its rate.
    "study-rates": _rates(0.008, 0.016, 0.032),
    # Run 147 as it was in 2012, with its paddings.
    STUDY_147: (Arm("baseline-147"), Arm("no-overlap-147", case="no-overlap-147")),
    # Which column has more colour: does the draw decide it, or the backend?
    STUDY_SIDES: (Arm("swapped", seeds=MANY, swapped=True),),
}
STUDY_SEEDS = 500  # added to a backend's own


def lender(backend: Backend) -> Backend:
    """Whose seeds a backend's swapped runs have: those of the one before it."""
    every = list(BACKENDS.values())
    return every[every.index(backend) - 1]


def study_seeds(arm: Arm, backend: Backend) -> range:
    if arm.swapped:
        return lender(backend).accuracy_seeds[: arm.seeds]
    first = backend.accuracy_seeds.start + STUDY_SEEDS
    return range(first, first + arm.seeds)


# Whose first kernels are kept: they are asked whether columns specialise.
KERNELS_OF = frozenset({"baseline", "merged", "cross_everywhere", "no_crossing", "four_column", "colour", "swapped"})


def queue_of(arms: Iterable[Arm]) -> list[tuple[Arm, int]]:
    """Arms and the number of their seed, in the order of ``arms``: a claim's arms are whole before the next claim's."""
    return [(arm, number) for arm in arms for number in range(arm.seeds)]

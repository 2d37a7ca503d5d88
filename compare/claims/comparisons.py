"""What each claim compares: two arms, a quantity, and what counts as an answer; decided before the first run.

What was added since, times in seconds and the study of run 147, decides nothing and is told beside.

The unit is the seed. An effect is the mean over seeds of the changed arm less the baseline, both of one seed; it is
positive where the claim is right. Each backend answers for itself, on seeds of its own, at the 5 % level, two-sided.
A claim is *consistent* when every one of its deciding comparisons shows the claimed direction in both backends,
*opposite* when one shows the other direction in both, and else *inconclusive*. Of primary claims the larger of the two
backends' p-values must also hold after Holm's correction over the primary claims. All other claims are exploratory.
"""

from dataclasses import dataclass

import numpy as np

from compare.claims.arms import BASELINE
from compare.claims.pack import Packed
from compare.statistics import MARK, first_at_most
from paper.claims import load_claims

PRIMARY = tuple(name for name, claim in load_claims().items() if claim.primary)
DECADES = "powers of ten"
PASSES, SECONDS = TIMES = "log_passes_to_25", "log_seconds_to_25"
MARGIN = 0.02  # of test error: nets closer than this are taken to do as well as each other


@dataclass(frozen=True)
class Comparison:
    """``left`` is the arm that the claim says has less of ``quantity`` than ``right``.

    Without ``right`` the quantity itself is what the claim says is above 0. ``decides``: it counts for the verdict;
    the others are told beside it.
    """

    claim: str
    quantity: str
    left: str
    right: str | None = None
    decides: bool = True

    @property
    def name(self) -> str:
        return f"{self.left} < {self.right}" if self.right else self.left


def _against_baseline(claim: str, quantity: str, *arms: str, decides: bool = True) -> tuple[Comparison, ...]:
    return tuple(Comparison(claim, quantity, BASELINE.name, arm, decides) for arm in arms)


COMPARISONS: tuple[Comparison, ...] = (
    Comparison("relu-6x", PASSES, "relu", "tanh"),
    *_against_baseline("lrn", "test_error", "no-norm"),
    Comparison("lrn", "test_error", "chm-145", "chm-148", decides=False),
    *_against_baseline("overlap", "test_error", "no-overlap"),
    *_against_baseline("overlap-overfit", "gap", "no-overlap"),
    *_against_baseline("aug-overfit", "gap", "no-crops"),
    *_against_baseline("pca", "test_error", "no-colour"),
    *_against_baseline("dropout-overfit", "gap", "no-dropout"),
    Comparison("dropout-2x", PASSES, "no-dropout", BASELINE.name),
    *_against_baseline("decay-train", "train_loss", "no-decay"),
    *_against_baseline("bias-ones", "early_loss", "zero-bias"),
    *_against_baseline("two-gpu-acc", "test_error", "half"),
    *_against_baseline("notes-merged", "test_error", "merged"),
    *_against_baseline("notes-merged", "test_error", "merged_parameters", "merged_products", decides=False),
    *_against_baseline("depth", "test_error", *(f"without_conv{number}" for number in range(1, 6))),
    *_against_baseline("faster-gpus", "test_error", "quarter-data", "narrow"),
    *_against_baseline("faster-gpus", "test_error", "half-data", decides=False),
    Comparison("faster-gpus", "test_error", "narrow", "narrow-quarter-data"),
    Comparison("faster-gpus", "test_error", "narrow", "narrow-half-data", decides=False),
    Comparison("vanishing", "start_ratio", "tanh", "relu"),
    Comparison("vanishing", "start_ratio", "sigmoid", "relu"),
    Comparison("vanishing", "end_ratio", "tanh", "relu", decides=False),
    Comparison("vanishing", "end_ratio", "sigmoid", "relu", decides=False),
    Comparison("one-patch", "ten_views_gain", BASELINE.name),
    Comparison("retrieval", "neighbours_gain", BASELINE.name),
)
# Of the study of run 147, told beside the plan's.
BESIDE = (Comparison("overlap", "test_error", "baseline-147", "no-overlap-147", decides=False),)
# Told with its interval, not judged: where columns meet, against error and bytes.
CONNECTIVITY = ("baseline", "cross_everywhere", "no_crossing", "cross_fc8", "cross_early", "four_column", "merged")


@dataclass(frozen=True)
class Quantity:
    """What is compared. ``said``: in words; ``unit``: of an effect as people are told it.

    Errors and losses of training are those of clean crops without dropout.
    """

    said: str
    unit: str = ""

    def told(self, value: float) -> float:
        """An effect in its unit: shares as points, logarithms as times."""
        return 100 * value if self.unit == "points" else float(np.exp(value)) if self.unit == "times" else value

    def text(self, *values: float) -> str:
        """An effect, or one with its interval: ``+1.1 (+0.8 to +1.5) points``."""
        sign = "" if self.unit == "times" else "+"
        mean, *interval = (f"{self.told(value):{sign}.3g}" for value in values)
        between = f" ({interval[0]} to {interval[1]})" if interval else ""
        return f"{mean}{between} {self.unit}".rstrip()


QUANTITIES = {
    "test_error": Quantity("test error", "points"),
    "gap": Quantity("test less training error", "points"),
    "train_loss": Quantity("training loss at the end"),
    "early_loss": Quantity("training loss after half an epoch"),
    PASSES: Quantity("passes to 25 % training error", "times"),
    SECONDS: Quantity("seconds to 25 % training error", "times"),
    "start_ratio": Quantity("gradient norm, conv1 over fc8, first step", DECADES),
    "end_ratio": Quantity("gradient norm, conv1 over fc8, last step", DECADES),
    "ten_views_gain": Quantity("test error, one view less ten", "points"),
    "neighbours_gain": Quantity("same-class neighbours, fc7 less pixels", "points"),
}


def measure(run: Packed, quantity: str) -> float:
    """A quantity of one run; a time to 25 % is in passes, which the clock turns into seconds.

    Raises:
        ValueError: there is none of that name.
    """
    match quantity:
        case "test_error":
            return _test_error(run, 1)
        case "gap":
            return _test_error(run, 1) - float(run.table("checks")["error"].iloc[-1])
        case "train_loss":
            return float(run.table("checks")["loss"].iloc[-1])
        case "early_loss":
            return float(run.table("checks")["loss"].iloc[0])
        case "log_passes_to_25" | "log_seconds_to_25":
            return float(np.log(passes_to_mark(run)[0]))
        case "start_ratio" | "end_ratio":
            return _gradient_ratio(run, last=quantity == "end_ratio")
        case "ten_views_gain":
            return _test_error(run, 1) - _test_error(run, 10)
        case "neighbours_gain":
            share = run.table("neighbours").set_index("space")["same_class"]
            return float(share["fc7"] - share["pixels"])
    raise ValueError(f"no comparison is of {quantity}")


def difference(left: Packed, right: Packed, quantity: str) -> float:
    """How much more of a quantity ``right`` has; of a time to 25 %, the logarithm of how many times as much."""
    return log_ratio(left, right) if quantity in TIMES else measure(right, quantity) - measure(left, quantity)


def _test_error(run: Packed, views: int) -> float:
    epochs = run.table("epochs")
    return float(epochs.loc[epochs["views"] == views, "top1_error"].iloc[-1])


def passes_to_mark(run: Packed) -> tuple[float, bool]:
    """Passes over the images until the training error was 25 %, between two checks in proportion; and whether it was.

    A run that never got there is censored: it was watched for all its passes, and counts as if it had got there at
    their end: a lower bound of what it would have taken.
    """
    checks = run.table("checks")
    passes, errors = checks["epochs"].to_numpy(), checks["error"].to_numpy()
    # Before any step the error is that of chance.
    chance = 1 - 1 / run.record.case["classes"]
    took = first_at_most(MARK, np.array([0.0, *passes]), np.array([chance, *errors]))
    return (float(passes[-1]), False) if took is None else (took, True)


def log_ratio(left: Packed, right: Packed) -> float:
    """Logarithm of how many times as many passes ``right`` took, both watched for as long as the shorter of the two.

    Where one never got there, nothing is known of it beyond its end, and so nothing is told of the other beyond it.
    """
    (one, reached), (other, arrived) = passes_to_mark(left), passes_to_mark(right)
    one, other = (one if arrived else min(one, other)), (other if reached else min(one, other))
    return float(np.log(other / one))


def _gradient_ratio(run: Packed, *, last: bool) -> float:
    gradients = run.table("gradients")
    step = gradients["step"].max() if last else gradients["step"].min()
    norms = gradients[gradients["step"] == step].set_index("layer")["norm"]
    return float(np.log10(norms.iloc[0] / norms.iloc[-1]))

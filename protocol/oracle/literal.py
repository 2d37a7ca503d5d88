"""The data the slow way: the paper's words, sample by sample.

Backends get their images from :mod:`protocol.experiment.augmentation` and their test errors by
:mod:`protocol.runs.evaluation`. The oracle computes the same from here, sharing the stored pixels and the epoch's draws
alone, so that a mistake there is one against the oracle.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from protocol.experiment import dropout
from protocol.experiment.augmentation import COLOUR_DEVIATION, Policy, plan_epoch
from protocol.experiment.cases import Case
from protocol.experiment.experiment import Experiment
from protocol.oracle.quantities import Distance

TAIL = 2 * (1 - NormalDist().cdf(2))  # share of a Gaussian beyond two deviations
ROUNDED = 1e-6  # of a share of images
DEVIATIONS = 5.0  # a draw farther than this many standard errors from what is expected has one chance in a million
BY_THE_CODE = ("chm-145", "conv-local")  # presets whose images reach the network as in the code of 2012
MASKED = 64  # samples whose dropout masks are looked at
Bounded = tuple[Distance, float]  # how far, and how far it may be


class Pixels:
    """What the network should be given, float32: the mean image, each difference and each sum rounded once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        mean = experiment.store.train.images.mean(axis=0, dtype=np.float64)  # (edge, edge, 3)
        self.mean = mean.astype(np.float32).astype(np.float64)
        self.by_the_code = experiment.case.preset in BY_THE_CODE
        margin = (len(self.mean) - experiment.crop) // 2
        self.middle = self.mean[margin : margin + experiment.crop, margin : margin + experiment.crop]

    def training(self, step: int) -> np.ndarray:
        """A step's images (batch, 3, crop, crop): the mean image taken off, cut, mirrored, shifted in colour."""
        experiment = self.experiment
        epoch, reach = step // experiment.steps_per_epoch, np.arange(experiment.crop)
        plan = experiment.plan(epoch)
        found = []
        for sample in experiment.samples(step):
            cut = np.ix_(plan.rows[sample] + reach, plan.columns[sample] + reach)
            pixels, mean = experiment.store.train.images[sample][cut], self.mean[cut]
            if self.by_the_code:
                # The 2012 code: reflected first, then the middle of the mean image taken off, whatever was cut out.
                pixels = (pixels[:, ::-1] if plan.flips[sample] else pixels) - self.middle
            else:
                pixels = pixels - mean
                pixels = pixels[:, ::-1] if plan.flips[sample] else pixels
            shifted = pixels.astype(np.float32) + plan.shifts[sample]
            if self.by_the_code and experiment.case.policy_in(epoch).colour:
                shifted = shifted * np.float32(1 / 1.1)  # 1 + the deviation of alpha
            found.append(shifted.transpose(2, 0, 1))
        return np.stack(found)

    def views(self, sample: int, *, ten: bool) -> np.ndarray:
        """Views of a test image (views, 3, crop, crop): the centre, or corners and centre and their mirror images."""
        pixels, crop = self.experiment.store.test.images[sample].astype(np.float64), self.experiment.crop
        if not self.by_the_code:
            pixels = pixels - self.mean
        last = len(pixels) - crop
        middle = (last // 2, last // 2)
        corners = [(0, 0), (0, last), (last, 0), (last, last), middle] if ten else [middle]
        cuts = [pixels[row : row + crop, column : column + crop] for row, column in corners]
        seen = [*cuts, *(cut[:, ::-1] for cut in cuts)] if ten else cuts
        if self.by_the_code:
            seen = [cut - self.middle for cut in seen]
        return np.stack(seen).transpose(0, 3, 1, 2).astype(np.float32)


def rate(case: Case, epoch: int) -> float:
    """The learning rate in ``epoch``, counted from 0: a tenth after each of the epochs at which it falls."""
    found = case.rate
    for drop in case.drops:
        if epoch >= drop:
            found = found / 10
    return found


def draws(experiment: Experiment) -> dict[str, Bounded]:
    """Whether what is drawn at random is as the paper says: weights, an epoch's plan, dropout masks.

    Not its spread alone: also its mean, its shape, and that nothing follows from anything else, neither from column to
    column, layer to layer, epoch to epoch, nor between the two sides of a crop.
    """
    parts = (_weights, _layers, _plan, _epochs, _masks)
    return {name: finding for part in parts for name, finding in part(experiment)}


def _off(value: float, expected: float, error: float, what: str) -> Bounded:
    """How far a share or a mean is from what is expected, and how far chance may lead it."""
    return Distance(abs(value - expected), f"{what} {value:.4g}, expected {expected:.4g}"), DEVIATIONS * error


def _unrelated(left: np.ndarray, right: np.ndarray) -> Bounded:
    """The correlation of two rows of draws, which is chance where neither follows from the other."""
    left, right = (np.asarray(values, np.float64).ravel() for values in (left, right))
    count = min(len(left), len(right))
    left, right = left[:count], right[:count]
    spread = left.std() * right.std()
    found = float(((left - left.mean()) * (right - right.mean())).mean() / spread) if spread else 1.0
    return Distance(abs(found), f"correlation {found:.4f} of {count}"), DEVIATIONS * count**-0.5


def _weights(experiment: Experiment) -> Iterator[tuple[str, Bounded]]:
    recipe, deviations = experiment.recipe, experiment.case.initial_deviations()
    tensors = experiment.weights()
    for layer in experiment.network.weighted():
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        expected, size = deviations[layer.name], weight.size
        found = float(np.sqrt(np.square(weight, dtype=np.float64).mean()))
        apart = Distance(abs(found / expected - 1), f"deviation {found:.4g}, expected {expected:.4g}")
        yield f"draws.{layer.name}.weight", (apart, DEVIATIONS * (2 * size) ** -0.5)
        yield f"draws.{layer.name}.mean", _off(float(weight.mean(dtype=np.float64)) / expected, 0.0, size**-0.5, "mean")
        # A Gaussian has so many beyond two deviations; a uniform draw has none.
        tail = float((np.abs(weight) > 2 * expected).mean())
        yield f"draws.{layer.name}.shape", _off(tail, TAIL, (TAIL * (1 - TAIL) / size) ** 0.5, "beyond two deviations")
        if layer.columns > 1:
            first, second = np.split(weight, 2)
            yield f"draws.{layer.name}.columns", _unrelated(first, second)
        start = recipe.bias_of(layer.name)
        off = float(np.abs(bias - np.float32(start)).max())
        yield f"draws.{layer.name}.bias", (Distance(off, f"expected {start:g}"), 0.0)


def _layers(experiment: Experiment) -> Iterator[tuple[str, Bounded]]:
    """Each layer's weights beside those of the layer before it."""
    tensors = experiment.weights()
    names = [layer.name for layer in experiment.network.weighted()]
    for before, name in pairwise(names):
        yield f"draws.{name}.layers", _unrelated(tensors[f"{before}.weight"], tensors[f"{name}.weight"])


def _plan(experiment: Experiment) -> Iterator[tuple[str, Bounded]]:
    """A whole epoch's draws, all switched on, whichever the case uses."""
    split = experiment.store.train
    plan = plan_epoch(split, experiment.crop, Policy(), experiment.seed, 0)
    count, places = len(split), split.edge - experiment.crop + 1
    missing = np.setdiff1d(np.arange(count), plan.order)
    yield "draws.order", (Distance(float(len(missing)), f"{len(missing)} samples left out"), 0.0)
    yield "draws.order.labels", _unrelated(split.labels[plan.order][1:], split.labels[plan.order][:-1])
    yield "draws.flips", _off(float(plan.flips.mean()), 0.5, (0.25 / count) ** 0.5, "share")
    error = ((places**2 - 1) / 12 / count) ** 0.5
    for name, drawn in (("rows", plan.rows), ("columns", plan.columns)):
        mean, unused = float(drawn.mean()), places - len(np.unique(drawn))
        inside = drawn.min() >= 0 and drawn.max() < places
        off = abs(mean - (places - 1) / 2) if inside else float("inf")
        where = f"mean {mean:.2f}, {unused} of {places} places unused"
        yield f"draws.{name}", (Distance(off, where), DEVIATIONS * error)
        yield f"draws.{name}.flips", _unrelated(drawn, plan.flips)
    yield "draws.crops", _unrelated(plan.rows, plan.columns)
    pixels = split.images.reshape(-1, 3)
    if len(pixels) > 10**6:
        pixels = pixels[:: len(pixels) // 10**6]
    expected = COLOUR_DEVIATION**2 * np.cov(pixels.T.astype(np.float64))
    found = plan.shifts.T.astype(np.float64) @ plan.shifts / count
    apart = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    spread = ", ".join(f"{value:.2f}" for value in np.sqrt(np.diag(found)))
    yield "draws.shifts", (Distance(apart, f"deviations {spread} grey levels"), DEVIATIONS * (2 / count) ** 0.5)
    for colour, name in enumerate(("red", "green", "blue")):
        mean = float(plan.shifts[:, colour].mean(dtype=np.float64))
        yield f"draws.shifts.{name}", _off(mean, 0.0, (expected[colour, colour] / count) ** 0.5, "mean")
        yield f"draws.shifts.{name}.flips", _unrelated(plan.shifts[:, colour], plan.flips)


def _epochs(experiment: Experiment) -> Iterator[tuple[str, Bounded]]:
    """The second epoch's draws beside the first's."""
    split = experiment.store.train
    first, second = (plan_epoch(split, experiment.crop, Policy(), experiment.seed, epoch) for epoch in (0, 1))
    for name in ("order", "rows", "columns", "flips", "shifts"):
        yield f"draws.{name}.epochs", _unrelated(getattr(first, name), getattr(second, name))


def _masks(experiment: Experiment) -> Iterator[tuple[str, Bounded]]:
    """Half of the units, and others for each sample, step, layer and column."""
    first, second = (dropout.masks(experiment.network, experiment.seed, step, 0, MASKED) for step in (0, 1))
    for name, mask in first.items():
        halves = np.split(mask, 2, axis=1)
        yield f"draws.{name}", _off(float(mask.mean()), 0.5, 0.5 / mask.size**0.5, "share kept")
        beside = {"steps": (mask, second[name]), "samples": (mask, np.roll(mask, 1, axis=0)), "columns": halves}
        for kind, (own, other) in beside.items():
            alike = float(np.equal(own, other).mean())
            yield f"draws.{name}.{kind}", _off(alike, 0.5, 0.5 / own.size**0.5, "alike")
    if len(first) > 1:
        six, seven = first.values()
        units = min(six.shape[1], seven.shape[1])
        alike = float((six[:, :units] == seven[:, :units]).mean())
        yield "draws.drop7.layers", _off(alike, 0.5, 0.5 / (MASKED * units) ** 0.5, "alike")


def recount(experiment: Experiment, seen: Mapping[str, np.ndarray]) -> dict[str, Distance]:
    """What a backend reports of its guesses, beside a count of them from its own logits and probabilities.

    ``report.error.S``: share of a step's images of which the first guess was wrong; ``report.top1.V``, ``.top5.V``:
    share of test images whose label is not the first, or among the first five, with V views.
    """
    found: dict[str, Distance] = {}
    for name, reported in seen.items():
        kind, what, which = (*name.split("."), "", "")[:3]
        if kind != "report":
            continue
        if what == "error":
            labels = experiment.store.train.labels[experiment.samples(int(which))]
            given, allowed = seen.get(f"logits.{which}"), 1
        else:
            labels = experiment.testing.labels
            given, allowed = seen.get(f"test.{which}"), {"top1": 1, "top5": 5}[what]
        if given is None or len(given) != len(labels):
            found[name] = Distance(float("inf"), "nothing to count from")
            continue
        wrong = 0
        for scores, label in zip(given.tolist(), labels.tolist(), strict=True):
            before = sum(not score < scores[label] for place, score in enumerate(scores) if place != label)
            wrong += before >= allowed
        share, counted = float(reported[0]), wrong / len(labels)
        # Reported in float32, a share of so many images is off by less than any image.
        off = abs(share - counted)
        found[name] = Distance(off if off > ROUNDED else 0.0, f"reported {share:.4f}, counted {counted:.4f}")
    return found

"""The data the slow way: the paper's words, sample by sample.

Backends get their images from :mod:`protocol.augmentation` and their test errors by :mod:`protocol.evaluation`. The
oracle computes the same from here, sharing the stored pixels and the epoch's draws alone, so that a mistake there is
one against the oracle.
"""

from collections.abc import Iterator

import numpy as np

from protocol import dropout
from protocol.augmentation import COLOUR_DEVIATION, Policy, plan_epoch
from protocol.experiment import Experiment
from protocol.probe import Distance

DEVIATIONS = 5.0  # a draw farther than this many standard errors from what is expected has one chance in a million
MASKED = 64  # samples whose dropout masks are looked at
Finding = tuple[Distance, float]  # how far, and how far it may be


class Pixels:
    """What the network should be given, float32: the mean image, each difference and each sum rounded once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        mean = experiment.store.train.images.mean(axis=0, dtype=np.float64)  # (edge, edge, 3)
        self.mean = mean.astype(np.float32).astype(np.float64)
        self.by_the_code = experiment.case.preset == "chm-145"
        margin = (len(self.mean) - experiment.crop) // 2
        self.middle = self.mean[margin : margin + experiment.crop, margin : margin + experiment.crop]

    def training(self, step: int) -> np.ndarray:
        """A step's images (batch, 3, crop, crop): the mean image taken off, cut, mirrored, shifted in colour."""
        experiment = self.experiment
        plan, reach = experiment.plan(step // experiment.steps_per_epoch), np.arange(experiment.crop)
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
            if self.by_the_code and experiment.case.policy.colour:
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


def draws(experiment: Experiment) -> dict[str, Finding]:
    """Whether what is drawn at random is spread as the paper says: weights, an epoch's plan, dropout masks."""
    return dict([*_weights(experiment), *_plan(experiment), *_masks(experiment)])


def _weights(experiment: Experiment) -> Iterator[tuple[str, Finding]]:
    recipe, deviations = experiment.recipe, experiment.case.initial_deviations()
    tensors = experiment.weights()
    for layer in experiment.network.weighted():
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        expected, error = deviations[layer.name], (2 * weight.size) ** -0.5
        found = float(np.sqrt(np.square(weight, dtype=np.float64).mean()))
        apart = Distance(abs(found / expected - 1), f"deviation {found:.4g}, expected {expected:.4g}")
        yield f"draws.{layer.name}.weight", (apart, DEVIATIONS * error)
        expected = recipe.bias_start if layer.name in recipe.ones else 0.0
        off = float(np.abs(bias - np.float32(expected)).max())
        yield f"draws.{layer.name}.bias", (Distance(off, f"expected {expected:g}"), 0.0)


def _plan(experiment: Experiment) -> Iterator[tuple[str, Finding]]:
    """A whole epoch's draws, all switched on, whichever the case uses."""
    split = experiment.store.train
    plan = plan_epoch(split, experiment.crop, Policy(), experiment.seed, 0)
    count, places = len(split), split.edge - experiment.crop + 1
    missing = np.setdiff1d(np.arange(count), plan.order)
    yield "draws.order", (Distance(float(len(missing)), f"{len(missing)} samples left out"), 0.0)
    share = float(plan.flips.mean())
    yield "draws.flips", (Distance(abs(share - 0.5), f"share {share:.3f}"), DEVIATIONS * (0.25 / count) ** 0.5)
    error = ((places**2 - 1) / 12 / count) ** 0.5
    for name, drawn in (("rows", plan.rows), ("columns", plan.columns)):
        mean, unused = float(drawn.mean()), places - len(np.unique(drawn))
        inside = drawn.min() >= 0 and drawn.max() < places
        off = abs(mean - (places - 1) / 2) if inside else float("inf")
        yield (
            f"draws.{name}",
            (Distance(off, f"mean {mean:.2f}, {unused} of {places} places unused"), DEVIATIONS * error),
        )
    pixels = split.images.reshape(-1, 3)
    if len(pixels) > 10**6:
        pixels = pixels[:: len(pixels) // 10**6]
    expected = COLOUR_DEVIATION**2 * np.cov(pixels.T.astype(np.float64))
    found = plan.shifts.T.astype(np.float64) @ plan.shifts / count
    apart = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    spread = ", ".join(f"{value:.2f}" for value in np.sqrt(np.diag(found)))
    yield "draws.shifts", (Distance(apart, f"deviations {spread} grey levels"), DEVIATIONS * (2 / count) ** 0.5)


def _masks(experiment: Experiment) -> Iterator[tuple[str, Finding]]:
    """Half of the units, and others for each sample and step."""
    first, second = (dropout.masks(experiment.network, experiment.seed, step, 0, MASKED) for step in (0, 1))
    for name, mask in first.items():
        error = 0.5 / mask.size**0.5
        share = float(mask.mean())
        yield f"draws.{name}", (Distance(abs(share - 0.5), f"share kept {share:.4f}"), DEVIATIONS * error)
        for kind, other in (("steps", second[name]), ("samples", np.roll(mask, 1, axis=0))):
            alike = float((mask == other).mean())
            yield f"draws.{name}.{kind}", (Distance(abs(alike - 0.5), f"alike {alike:.4f}"), DEVIATIONS * error)

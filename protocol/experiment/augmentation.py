"""Which crop, reflection and colour shift each sample gets (section 4.1), from (seed, epoch, index) alone.

Draws are planned in whole numbers and levels for a whole epoch, then carried out batch by batch, so both backends,
a resumed run, and a run with another placement see the same pixels.
"""

import ctypes
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.ctypeslib import ndpointer

from paper.recipe import DataReading
from protocol.base import native
from protocol.base.log import log
from protocol.base.random_bits import Purpose, below, normal, words
from protocol.datasets.store import Split

SOURCE = Path(__file__).with_suffix(".cc")
COLOUR_DEVIATION = 0.1
AS_CUT = DataReading()


@dataclass(frozen=True)
class Policy:
    """What is drawn. The paper draws all three; its ablations switch one off."""

    crops: bool = True
    reflections: bool = True
    colour: bool = True


@dataclass(frozen=True)
class EpochPlan:
    """One epoch's draws. ``order``: the sample at each place; the others by sample: (N,), ``shifts`` (N, 3)."""

    order: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    flips: np.ndarray
    shifts: np.ndarray

    def digest(self) -> str:
        """SHA-256 over every draw."""
        digest = hashlib.sha256()
        for array in (self.order, self.rows, self.columns, self.flips, self.shifts):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def plan_epoch(split: Split, crop: int, policy: Policy, seed: int, epoch: int) -> EpochPlan:
    """Draw one epoch.

    The colour shift is ``sum over i of p_i alpha_i sqrt(lambda_i)``, alpha ~ N(0, 0.1), p and lambda the principal
    components of the training pixels. The paper prints lambda; its code takes the root (DEVIATIONS.md, D4).
    """
    count = len(split)
    stream = (epoch, 0)
    order = np.argsort(words(seed, Purpose.ORDER, count, stream=stream), kind="stable")
    draws = words(seed, Purpose.PLACE, 3 * count, stream=stream).reshape(3, count)
    slack = split.edge - crop
    centre = np.full(count, slack // 2)
    shifts = np.zeros((count, 3), np.float32)
    if policy.colour:
        alphas = normal(seed, Purpose.COLOUR, 3 * count, stream=stream).reshape(count, 3) * np.float32(COLOUR_DEVIATION)
        # One component after the other, in float32: a matrix product's order of sums is the library's own affair.
        for alpha, component, variance in zip(alphas.T, split.components, split.variances, strict=True):
            shifts += alpha[:, None] * (component * np.sqrt(variance)).astype(np.float32)
    return EpochPlan(
        order=order,
        rows=below(draws[0], slack + 1) if policy.crops else centre,
        columns=below(draws[1], slack + 1) if policy.crops else centre,
        flips=below(draws[2], 2).astype(bool) if policy.reflections else np.zeros(count, bool),
        shifts=shifts,
    )


@dataclass(frozen=True)
class Means:
    """What is taken off crops: the part of the mean image (edge, edge, 3) at a crop's place, or its centre off all.

    ``mirrored``: what is taken off a crop before it is reflected. Where both are as large as the crop they are the
    centre of the mean image, and its mirror image, since there reflected crops meet the centre as it is.
    """

    straight: np.ndarray
    mirrored: np.ndarray

    @classmethod
    def of(cls, split: Split, crop: int, reading: DataReading) -> "Means":
        if not reading.centre_mean:
            return cls(split.mean, split.mean)
        centre = centre_of(split.mean, crop)
        return cls(centre, np.ascontiguousarray(centre[:, ::-1]))


def centre_of(image: np.ndarray, crop: int) -> np.ndarray:
    """The middle (crop, crop, 3) of an image (edge, edge, 3)."""
    first = (len(image) - crop) // 2
    return np.ascontiguousarray(image[first : first + crop, first : first + crop])


def training_batch(
    split: Split,
    plan: EpochPlan,
    crop: int,
    samples: np.ndarray,
    out: np.ndarray | None = None,
    reading: DataReading = AS_CUT,
) -> np.ndarray:
    """Carry the plan out for ``samples``: (batch, 3, crop, crop) float32, mean image subtracted, 0-255 scale.

    ``out``: an earlier batch to write over. A new one of tens of megabytes costs the system a third of the time that
    filling it does.

    Raises:
        IndexError: the plan, the samples or ``out`` do not suit the images.
    """
    batch = np.empty((len(samples), 3, crop, crop), np.float32) if out is None else out
    _check(split, plan, crop, samples, batch)
    split.hold(samples)
    means, factor = Means.of(split, crop, reading), float(np.float32(1 / reading.divisor))
    (compiled() or composed)(split, means, plan, crop, samples, factor, batch)
    return batch


def _check(split: Split, plan: EpochPlan, crop: int, samples: np.ndarray, batch: np.ndarray) -> None:
    count, image = len(split), (split.edge, split.edge, 3)
    shapes = (
        (split.images, (count, *image)),
        (split.mean, image),
        *((draws, (count,)) for draws in (plan.rows, plan.columns, plan.flips)),
        (plan.shifts, (count, 3)),
        (batch, (len(samples), 3, crop, crop)),
    )
    if any(array.shape != shape for array, shape in shapes):
        raise IndexError(f"not a plan for {count} images of {split.edge} pixels, or no room for {len(samples)} crops")
    corners = (plan.rows[samples], plan.columns[samples])  # looks whether the samples are there, too
    if samples.min() < 0 or any(corner.min() < 0 or corner.max() > split.edge - crop for corner in corners):
        raise IndexError(f"the plan reaches beyond the {count} images of {split.edge} pixels")


Carrier = Callable[[Split, Means, EpochPlan, int, np.ndarray, float, np.ndarray], None]


@lru_cache(maxsize=1)
def compiled() -> Carrier | None:
    """What writes a batch in C++, two to three times as fast as numpy; None where it does not compile."""
    if native.compiler() is None:
        log("no C++ compiler found: numpy augments images, which takes two to three times as long")
        return None
    try:
        augment = ctypes.CDLL(str(native.library(SOURCE.stem, (SOURCE,), "none", ()))).augment
    except (subprocess.CalledProcessError, OSError) as error:
        log(f"{SOURCE.name} does not compile or load, so numpy augments:\n{getattr(error, 'stderr', error)}")
        return None

    def array(dtype: type, dimensions: int) -> type:
        return ndpointer(dtype, dimensions, flags="C_CONTIGUOUS")

    number, numbers = ctypes.c_int64, array(np.int64, 1)
    draws = (numbers, numbers, array(np.bool_, 1), array(np.float32, 2))
    batch = ndpointer(np.float32, 4, flags=["C_CONTIGUOUS", "WRITEABLE"])
    images, mean, factor = array(np.uint8, 4), array(np.float32, 3), ctypes.c_float
    augment.argtypes = (images, number, mean, mean, number, *draws, numbers, number, number, factor, batch)
    augment.restype = None

    def write_batch(
        split: Split, means: Means, plan: EpochPlan, crop: int, samples: np.ndarray, scale: float, batch: np.ndarray
    ) -> None:
        draws = (plan.rows, plan.columns, plan.flips, plan.shifts)
        taken = (means.straight, means.mirrored, len(means.straight))
        augment(split.images, split.edge, *taken, *draws, samples, len(samples), crop, scale, batch)

    return write_batch


def implementation() -> str:
    """Which of the two this process uses."""
    return "compiled loop" if compiled() else "numpy"


def composed(
    split: Split, means: Means, plan: EpochPlan, crop: int, samples: np.ndarray, scale: float, batch: np.ndarray
) -> None:
    """Write the batch by numpy."""
    # A row of pixels as one run of 3 * edge values: loops over three at a time would be twice as slow.
    images = np.asarray(split.images).reshape(len(split), split.edge, -1)
    centred = len(means.straight) != split.edge
    pixels = np.empty((crop, 3 * crop), np.float32)  # stays in the cache
    for place, sample in enumerate(samples):
        rows = slice(plan.rows[sample], plan.rows[sample] + crop)
        columns = slice(3 * plan.columns[sample], 3 * (plan.columns[sample] + crop))
        np.copyto(pixels, images[sample, rows, columns])
        mean = means.mirrored if plan.flips[sample] else means.straight
        mean = mean.reshape(len(mean), -1)
        pixels -= mean if centred else mean[rows, columns]
        coloured = pixels.reshape(crop, crop, 3)
        if plan.flips[sample]:
            coloured = coloured[:, ::-1]
        for colour in range(3):
            np.add(coloured[:, :, colour], plan.shifts[sample, colour], out=batch[place, colour])
        if scale != 1:
            batch[place] *= np.float32(scale)


def views(split: Split, crop: int, samples: np.ndarray, *, ten: bool, reading: DataReading = AS_CUT) -> np.ndarray:
    """Return test views (views, batch, 3, crop, crop) float32: the centre, or ten (section 4.1).

    The ten are the four corners and the centre, then the reflection of each.
    """
    slack = split.edge - crop
    centre = (slack // 2, slack // 2)
    places = [(0, 0), (0, slack), (slack, 0), (slack, slack), centre] if ten else [centre]
    split.hold(samples)
    pixels = split.images[samples].astype(np.float32)
    if not reading.centre_mean:
        pixels -= split.mean
    crops = np.stack([pixels[:, row : row + crop, column : column + crop] for row, column in places])
    if ten:
        crops = np.concatenate([crops, crops[:, :, :, ::-1]])
    if reading.centre_mean:
        crops -= centre_of(split.mean, crop)
    return np.ascontiguousarray(crops.transpose(0, 1, 4, 2, 3))

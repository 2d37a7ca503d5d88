"""What lies in a link, read off its responses alone: nonlinearity, norm, pooling, dropout."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, tanh

import numpy as np

from protocol.lint.record import Ending, Reach, Response

CLOSE = 1e-4  # relative; float32 and an approximate power stay within
FITS = 1e-3  # of the logarithm of a norm's response
LARGEST_WINDOW = 16
NOTHING = 0.01  # a share of zeros


def close(left: float, right: float, tolerance: float = CLOSE) -> bool:
    return abs(left - right) <= tolerance * max(abs(left), abs(right))


def steady(response: Response) -> bool:
    """Whether nothing is dropped at test, without which a single reading tells nothing."""
    return response.lost_tested < NOTHING


def bounded(response: Response) -> bool:
    """Whether two positive inputs give the same, as beyond a limit: neighbours may count there, and not show."""
    positive = [arrives for value, arrives in sorted(response.curve) if value > 0]
    return any(close(left, right, 1e-6) for left, right in pairwise(positive))


@dataclass(frozen=True)
class Windows:
    """Windows of ``size`` rows every ``stride``; the first is ``pad`` rows early, the last ``end`` rows late."""

    size: int
    stride: int
    pad: int
    end: int

    @property
    def rounds(self) -> str:
        """How the number of windows was rounded."""
        if self.end > self.pad:
            return "up"
        return "down" if self.end < self.pad else "windows fit"


def windows(reach: Reach, rows: int, count: int, sizes: Iterable[int]) -> Windows | None:
    """The smallest windows, of one of ``sizes``, in which each row meets just the outputs that respond to it."""
    for size in sizes:
        for stride in range(1, LARGEST_WINDOW + 1):
            for pad in range(size):
                if all(_span(row, size, stride, pad, count) == (first, last) for row, first, last in reach):
                    return Windows(size, stride, pad, (count - 1) * stride + size - pad - rows)
    return None


def _span(row: int, size: int, stride: int, pad: int, count: int) -> tuple[int, int]:
    """First and last window that holds ``row``; -1, -1 where none does."""
    first = max(0, -(-(row + pad - size + 1) // stride))
    last = min(count - 1, (row + pad) // stride)
    return (first, last) if first <= last else (-1, -1)


def pooling(response: Response) -> Windows | None:
    """The windows of a link; None where there are none that are alike. Windows of one row each are no pooling."""
    count = max((last for _, _, last in response.reach), default=0) + 1
    return windows(response.reach, len(response.reach), count, range(1, LARGEST_WINDOW))


def pools(response: Response) -> bool:
    return any((first, last) != (row, row) for row, first, last in response.reach)


def farther_than_asked(response: Response) -> bool:
    """Whether a window takes in more rows than any that was tried."""
    held = Counter(place for _, first, last in response.reach if last >= 0 for place in range(first, last + 1))
    return max(held.values(), default=0) >= LARGEST_WINDOW


def takes_largest(response: Response) -> bool | None:
    """Whether pooling keeps the largest of a window, to which another value adds nothing; None if none was asked.

    Which of two values is the larger one a norm before the pooling may turn about, so each was asked alone, too.
    """
    places = response.places
    if places is None:
        return None
    return places.beside <= max(places.dim, places.half) * (1 + CLOSE)


def alone(neighbours: Iterable[tuple[int, float]]) -> float:
    """What arrives of a map without neighbours."""
    return dict(neighbours)[0]


def nonlinearity(response: Response) -> str:
    positive = {value: arrives for value, arrives in response.curve if value > 0}
    negative = {value: arrives for value, arrives in response.curve if value < 0}
    if any(arrives <= 0 for arrives in positive.values()):
        return "another"
    if not any(negative.values()):
        if not bounded(response):
            return "ReLU"
        cap = cut_off(response)
        return "ReLU up to a limit" if cap is None else f"ReLU up to {cap:g}"
    if all(close(arrives, -positive[-value]) for value, arrives in negative.items()):
        saturated = positive[max(positive)]
        if all(close(arrives, saturated * tanh(value)) for value, arrives in positive.items()):
            return "tanh"
        return "another" if bounded(response) else "none"
    return "another"


def cut_off(response: Response) -> float | None:
    """The value that positive inputs never get beyond, up to which they pass as they are; None where there is none.

    Where a norm bends them or scales them, what arrives at the most is not what the nonlinearity lets through.
    """
    points = sorted((value, arrives) for value, arrives in response.curve if value > 0)
    (least, first), (_, cap) = points[0], points[-1]
    as_they_are = close(first, least) and all(close(arrives, min(value, cap)) for value, arrives in points)
    return cap if as_they_are and cap < points[-1][0] / 2 else None


def window_of(neighbours: Iterable[tuple[int, float]]) -> int:
    """Over how many maps a norm reaches, the map itself included; 1 where no neighbour counts."""
    read = dict(neighbours)
    left = max((-step for step in read if step < 0 and not close(read[step], read[0])), default=0)
    right = max((step for step in read if step > 0 and not close(read[step], read[0])), default=0)
    return 1 + left + right


def window_words(neighbours: Iterable[tuple[int, float]]) -> str:
    """The window in words: neighbours farther off than those that were asked may count as well."""
    read = dict(neighbours)
    reach = window_of(read.items())
    farthest = [step for step in (min(read), max(read)) if step and not close(read[step], read[0])]
    return f"{reach} or more" if len(farthest) == 2 else str(reach)


@dataclass(frozen=True)
class NormFit:
    """``a / (k + alpha * sum(a^2))^beta``: ``alpha`` as it reaches the sum."""

    alpha: float
    beta: float
    k: float


def norms(response: Response) -> bool | None:
    """Whether a map's neighbours in other maps, or its own size, scale it; None where that would not show.

    What saturates lets through too little for a norm to scale by much.
    """
    if window_of(response.neighbours) > 1:
        return True
    if bounded(response) or nonlinearity(response) not in ("ReLU", "none"):
        return None
    ratios = [arrives / value for value, arrives in response.curve if value > 0]
    return not close(min(ratios), max(ratios), FITS)


def fit_norm(response: Response) -> NormFit | None:
    """The constants of the norm; None where the response has another form, such as two norms one after the other."""
    points = [(value, arrives) for value, arrives in response.curve if value > 0]
    value, arrives = np.array(points).T
    if not (arrives > 0).all():
        return None
    squares, ratio = value**2, np.log(arrives / value)
    # Where the sum prevails the response falls by 2 beta for each factor of its input.
    beta = -(ratio[-1] - ratio[-2]) / np.log(squares[-1] / squares[-2])
    if beta <= 0:
        return None
    parameters = np.array([-ratio[0] / beta, -ratio[-1] / beta - np.log(squares[-1]), np.log(beta)])
    for _ in range(50):  # Gauss and Newton, in logarithms of k, alpha and beta
        k, alpha, beta = np.exp(parameters)
        total = k + alpha * squares
        residual = ratio + beta * np.log(total)
        slopes = np.stack([beta * k / total, beta * alpha * squares / total, beta * np.log(total)], axis=1)
        if not np.isfinite(slopes).all():
            return None
        step, *_ = np.linalg.lstsq(slopes, -residual, rcond=None)
        parameters = parameters + np.clip(step, -1, 1)
    if not np.abs(residual).max() < FITS:
        return None
    return NormFit(float(alpha), float(beta), float(k))


def norm_follows_relu(response: Response) -> bool:
    """Whether a negative neighbour has been cut off before the norm could count it."""
    return close(response.opposed, alone(response.neighbours))


def norm_precedes_pooling(response: Response) -> bool | None:
    """Whether a neighbour elsewhere in the window leaves a value alone; None where no neighbour counts."""
    places = response.places
    if places is None or close(places.same, places.lone) or places.same == 0:
        return None
    return close(places.other, places.lone)


def norms_within_map(response: Response) -> bool | None:
    """Whether a smaller value beside another in its map scales it; None where pooling would hide that."""
    if response.places is None or (pools(response) and not takes_largest(response)):
        return None
    return not close(response.places.beside, max(response.places.dim, response.places.half))


def drops(response: Response) -> bool | None:
    """Whether something is lost by chance; None where something happens by chance that is no loss of what arrives."""
    return None if isnan(response.lost) else NOTHING < response.lost < 1 - NOTHING


def dropout(response: Response) -> tuple[float, str] | None:
    """The share that is lost, and how the mean is kept; None where nothing is lost."""
    lost = response.lost
    if not drops(response):
        return None
    if not steady(response):
        return lost, "on at test too"
    untouched = tanh(1) if nonlinearity(response) == "tanh" else 1.0
    if not response.survivors or response.batched:
        # Batch normalisation changes the mean too, or took away all that the stimulus was.
        return lost, ""
    ratio = response.tested / response.survivors
    # A share of masks is known to about a percent.
    if abs(ratio - (1 - lost)) < 0.03:
        return lost, "scaled at test" if close(response.survivors, untouched, 0.02) else "scaled in training"
    if abs(ratio - 1) < 0.03:
        return lost, "never scaled"
    return lost, "scaled twice" if abs(ratio - (1 - lost) ** 2) < 0.03 else f"scaled by {ratio:.2f} at test"


def output_of(ending: Ending) -> str:
    if ending.change == 0:
        return "logits"
    if close(ending.total, 1, 1e-3):
        return "probabilities"
    return "log-probabilities" if abs(ending.log_total) < 1e-3 else "another"

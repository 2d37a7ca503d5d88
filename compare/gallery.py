"""The two halves of the paper's figure 4: images with their likeliest labels, and images with those nearest to them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GUESSES = 5
RIGHT, OTHER, SAME = "#7fb8d4", "0.8", "#0b6e99"
LONGEST = 20  # letters of a label
SMALL = 64  # pixels


def _show(panel: Axes, image: np.ndarray) -> None:
    """Draw an image; the pixels of a small one stay what they are."""
    panel.imshow(image, interpolation="nearest" if max(image.shape) <= SMALL else None)


def guesses(
    images: np.ndarray, titles: Sequence[str], right: Sequence[int | None], likely: np.ndarray, classes: Sequence[str]
) -> Figure:
    """Images (count, rows, columns, 3) from 0 to 1 over their five likeliest labels; the ``right`` one is blue.

    ``likely``: probabilities (count, classes).
    """
    count, shown = len(images), min(GUESSES, likely.shape[1])
    figure, axes = plt.subplots(
        2, count, figsize=(1.75 * count, 3.6), layout="constrained", height_ratios=(3, 2), squeeze=False
    )
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        _show(axes[0, place], image)
        axes[0, place].set_title(title[-LONGEST:], fontsize=9)
        axes[0, place].axis("off")
        best = np.argsort(-likely[place], kind="stable")[:shown]
        bars = axes[1, place]
        bars.barh(range(shown), likely[place, best], color=[RIGHT if own == right[place] else OTHER for own in best])
        for at, label in enumerate(best):
            bars.text(0.03, at, classes[label][:LONGEST], va="center", fontsize=8)
        bars.set(xlim=(0, 1), ylim=(shown - 0.5, -0.5), yticks=[], xticks=(0, 0.5, 1), xticklabels=("0", "", "1"))
        bars.tick_params(labelsize=7)
    figure.supxlabel("probability; blue: the right label", fontsize=9)
    return figure


def neighbours(
    queries: np.ndarray,
    nearest: Mapping[str, np.ndarray],
    titles: Sequence[str] = (),
    alike: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Images (count, rows, columns, 3) beside the nearest to each: by what they are compared in, (count, k, ...).

    ``titles``: the images' classes, if known; ``alike``: which of the nearest are of the same class, and framed,
    (count, k).
    """
    k = next(iter(nearest.values())).shape[1]
    wide = 3 + len(nearest) * k + len(nearest) - 2
    figure, axes = plt.subplots(
        len(queries), wide, figsize=(0.74 * wide, 0.84 * len(queries) + 0.3), layout="constrained", squeeze=False
    )
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for row, image in zip(axes, queries, strict=True):
        _show(row[0], image)
    for row, title in zip(axes, titles or ("test",), strict=False):
        row[0].set_title(title[:LONGEST], fontsize=7, pad=2, loc="left")
    for block, (name, found) in enumerate(nearest.items()):
        first = 2 + block * (k + 1)
        axes[0, first].set_title(f"nearest in {name}", fontsize=9, loc="left")
        for place, (row, images) in enumerate(zip(axes, found, strict=True)):
            for at, (panel, image) in enumerate(zip(row[first : first + k], images, strict=True)):
                _show(panel, image)
                if alike and alike[name][place, at]:
                    panel.spines[:].set(visible=True, color=SAME, linewidth=2.5)
    if alike:
        figure.supxlabel("framed: of the same class as the test image", fontsize=9)
    return figure

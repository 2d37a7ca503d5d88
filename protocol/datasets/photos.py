"""The embedded data set: twenty real photographs and textures that scikit-image and scikit-learn ship.

A class is a photograph; a sample is a crop of it at a random place and scale. It stands in for ImageNet on a laptop:
large enough to tell a network that learns from one that does not, far too small to contradict an ImageNet claim.

Each photograph is cut into tiles; a crop never leaves its tile, and the tiles marked T are the test set's. The small
edition, from which accuracy is measured, has 4 x 4 tiles; the full one 2 x 2, to need less magnifying:

    T . . .        . .
    . . T .        . T
    . T . .
    . . . T
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from protocol.base.random_bits import Purpose, below, words
from protocol.datasets.store import Manifest, write_store

COLOUR = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket", "hubble_deep_field", "ihc", "retina")
SAMPLES = ("china", "flower")
GREY = ("brick", "grass", "gravel", "coins", "camera", "moon", "cell", "clock_motion", "page", "text")
CLASSES = COLOUR + SAMPLES + GREY


@dataclass(frozen=True)
class Edition:
    """One size of the data set. ``smallest``: the shortest side of a crop, as a share of its tile's shorter side.

    ``classes``: those that are in it. The full edition magnifies what is smaller than 256 pixels: it is for parity,
    memory and speed, not for accuracy.
    """

    name: str
    edge: int
    train: int
    test: int
    grid: int
    test_tiles: frozenset[tuple[int, int]]
    smallest: float
    classes: tuple[str, ...] = CLASSES


SCATTERED = frozenset({(0, 0), (1, 2), (2, 1), (3, 3)})
EDITIONS = {
    edition.name: edition
    for edition in (
        Edition("small", 36, 10_000, 2_000, 4, SCATTERED, 0.4),
        # Do columns part by colour where no class is grey?
        Edition("colour", 36, 10_000, 2_000, 4, SCATTERED, 0.4, COLOUR + SAMPLES),
        Edition("full", 256, 512, 64, 2, frozenset({(1, 1)}), 0.9),
    )
}


def photographs() -> Iterator[np.ndarray]:
    """Yield each class's photograph, (rows, columns, 3) uint8, grey ones with three equal channels."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    for name in COLOUR:
        (path,) = folder.glob(f"{name}.*")
        yield np.asarray(Image.open(path).convert("RGB"))
    yield from load_sample_images().images
    for name in GREY:
        yield np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))


def crops(photograph: np.ndarray, label: int, edition: Edition, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Cut ``part``'s crops of one photograph: images (count, edge, edge, 3) uint8 and their tiles (count,)."""
    tiles = [
        (row, column)
        for row in range(edition.grid)
        for column in range(edition.grid)
        if ((row, column) in edition.test_tiles) == (part == "test")
    ]
    height, width = photograph.shape[0] // edition.grid, photograph.shape[1] // edition.grid
    total = edition.train if part == "train" else edition.test
    # Classes share the total as evenly as it divides.
    count = total // len(edition.classes) + (label < total % len(edition.classes))
    draws = words(label, Purpose.CROPS, 4 * count, stream=(edition.edge, part == "test")).reshape(4, count)
    which = below(draws[0], len(tiles))
    smallest = round(edition.smallest * min(height, width))
    sides = smallest + below(draws[1], min(height, width) - smallest + 1)
    image = Image.fromarray(photograph)
    images = np.empty((count, edition.edge, edition.edge, 3), np.uint8)
    for index, side in enumerate(sides.tolist()):
        row, column = tiles[which[index]]
        top = row * height + int(below(draws[2, index : index + 1], height - side + 1)[0])
        left = column * width + int(below(draws[3, index : index + 1], width - side + 1)[0])
        box = (left, top, left + side, top + side)
        size = (edition.edge, edition.edge)
        images[index] = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))
    numbers = np.array([row * edition.grid + column for row, column in tiles])
    return images, label * edition.grid**2 + numbers[which]


def prepare(folder: Path, edition: Edition) -> Manifest:
    """Write the store of ``edition`` to ``folder``."""
    parts: dict[str, list[np.ndarray]] = {}
    for label, (name, photograph) in enumerate(zip(CLASSES, photographs(), strict=True)):
        if name not in edition.classes:  # those that a smaller edition has come first
            continue
        for part in ("train", "test"):
            images, tiles = crops(photograph, label, edition, part)
            parts.setdefault(f"{part}_images", []).append(images)
            parts.setdefault(f"{part}_labels", []).append(np.full(len(images), label))
            parts.setdefault(f"{part}_tiles", []).append(tiles)
    arrays = {key: np.concatenate(value) for key, value in parts.items()}
    # Interleave the classes, so that the first k samples are a fair cut of any size.
    for part in ("train", "test"):
        order = np.argsort(words(0, Purpose.ORDER, len(arrays[f"{part}_labels"])), kind="stable")
        for key in ("images", "labels", "tiles"):
            arrays[f"{part}_{key}"] = arrays[f"{part}_{key}"][order]
    measured = colour_statistics(arrays) if edition.name == "small" else {}
    return write_store(
        folder,
        f"photos-{edition.name}",
        list(edition.classes),
        arrays,
        source="photographs in the wheels of scikit-image and scikit-learn",
        colour_statistics=measured,
    )


def colour_statistics(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of test crops that a linear classifier and a forest recognise from each colour's mean and deviation alone.

    What a network must beat to show that it sees more than colour.
    """

    def features(images: np.ndarray) -> np.ndarray:
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)

    classifiers = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "forest": RandomForestClassifier(200, random_state=0),
    }
    train, test = features(arrays["train_images"]), features(arrays["test_images"])
    return {
        name: float(classifier.fit(train, arrays["train_labels"]).score(test, arrays["test_labels"]))
        for name, classifier in classifiers.items()
    }

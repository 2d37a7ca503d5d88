"""What a model makes of one's own pictures, from the folder that a backend's verb ``outputs`` wrote."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from compare import gallery
from compare.style import save
from protocol.base.errors import Misuse
from protocol.base.files import replacing
from protocol.base.tables import write_table
from protocol.datasets.preparation import file_names
from protocol.datasets.store import Split, Store, open_store
from protocol.runs.outputs import Outputs, read

SHOWN, NEAREST = 8, 6
ROWS = 4096  # of features compared at a time
GUESS_COLUMNS = ("file", "label", "place", "guess", "probability")
NEIGHBOUR_COLUMNS = ("file", "place", "neighbour", "distance")


def opened(folder: Path, data: Path, part: str) -> tuple[Outputs, dict[str, np.ndarray], Store]:
    """Outputs with the store that they are of.

    Raises:
        Misuse: there are none of ``part``, or the store has changed since.
    """
    record, arrays = read(folder)
    store = open_store(data / record.store)
    if store.manifest.digest != record.store_digest:
        raise Misuse(f"{data / record.store} is not the store that {folder} was made from: write the outputs again")
    if f"{part}_features" not in arrays:
        raise Misuse(f"{folder} holds nothing of the {part} part: write the outputs again, with it among --parts")
    return record, arrays, store


def _chosen(told: str | None, count: int) -> np.ndarray:
    """The images that are asked for by number, or some spread over all.

    Raises:
        Misuse: a number is none, or beyond the last.
    """
    if told is None:
        return np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)
    words = told.split(",")
    if not all(word.isdecimal() and int(word) < count for word in words):
        raise Misuse(f"--images must be numbers below {count}, such as 0,5,9, not {told[:80]!r}")
    return np.array([int(word) for word in words])


def _shown(split: Split, images: np.ndarray) -> np.ndarray:
    return np.asarray(split.images[images] / 255)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as draft:
        save(figure, draft)


def classify(folder: Path, data: Path, told: str | None) -> list[Path]:
    """Write every test image's five likeliest classes, and draw some (figure 4, left). Returns what was written.

    Raises:
        Misuse: as :func:`opened` and :func:`_chosen` say.
    """
    record, arrays, store = opened(folder, data, "test")
    split, likely = store.test, arrays["test_probabilities"]
    chosen = _chosen(told, len(split))
    own, count = store.manifest.classes, likely.shape[1]
    # A model that was trained on this store answers to its classes; of another, only the numbers may be known.
    classes = record.classes or (own if len(own) == count else [])
    classes = [*classes, *(f"class {number}" for number in range(len(classes), count))]
    names = file_names(data / record.store, "test", len(split))
    best = np.argsort(-np.asarray(likely), axis=1, kind="stable")[:, : gallery.GUESSES]
    rows = (
        {
            "file": names[image],
            "label": own[split.labels[image]],
            "place": place + 1,
            "guess": classes[label],
            "probability": float(likely[image, label]),
        }
        for image in range(len(split))
        for place, label in enumerate(best[image])
    )
    write_table(folder / "guesses.csv", GUESS_COLUMNS, rows)
    titles = [Path(names[image]).stem for image in chosen]
    right = [classes.index(name) if (name := own[split.labels[image]]) in classes else None for image in chosen]
    _save(gallery.guesses(_shown(split, chosen), titles, right, likely[chosen], classes), folder / "guesses.png")
    return [folder / "guesses.csv", folder / "guesses.png"]


def search(folder: Path, data: Path, told: str | None) -> list[Path]:
    """Find the training images nearest to test images in fc7, and draw them (figure 4, right).

    Raises:
        Misuse: as :func:`opened` and :func:`_chosen` say.
    """
    record, arrays, store = opened(folder, data, "test")
    opened(folder, data, "train")
    chosen = _chosen(told, len(store.test))
    found, distances = nearest(arrays["train_features"], np.asarray(arrays["test_features"][chosen]), NEAREST)
    asked, known = (
        file_names(data / record.store, part, len(split))
        for part, split in (("test", store.test), ("train", store.train))
    )
    rows = (
        {"file": asked[query], "place": place + 1, "neighbour": known[image], "distance": float(distance)}
        for query, images, away in zip(chosen, found, distances, strict=True)
        for place, (image, distance) in enumerate(zip(images, away, strict=True))
    )
    write_table(folder / "neighbours.csv", NEIGHBOUR_COLUMNS, rows)
    pixels = _shown(store.train, found.ravel())
    shown = {"fc7": pixels.reshape(*found.shape, *pixels.shape[1:])}
    _save(gallery.neighbours(_shown(store.test, chosen), shown), folder / "neighbours.png")
    return [folder / "neighbours.csv", folder / "neighbours.png"]


def nearest(known: np.ndarray, asked: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of ``known`` (N, units), a part at a time, the ``count`` nearest to each of ``asked``: places and distances."""
    squared = np.empty((len(asked), len(known)))
    for start in range(0, len(known), ROWS):
        part = np.asarray(known[start : start + ROWS], np.float64)
        across = ((asked[:, None].astype(np.float64) ** 2).sum(axis=2)) + (part**2).sum(axis=1) - 2 * asked @ part.T
        squared[:, start : start + ROWS] = np.maximum(across, 0)
    places = np.argsort(squared, axis=1, kind="stable")[:, :count]
    return places, np.sqrt(np.take_along_axis(squared, places, axis=1))

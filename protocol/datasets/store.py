"""A prepared data set on disk: uint8 images and labels, the training set's mean image and principal colours.

store.json          version, name, classes, edge, counts, a SHA-256 of every other file, what was measured on it
train_images.npy    (N, edge, edge, 3) uint8        test_images.npy
train_labels.npy    (N,) int64                      test_labels.npy
train_tiles.npy     (N,) int64: where a sample came from, the unit images cluster by
mean.npy            (edge, edge, 3) float32, 0-255
components.npy      (3, 3) float64, rows p_i        variances.npy (3,) float64, lambda_i, both of RGB 0-255
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from protocol.base.files import digest_file, new_folder
from protocol.base.sealed import Damaged, one_line, read_sealed, write_sealed

VERSION = 2
PARTS = ("train", "test")
KINDS = ("images", "labels", "tiles")
ARRAYS = (*(f"{part}_{kind}" for part in PARTS for kind in KINDS), "mean", "components", "variances")
FILES = tuple(f"{name}.npy" for name in ARRAYS)
HOLDS = ("store.json", *FILES)  # all that a store's folder may hold
COMPONENT_DIGITS, VARIANCE_DIGITS = 9, 6  # after the point: far more than colours are shifted by
REMEDY = "delete the folder and prepare the store again"


class Manifest(BaseModel):
    """``store.json``."""

    model_config = ConfigDict(extra="forbid")

    version: int
    name: str
    classes: list[str]
    edge: int
    counts: dict[str, int]
    sha256: dict[str, str]
    colour_statistics: dict[str, float]
    source: str

    @property
    def digest(self) -> str:
        """One hash that stands for every byte of the store."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Split:
    """Training or test images with what the training set's statistics say of both."""

    images: np.ndarray  # (N, edge, edge, 3) uint8, memory-mapped
    labels: np.ndarray  # (N,) int64
    tiles: np.ndarray  # (N,) int64
    mean: np.ndarray  # (edge, edge, 3) float32
    components: np.ndarray  # (3, 3) float64
    variances: np.ndarray  # (3,) float64

    @property
    def edge(self) -> int:
        return self.images.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Split":
        """The first ``count`` images, or all."""
        return replace(self, images=self.images[:count], labels=self.labels[:count], tiles=self.tiles[:count])


@dataclass(frozen=True)
class Store:
    manifest: Manifest
    train: Split
    test: Split


def read_manifest(folder: Path) -> Manifest:
    """Read ``store.json``.

    Raises:
        Misuse: there is no store, it is damaged, or another version of this project wrote it.
    """
    missing = f"there is no data store at {folder}; make one with: {command_for(folder)}"
    manifest = read_sealed(folder / "store.json", Manifest, VERSION, missing, REMEDY)
    if manifest.sha256.keys() != set(FILES):
        raise Damaged(f"{folder / 'store.json'} does not list the files of a store: {REMEDY}")
    return manifest


def command_for(folder: Path) -> str:
    """What prepares the store in ``folder``."""
    what = "imagenet --train FOLDER --validation FOLDER" if folder.name == "imagenet" else "photos"
    where = "" if folder.parent == Path("results/stores") else f" --data {folder.parent}"
    return f"nox -s prepare -- {what}{where}"


def open_store(folder: Path, *, verify: bool = True) -> Store:
    """Open a store; ``verify`` checks every file against its checksum.

    Raises:
        Misuse: there is no store, or another version of this project wrote it.
        Damaged: a file is missing, truncated or altered, or does not fit the others.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{path} is missing: {REMEDY}")
        if verify and digest_file(path) != expected:
            raise Damaged(f"{path} is truncated or altered: {REMEDY}")

    def array(name: str) -> np.ndarray:
        try:
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
            raise Damaged(f"{folder / name}.npy is no array of numbers ({one_line(error)}): {REMEDY}") from None

    found = {name: array(name) for name in ARRAYS}
    _check_arrays(folder, manifest, found)
    mean, components, variances = (np.asarray(found[name]) for name in ("mean", "components", "variances"))

    def split(part: str) -> Split:
        images, labels, tiles = (found[f"{part}_{kind}"] for kind in KINDS)
        return Split(images, labels, tiles, mean, components, variances)

    return Store(manifest, split("train"), split("test"))


def _check_arrays(folder: Path, manifest: Manifest, found: Mapping[str, np.ndarray]) -> None:
    """See that the arrays are those of one store.

    Raises:
        Damaged: one has another shape or type, or holds what no store can.
    """
    edge = manifest.edge
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "mean": ((edge, edge, 3), np.float32),
        "components": ((3, 3), np.float64),
        "variances": ((3,), np.float64),
    }
    for part in PARTS:
        count = manifest.counts.get(part, 0)
        shapes[f"{part}_images"] = ((count, edge, edge, 3), np.uint8)
        shapes[f"{part}_labels"] = shapes[f"{part}_tiles"] = ((count,), np.int64)
    for name, (shape, dtype) in shapes.items():
        array = found[name]
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            expected = f"{np.dtype(dtype)} {shape}"
            raise Damaged(f"{folder / name}.npy is {array.dtype} {array.shape}, where {expected} belongs: {REMEDY}")
    for name in ("mean", "components", "variances"):
        if not np.isfinite(found[name]).all():
            raise Damaged(f"{folder / name}.npy holds what is no number: {REMEDY}")
    for part in PARTS:
        labels = found[f"{part}_labels"]
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(manifest.classes):
            raise Damaged(f"{folder}: {part}_labels.npy names classes that there are not: {REMEDY}")


def write_store(
    folder: Path,
    name: str,
    classes: list[str],
    arrays: Mapping[str, np.ndarray],
    *,
    source: str,
    colour_statistics: dict[str, float],
) -> Manifest:
    """Write a store of ``arrays``: images, labels and tiles of both parts."""
    with new_folder(folder, HOLDS, "store.json") as draft:
        for key, array in arrays.items():
            np.save(draft / f"{key}.npy", array, allow_pickle=False)
        return seal(draft, name, classes, source=source, colour_statistics=colour_statistics)


def seal(draft: Path, name: str, classes: list[str], *, source: str, colour_statistics: dict[str, float]) -> Manifest:
    """Add the training set's statistics and the manifest to a folder that holds both parts' arrays."""
    images = np.load(draft / "train_images.npy", mmap_mode="r", allow_pickle=False)
    for key, array in zip(("mean", "components", "variances"), statistics(images), strict=True):
        np.save(draft / f"{key}.npy", array, allow_pickle=False)
    manifest = Manifest(
        version=VERSION,
        name=name,
        classes=classes,
        edge=int(images.shape[1]),
        counts={part: len(np.load(draft / f"{part}_labels.npy", mmap_mode="r")) for part in PARTS},
        sha256={name: digest_file(draft / name) for name in FILES},
        colour_statistics=colour_statistics,
        source=source,
    )
    write_sealed(draft / "store.json", manifest)
    return manifest


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean image, and principal components and variances of the RGB values of all pixels (section 4.1)."""
    total = np.zeros(images.shape[1:])
    first, second, pixels = np.zeros(3), np.zeros((3, 3)), 0
    for start in range(0, len(images), 256):
        chunk = images[start : start + 256].astype(np.float64)
        total += chunk.sum(axis=0)
        flat = chunk.reshape(-1, 3)
        first += flat.sum(axis=0)
        second += flat.T @ flat
        pixels += len(flat)
    centre = first / pixels
    variances, vectors = np.linalg.eigh(second / pixels - np.outer(centre, centre))
    components = vectors.T[::-1]
    # An eigenvector's sign is arbitrary: its largest entry is made positive, so that any library gives the same.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(3), largest])[:, None]
    # Nor are its last bits: two processors' libraries differ in them, and a store's digest with them.
    components, variances = np.round(components, COMPONENT_DIGITS), np.round(variances[::-1], VARIANCE_DIGITS)
    return (total / len(images)).astype(np.float32), np.ascontiguousarray(components), np.maximum(variances, 0)

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
from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.errors import Misuse
from protocol.files import new_folder

VERSION = 1


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


def digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read ``store.json``.

    Raises:
        Misuse: there is no store, it is damaged, or a later version of this project wrote it.
    """
    path = folder / "store.json"
    if not path.is_file():
        raise Misuse(f"there is no data store at {folder}; make one with: nox -s prepare -- photos")
    try:
        content = json.loads(path.read_text())
        version = content.get("version")
        if version != VERSION:
            raise Misuse(f"{path} has version {version}; this project reads version {VERSION}: prepare the store again")
        return Manifest.model_validate(content)
    except (ValueError, ValidationError, AttributeError) as error:
        raise Misuse(
            f"{path} is damaged ({str(error).splitlines()[0]}): delete the folder and prepare it again"
        ) from error


def open_store(folder: Path, *, verify: bool = True) -> Store:
    """Open a store; ``verify`` checks every file against its checksum.

    Raises:
        Misuse: a file is missing, truncated or altered.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.sha256.items():
        path = folder / name
        if not path.is_file():
            raise Misuse(f"{path} is missing: delete the folder and prepare the store again")
        if verify and digest_file(path) != expected:
            raise Misuse(f"{path} is truncated or altered: delete the folder and prepare the store again")

    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def split(part: str) -> Split:
        shared = (np.asarray(array(name)) for name in ("mean", "components", "variances"))
        return Split(array(f"{part}_images"), array(f"{part}_labels"), array(f"{part}_tiles"), *shared)

    return Store(manifest, split("train"), split("test"))


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
    with new_folder(folder) as draft:
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
        counts={part: len(np.load(draft / f"{part}_labels.npy", mmap_mode="r")) for part in ("train", "test")},
        sha256={path.name: digest_file(path) for path in sorted(draft.glob("*.npy"))},
        colour_statistics=colour_statistics,
        source=source,
    )
    (draft / "store.json").write_text(manifest.model_dump_json(indent=1) + "\n")
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
    return (total / len(images)).astype(np.float32), components, np.maximum(variances[::-1], 0)

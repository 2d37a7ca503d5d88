"""A prepared data set on disk: uint8 images and labels, the training set's mean image and principal colours.

store.json          version, name, classes, edge, counts, a SHA-256 of every other file, what was measured on it
train_images.npy    (N, edge, edge, 3) uint8        test_images.npy
train_labels.npy    (N,) int64                      test_labels.npy
train_tiles.npy     (N,) int64: where a sample came from, the unit images cluster by
train_checks.npy    (N,) uint64: of each image, the beginning of its SHA-256     test_checks.npy; in some stores
mean.npy            (edge, edge, 3) float32, 0-255
components.npy      (3, 3) float64, rows p_i        variances.npy (3,) float64, lambda_i, both of RGB 0-255

A store of up to a gigabyte is held to its checksums whenever it is opened. Of a larger one with checks, a few images
are held to theirs then and the others as they are first read, and all other files in whole.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from protocol.base.files import digest_file, new_folder
from protocol.base.sealed import Damaged, one_line, read_sealed, write_sealed
from protocol.datasets.colours import Sums, principal_colours

VERSION = 2
PARTS = ("train", "test")
KINDS = ("images", "labels", "tiles")
ARRAYS = (*(f"{part}_{kind}" for part in PARTS for kind in KINDS), "mean", "components", "variances")
FILES = tuple(f"{name}.npy" for name in ARRAYS)
CHECKS = tuple(f"{part}_checks" for part in PARTS)
CHECKED = (*FILES, *(f"{name}.npy" for name in CHECKS))
IMAGES = tuple(f"{part}_images.npy" for part in PARTS)
HOLDS = ("store.json", *CHECKED)  # all that a store's folder may hold
READ_WHOLE = 2**30  # bytes of images that are held to their checksum at every start
SAMPLED = 16  # images of each part of a larger store
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


def check_of(image: np.ndarray) -> int:
    """The beginning of the SHA-256 of an image's bytes."""
    return int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "little")


@dataclass(frozen=True)
class Checks:
    """What images are held to as they are first read. ``where``: their file; ``seen``: which have been, (N,) bool."""

    where: Path
    values: np.ndarray  # (N,) uint64
    seen: np.ndarray

    def hold(self, images: np.ndarray, samples: Iterable[int]) -> None:
        """See that these images are what was stored.

        Raises:
            Damaged: one is not.
        """
        for sample in samples:
            if not self.seen[sample]:
                if check_of(images[sample]) != self.values[sample]:
                    raise Damaged(f"{self.where}: image {sample} is damaged: {REMEDY}")
                self.seen[sample] = True


@dataclass(frozen=True)
class Split:
    """Training or test images with what the training set's statistics say of both."""

    images: np.ndarray  # (N, edge, edge, 3) uint8, memory-mapped
    labels: np.ndarray  # (N,) int64
    tiles: np.ndarray  # (N,) int64
    mean: np.ndarray  # (edge, edge, 3) float32
    components: np.ndarray  # (3, 3) float64
    variances: np.ndarray  # (3,) float64
    checks: Checks | None = None

    def hold(self, samples: np.ndarray) -> None:
        """See that images that are about to be read are what was stored, where that is not known yet.

        Raises:
            Damaged: one is not.
        """
        if self.checks:
            self.checks.hold(self.images, samples.tolist())

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
    if manifest.sha256.keys() not in (set(FILES), set(CHECKED)):
        raise Damaged(f"{folder / 'store.json'} does not list the files of a store: {REMEDY}")
    return manifest


def command_for(folder: Path) -> str:
    """What prepares the store in ``folder``."""
    by_name = {"imagenet": "imagenet DIR", "imagenet-2010": "imagenet DIR --year 2010", "cifar10": "cifar10 DIR"}
    photos = folder.name.startswith("photos")
    what = "photos" if photos else by_name.get(folder.name, f"folder DIR --name {folder.name}")
    where = "" if folder.parent == Path("results/stores") else f" --data {folder.parent}"
    return f"nox -s prepare -- {what}{where}"


def open_store(folder: Path, *, verify: bool = True, whole: bool = False) -> Store:
    """Open a store; ``verify`` holds its files to their checksums, ``whole`` all of them, however large.

    Raises:
        Misuse: there is no store, or another version of this project wrote it.
        Damaged: a file is missing, truncated or altered, or does not fit the others.
    """
    manifest = read_manifest(folder)
    for name in manifest.sha256:
        if not (folder / name).is_file():
            raise Damaged(f"{folder / name} is missing: {REMEDY}")
    checked = manifest.sha256.keys() == set(CHECKED)
    size = sum((folder / name).stat().st_size for name in IMAGES)
    by_image = verify and checked and not whole and size > READ_WHOLE
    for name, expected in manifest.sha256.items():
        if verify and not (by_image and name in IMAGES) and digest_file(folder / name) != expected:
            raise Damaged(f"{folder / name} is truncated or altered: {REMEDY}")

    def array(name: str) -> np.ndarray:
        try:
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError) as error:
            raise Damaged(f"{folder / name}.npy is no array of numbers ({one_line(error)}): {REMEDY}") from None

    found = {name: array(name) for name in (*ARRAYS, *(CHECKS if checked else ()))}
    _check_arrays(folder, manifest, found)
    mean, components, variances = (np.asarray(found[name]) for name in ("mean", "components", "variances"))

    def split(part: str) -> Split:
        images, labels, tiles = (found[f"{part}_{kind}"] for kind in KINDS)
        checks = None
        if by_image:
            values = found[f"{part}_checks"]
            checks = Checks(folder / f"{part}_images.npy", values, np.zeros(len(values), bool))
        made = Split(images, labels, tiles, mean, components, variances, checks)
        made.hold(np.linspace(0, len(made) - 1, min(SAMPLED, len(made)), dtype=np.int64))
        return made

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
        if f"{part}_checks" in found:
            shapes[f"{part}_checks"] = ((count,), np.uint64)
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
    return finish(draft, name, classes, Sums.of(images), source=source, colour_statistics=colour_statistics)


def finish(
    draft: Path, name: str, classes: list[str], sums: Sums, *, source: str, colour_statistics: dict[str, float]
) -> Manifest:
    """Add what ``sums`` over the training images say, and the manifest, to a folder that holds both parts' arrays."""
    for key, array in zip(("mean", "components", "variances"), principal_colours(sums), strict=True):
        np.save(draft / f"{key}.npy", array, allow_pickle=False)
    there = [own for own in CHECKED if (draft / own).is_file()]
    manifest = Manifest(
        version=VERSION,
        name=name,
        classes=classes,
        edge=int(np.load(draft / "train_images.npy", mmap_mode="r").shape[1]),
        counts={part: len(np.load(draft / f"{part}_labels.npy", mmap_mode="r")) for part in PARTS},
        sha256={own: digest_file(draft / own) for own in there},
        colour_statistics=colour_statistics,
        source=source,
    )
    write_sealed(draft / "store.json", manifest)
    return manifest

"""Any folder of class folders, as a store: train/cat/*.jpg, or cat/*.jpg alone, some of which are kept for testing.

Tiny ImageNet's layout is one of these: its training images lie a folder deeper, its validation images flat beside
val_annotations.txt.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.random_bits import Purpose, words
from protocol.datasets.preparation import Material, Sample
from protocol.datasets.tree import ARCHIVE, Leaf, leaves

TESTING = ("val", "validation", "valid", "test")  # what a folder of test images is called, the first that is there
ANNOTATIONS = "val_annotations.txt"  # Tiny ImageNet: file, class, and a box, with tabs between them
NAMED = 3  # in a sentence


def material_of(folder: Path, name: str, test_share: float, edge: int) -> Material:
    """What the store ``name`` is made of: ``folder``'s own parts, or a ``test_share`` of every class for testing.

    ``edge``: of the stored pictures.

    Raises:
        Misuse: there is no such folder, or no class folders in it; its parts hold other classes than each other; or
            ``test_share`` is no share.
    """
    if not folder.is_dir():
        raise Misuse(f"there is no folder {folder}")
    if (folder / "train").is_dir():
        test = next((folder / own for own in TESTING if (folder / own).is_dir()), None)
        if test is None:
            raise Misuse(f"{folder} has a folder train, but none called {', '.join(TESTING[:-1])} or {TESTING[-1]}")
        classes = classes_of(folder / "train")
        parts = {"train": list(by_folder(leaves(folder / "train"), classes)), "test": test_samples(test, classes)}
        return Material(name, classes, parts, f"images in {folder / 'train'} and {test}", edge)
    if not 0 < test_share < 1:
        raise Misuse(f"--test-share must be between 0 and 1, but is {test_share}")
    classes = classes_of(folder)
    parts = split(list(by_folder(leaves(folder), classes)), test_share)
    source = f"images in {folder}, {test_share:.0%} of each class for testing"
    return Material(name, classes, parts, source, edge)


def classes_of(folder: Path) -> list[str]:
    """The classes: the names of the folders and archives in ``folder``, sorted.

    Raises:
        Misuse: there are none.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    found = {entry.name for entry in entries if entry.is_dir()}
    found |= {entry.name.removesuffix(ARCHIVE) for entry in entries if entry.is_file() and entry.suffix == ARCHIVE}
    if not found:
        raise Misuse(f"{folder} holds no folders: one for each class is needed")
    return sorted(found)


def by_folder(found: Iterable[Leaf], classes: list[str]) -> Iterator[Sample]:
    """The images that lie in a class's folder, however deep in it.

    Raises:
        Misuse: one lies in a folder that is no class.
    """
    labels = {name: label for label, name in enumerate(classes)}
    for leaf in found:
        if leaf.why:
            yield Sample(leaf, labels.get(leaf.parts[0], 0))  # it is listed and left out, whatever its class
        elif len(leaf.parts) > 1:
            if leaf.parts[0] not in labels:
                raise Misuse(f"{leaf.file} holds {'/'.join(leaf.parts)}, but {leaf.parts[0]} is no class of these data")
            yield Sample(leaf, labels[leaf.parts[0]])


def test_samples(folder: Path, classes: list[str]) -> list[Sample]:
    """The test images, in class folders or, with Tiny ImageNet's list of them, flat.

    Raises:
        Misuse: it has other classes than the training part, or the list is not what it should be.
    """
    annotations = folder / ANNOTATIONS
    if annotations.is_file():
        return list(by_name(leaves(folder), annotated(annotations), classes, annotations))
    found = classes_of(folder)
    for extra, where in ((set(found) - set(classes), folder), (set(classes) - set(found), folder.parent / "train")):
        if extra:
            named = ", ".join(sorted(extra)[:NAMED])
            more = f" and {len(extra) - NAMED} more" if len(extra) > NAMED else ""
            raise Misuse(f"both parts need the same classes, but only {where} has {named}{more}")
    return list(by_folder(leaves(folder), classes))


def annotated(path: Path) -> dict[str, str]:
    """By file name, the class."""
    rows = [line.split("\t") for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return {row[0]: row[1] for row in rows if len(row) > 1}


def by_name(found: Iterable[Leaf], names: dict[str, str], classes: list[str], where: Path) -> Iterator[Sample]:
    """The images that a list, which stands in ``where``, names the class of.

    Raises:
        Misuse: one is not in it, or has a class that there is not.
    """
    labels = {name: label for label, name in enumerate(classes)}
    for leaf in found:
        name = leaf.parts[-1]
        if name not in names:
            raise Misuse(f"{where} does not name the class of {name}")
        if names[name] not in labels:
            raise Misuse(f"{where} gives {name} the class {names[name]}, which the training part does not have")
        yield Sample(leaf, labels[names[name]])


def split(samples: list[Sample], share: float) -> dict[str, list[Sample]]:
    """Draw ``share`` of every class, and at least one image of it, for testing."""
    order = np.argsort(words(0, Purpose.CROPS, len(samples)), kind="stable")
    by_class: dict[int, list[int]] = {}
    for index in order.tolist():
        by_class.setdefault(samples[index].label, []).append(index)
    drawn = {index for own in by_class.values() for index in own[: max(1, round(share * len(own)))]}
    return {
        "train": [sample for index, sample in enumerate(samples) if index not in drawn],
        "test": [sample for index, sample in enumerate(samples) if index in drawn],
    }

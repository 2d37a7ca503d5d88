"""ImageNet as its official site gives it, ILSVRC 2012 or 2010, or unpacked in class folders.

    ILSVRC2012_img_train.tar                a tar of n01440764.tar and so on, one a class
    ILSVRC2012_img_val.tar                  ILSVRC2012_val_00000001.JPEG and so on
    ILSVRC2012_devkit_t12.tar.gz            which number is which class, and each validation image's number

    ILSVRC2010_images_train.tar, ..._val.tar, ..._test.tar, ILSVRC2010_devkit-1.0.tar.gz,
    ILSVRC2010_test_ground_truth.txt, patch_images.tar (which take the place of some that are damaged)

What has been unpacked may stand in its archive's place. Labels are places in the
sorted list of class names (n01440764 ...), as in other people's networks.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from protocol.base.errors import Failed, Misuse
from protocol.base.sealed import one_line
from protocol.datasets.folders import by_folder, classes_of, test_samples
from protocol.datasets.preparation import Material, Sample
from protocol.datasets.tree import Leaf, leaves
from protocol.datasets.workers import pool

NUMBER = re.compile(r"_(\d+)\.[^.]+$")  # of a validation or test image
LARGEST_TEXT = 2**26  # bytes of a file in the development kit
EDGE = 256  # of stored pictures (section 2)
PATCHES = "patch_images.tar"


@dataclass(frozen=True)
class Year:
    """What a year's files are called, archives first. ``answers``: of a test part, where its numbers stand."""

    name: str
    number: int
    kit: tuple[str, ...]
    train: tuple[str, ...]
    tests: tuple[tuple[tuple[str, ...], str], ...]


YEARS = {
    year.number: year
    for year in (
        Year(
            "imagenet",
            2012,
            ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12", "devkit"),
            ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_train", "train"),
            (
                (
                    ("ILSVRC2012_img_val.tar", "ILSVRC2012_img_val", "val", "validation"),
                    "ILSVRC2012_validation_ground_truth.txt",
                ),
            ),
        ),
        Year(
            "imagenet-2010",
            2010,
            ("ILSVRC2010_devkit-1.0.tar.gz", "devkit-1.0.tar.gz", "devkit-1.0", "devkit"),
            ("ILSVRC2010_images_train.tar", "ILSVRC2010_images_train", "train"),
            (
                (("ILSVRC2010_images_test.tar", "ILSVRC2010_images_test", "test"), "ILSVRC2010_test_ground_truth.txt"),
                (
                    ("ILSVRC2010_images_val.tar", "ILSVRC2010_images_val", "val", "validation"),
                    "ILSVRC2010_validation_ground_truth.txt",
                ),
            ),
        ),
    )
}


def material_of(
    folder: Path, year: Year, train: Path | None = None, test: Path | None = None, edge: int = EDGE
) -> Material:
    """What the year's store is made of: the training images, and the first of its test parts that is there.

    ``train`` and ``test`` say where these are if not in ``folder``; ``edge``: of the stored pictures.

    Raises:
        Misuse: something is missing, damaged, or does not fit the rest.
    """
    if not folder.is_dir():
        raise Misuse(f"there is no folder {folder}")
    train = train or _first(folder, year.train)
    if train is None:
        raise Misuse(f"{folder} holds no training images: {' or '.join(year.train)} is needed")
    tests = [(found, truth) for names, truth in year.tests if (found := test or _first(folder, names))]
    if not tests:
        wanted = " or ".join(name for names, _ in year.tests for name in names)
        raise Misuse(f"{folder} holds no test images: {wanted} is needed")
    where, truth = tests[0]
    source = f"ILSVRC {year.number}, {train.name} and {where.name}"
    kit = _first(folder, year.kit)
    if kit is None:
        # Only the kit can name the class of an image that lies in no class's folder.
        if not (train.is_dir() and where.is_dir()):
            raise Misuse(f"{folder} holds no development kit: {' or '.join(year.kit)} is needed to name the classes")
        classes = classes_of(train)
        parts = {"train": list(by_folder(leaves(train), classes)), "test": test_samples(where, classes)}
        return Material(year.name, classes, parts, source, edge)
    development = Kit.read(kit, year)
    classes = sorted(development.names.values())
    patches = {leaf.parts[-1]: leaf for leaf in leaves(folder / PATCHES)} if (folder / PATCHES).is_file() else {}
    parts = {
        "train": list(_patched(by_folder(_below_class(leaves(train), set(classes)), classes), patches)),
        "test": list(_patched(_tested(where, development, truth, folder), patches)),
    }
    return Material(year.name, classes, parts, source, edge)


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _below_class(found: Iterator[Leaf], classes: set[str]) -> Iterator[Leaf]:
    """Leave out the folders above the class, such as train/ in an archive of 2010."""
    for leaf in found:
        depth = next((depth for depth, part in enumerate(leaf.parts[:-1]) if part in classes), 0)
        yield leaf._replace(parts=leaf.parts[depth:])


def _patched(samples: Iterator[Sample], patches: dict[str, Leaf]) -> Iterator[Sample]:
    for leaf, label in samples:
        yield Sample(patches.get(leaf.parts[-1], leaf), label)


def _tested(where: Path, kit: "Kit", truth: str, folder: Path) -> Iterator[Sample]:
    """The test images: those in class folders by that, the others by their number.

    Raises:
        Misuse: an image has no number, or one that the ground truth does not reach.
    """
    labels = {name: label for label, name in enumerate(sorted(kit.names.values()))}
    answers = None
    for leaf in _below_class(leaves(where), set(labels)):
        if leaf.why or leaf.parts[0] in labels:
            yield Sample(leaf, labels.get(leaf.parts[0], 0))
            continue
        if answers is None:
            answers = kit.ground_truth(truth, folder)
        number = NUMBER.search(leaf.parts[-1])
        if number is None or not 1 <= int(number[1]) <= len(answers):
            raise Misuse(f"{where} holds {leaf.parts[-1]}, but {truth} has {len(answers):,} lines, one for each number")
        yield Sample(leaf, labels[kit.names[int(answers[int(number[1]) - 1])]])


@dataclass(frozen=True)
class Kit:
    """The development kit. ``names``: by number, the class's name, of the classes that images are sorted into."""

    path: Path
    names: dict[int, str]

    @classmethod
    def read(cls, path: Path, year: Year) -> "Kit":
        """Read ``meta.mat``.

        Raises:
            Misuse: it is not there, or not what a kit of that year has.
        """
        data = _file_of(path, "meta.mat")
        if data is None:
            raise Misuse(f"{path} holds no meta.mat: it is not the development kit of {year.number}")
        names, why = _names_apart(data, f"ILSVRC{year.number}_ID")
        if why:
            raise Misuse(f"{path}: meta.mat is not the list of classes of {year.number} ({why})")
        return cls(path, names)

    def ground_truth(self, name: str, folder: Path) -> np.ndarray:
        """The class's number of each image, from the kit or from beside it.

        Raises:
            Misuse: there is none, or it holds what is no class.
        """
        beside = folder / name
        data = beside.read_bytes() if beside.is_file() else _file_of(self.path, name)
        if data is None:
            raise Misuse(f"neither {folder} nor {self.path} holds {name}, which gives the classes of its images")
        words = data.split()
        wrong = next((own for own in words if not own.isdigit() or len(own) > 9 or int(own) not in self.names), None)
        if wrong is not None:
            raise Misuse(f"{name} holds {one_line(wrong.decode(errors='replace'))!r}, which is no class of the kit")
        return np.array([int(word) for word in words])


@lru_cache(maxsize=1)
def _names_apart(data: bytes, number: str) -> tuple[dict[int, str], str]:
    """:func:`_names` in a process of its own: a damaged file can end the process in which scipy reads it."""
    try:
        with pool(1) as executor:
            return executor.submit(_names, data, number).result()
    except Failed:
        return {}, "it is damaged"


def _names(data: bytes, number: str) -> tuple[dict[int, str], str]:
    """The classes that ``meta.mat`` names, by number, or why it does not."""
    try:
        rows = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
        # Only classes without children have images of their own.
        names = {int(row[number]): str(row["WNID"]) for row in rows if int(row["num_children"]) == 0}
    # A foreign file can fail in any of scipy's readers.
    except Exception as error:
        return {}, one_line(error)
    return (names, "") if names and len(set(names.values())) == len(names) else ({}, "it names a class twice, or none")


def _file_of(path: Path, name: str) -> bytes | None:
    """A file somewhere in the kit, whether it is unpacked or not."""
    if path.is_dir():
        found = sorted(path.rglob(name))
        return found[0].read_bytes() if found else None
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isreg() and Path(member.name).name == name and member.size <= LARGEST_TEXT:
                    file = archive.extractfile(member)
                    return file.read() if file else None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Misuse(f"{path} is not a whole archive ({one_line(error)}): download it again") from None
    return None

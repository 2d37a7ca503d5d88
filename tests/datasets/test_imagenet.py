"""What ImageNet's files say of its images' classes, and what is said where they do not."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.datasets.imagenet import YEARS, material_of
from protocol.datasets.tree import leaves
from tests.support.archives import CLASSES, jpeg, kit, number_of, tar_of, write_imagenet
from tests.support.refusals import refused

Change = Callable[[Path], object]
TESTS = 30


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("2012")
    write_imagenet(folder, 2012, 2, TESTS, troubles=False)
    return folder


@pytest.fixture
def folder(official: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(official, tmp_path / "2012"))


def labels(folder: Path, part: str, year: int = 2012) -> dict[str, int]:
    """By file name, the label."""
    return {leaf.parts[-1]: label for leaf, label in material_of(folder, YEARS[year]).parts[part]}


def unpack(archive: Path, where: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(where, filter="data")
    archive.unlink()


def test_numbers_of_the_kit_become_places_in_the_sorted_classes(official: Path) -> None:
    found = labels(official, "test")
    assert found == {f"ILSVRC2012_val_{n:08}.JPEG": 7 * (n - 1) % len(CLASSES) for n in range(1, TESTS + 1)}
    assert material_of(official, YEARS[2012]).classes == sorted(CLASSES)


def unpack_train(folder: Path) -> None:
    unpack(folder / "ILSVRC2012_img_train.tar", folder / "train")


def unpack_train_wholly(folder: Path) -> None:
    unpack_train(folder)
    for archive in (folder / "train").glob("*.tar"):
        unpack(archive, archive.with_suffix(""))


def unpack_validation(folder: Path) -> None:
    unpack(folder / "ILSVRC2012_img_val.tar", folder / "val")


def unpack_kit(folder: Path) -> None:
    unpack(folder / "ILSVRC2012_devkit_t12.tar.gz", folder)


def sort_validation(folder: Path) -> None:
    """As people do whose framework wants class folders."""
    known = labels(folder, "test")
    unpack_validation(folder)
    for name in CLASSES:
        (folder / "val" / name).mkdir()
    for name, label in known.items():
        (folder / "val" / name).rename(folder / "val" / CLASSES[label] / name)


def drop_kit(folder: Path) -> None:
    """What class folders alone say."""
    unpack_train_wholly(folder)
    sort_validation(folder)
    (folder / "ILSVRC2012_devkit_t12.tar.gz").unlink()


@pytest.mark.parametrize(
    "change", [unpack_train, unpack_train_wholly, unpack_validation, unpack_kit, sort_validation, drop_kit]
)
def test_unpacked_by_hand_it_is_the_same(official: Path, folder: Path, change: Change) -> None:
    change(folder)
    for part in ("train", "test"):
        assert labels(folder, part) == labels(official, part)


def test_images_elsewhere_can_be_named(official: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "ILSVRC2012_img_train.tar").rename(tmp_path / "elsewhere.tar")
    made = material_of(folder, YEARS[2012], train=tmp_path / "elsewhere.tar")
    assert len(made.parts["train"]) == 2 * len(CLASSES)


def test_patches_take_the_place_of_damaged_images(tmp_path: Path) -> None:
    write_imagenet(tmp_path, 2010, 2, TESTS, troubles=False)
    name = f"{CLASSES[3]}_1.JPEG"
    (tmp_path / "patch_images.tar").write_bytes(tar_of({f"patch_images/train/{name}": jpeg(3, 70)}))
    found = {leaf.parts[-1]: leaf.file for leaf, _ in material_of(tmp_path, YEARS[2010]).parts["train"]}
    assert [own for own, file in found.items() if file.endswith("patch_images.tar")] == [name]


def test_without_test_answers_2010_is_tested_on_its_validation_images(tmp_path: Path) -> None:
    write_imagenet(tmp_path, 2010, 1, TESTS, troubles=False)
    (tmp_path / "ILSVRC2010_images_test.tar").unlink()
    with refused("no test images", "ILSVRC2010_images_val.tar"):
        material_of(tmp_path, YEARS[2010])
    (tmp_path / "ILSVRC2010_images_val.tar").write_bytes(tar_of({"val/ILSVRC2010_val_00000002.JPEG": jpeg(4, 0)}))
    with refused("ILSVRC2010_validation_ground_truth.txt"):
        material_of(tmp_path, YEARS[2010])
    numbers = f"{number_of(9)}\n{number_of(4)}\n"
    (tmp_path / "ILSVRC2010_validation_ground_truth.txt").write_text(numbers)
    assert labels(tmp_path, "test", 2010) == {"ILSVRC2010_val_00000002.JPEG": 4}


def cut(name: str) -> Change:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) * 2 // 3])

    return change


def remove(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def write(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut("ILSVRC2012_img_train.tar"), ("ILSVRC2012_img_train.tar", "not a whole tar archive", "download")),
        (cut("ILSVRC2012_img_val.tar"), ("ILSVRC2012_img_val.tar", "not a whole tar archive", "download")),
        (cut("ILSVRC2012_devkit_t12.tar.gz"), ("ILSVRC2012_devkit_t12.tar.gz", "not a whole archive")),
        (remove("ILSVRC2012_img_train.tar"), ("no training images", "ILSVRC2012_img_train.tar")),
        (remove("ILSVRC2012_devkit_t12.tar.gz"), ("no development kit", "ILSVRC2012_devkit_t12.tar.gz")),
        (write("ILSVRC2012_img_val.tar", b"not a tar" * 999), ("not a whole tar archive",)),
        (write(TRUTH, b"1\n2\nthree\n"), (TRUTH, "'three'")),
        (write(TRUTH, b"1\n2\n"), (TRUTH, "2 lines")),
        (write(TRUTH, b"21\n" * TESTS), (TRUTH, "'21'")),
        (write("ILSVRC2012_img_val.tar", tar_of({"ILSVRC2012_val_1x.JPEG": jpeg(0, 0)})), ("ILSVRC2012_val_1x.JPEG",)),
    ],
)
def test_what_is_missing_or_damaged_is_said(folder: Path, change: Change, words: tuple[str, ...]) -> None:
    change(folder)
    with refused(*words):
        material_of(folder, YEARS[2012])


def test_an_archive_that_is_cut_between_two_members_is_noticed(tmp_path: Path) -> None:
    whole = tar_of({f"{number}.JPEG": jpeg(0, number) for number in range(3)})
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        places = [member.offset for member in archive]
    (tmp_path / "cut.tar").write_bytes(whole[: places[2]])
    with refused("cut.tar", "no end", "download"):
        list(leaves(tmp_path / "cut.tar"))


def test_another_years_kit_is_refused(folder: Path) -> None:
    unpack_kit(folder)
    (folder / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(kit(2010))
    with refused("meta.mat", "2012"):
        material_of(folder, YEARS[2012])
    rng = np.random.default_rng(0)
    for _ in range(2):
        data = bytearray(kit(2012))
        for place in rng.integers(0, len(data), 40):
            data[place] = rng.integers(0, 256)
        (folder / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(bytes(data))
        with refused("meta.mat"):
            material_of(folder, YEARS[2012])

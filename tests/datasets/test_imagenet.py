"""ImageNet's loader, on a few real JPEGs in its folder layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocol.datasets.imagenet import EDGE, centre, prepare
from protocol.datasets.store import open_store
from protocol.errors import Misuse

CLASSES = ("n01440764", "n01443537")


def jpeg(path: Path, width: int, height: int, colour: tuple[int, int, int], mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).convert(mode).save(path, quality=95)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    train, validation = tmp_path / "train", tmp_path / "validation"
    for label, name in enumerate(CLASSES):
        for number, size in enumerate(((500, 375), (256, 300), (90, 120))):
            jpeg(train / name / f"{name}_{number}.JPEG", *size, (200 * label, 100, 50))
        jpeg(validation / name / "val.JPEG", 300, 260, (200 * label, 100, 50))
    # Some of ImageNet's JPEGs are grey, some CMYK.
    jpeg(train / CLASSES[0] / "grey.JPEG", 400, 300, (90, 90, 90), "L")
    jpeg(train / CLASSES[0] / "cmyk.JPEG", 400, 300, (90, 90, 90), "CMYK")
    (train / CLASSES[0] / "notes.txt").write_text("not an image")
    return train, validation


def test_jpegs_become_a_store(folders: tuple[Path, Path], tmp_path: Path) -> None:
    prepare(tmp_path / "imagenet", *folders)
    store = open_store(tmp_path / "imagenet")
    assert store.manifest.classes == list(CLASSES)
    assert store.train.images.shape == (8, EDGE, EDGE, 3)
    assert store.train.labels.tolist() == [0] * 5 + [1] * 3
    assert store.test.labels.tolist() == [0, 1]
    for images, labels in ((store.train.images[5:], [1, 1, 1]), (store.test.images, [0, 1])):
        for image, label in zip(images, labels, strict=True):
            assert np.abs(image.reshape(-1, 3).mean(axis=0) - (200 * label, 100, 50)).max() < 4


def test_the_centre_of_the_shorter_side_is_kept() -> None:
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 128:384] = 255
    assert centre(Image.fromarray(pixels)).min() == 255


def test_an_unreadable_image_leaves_nothing_behind(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[0] / CLASSES[1] / "zz.JPEG").write_bytes(b"\xff\xd8 cut short")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Misuse, match=r"zz\.JPEG cannot be read"):
        prepare(tmp_path / "imagenet", *folders)
    assert sorted(tmp_path.iterdir()) == before


def test_other_classes_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "n99999999").mkdir()
    with pytest.raises(Misuse, match="same classes"):
        prepare(tmp_path / "imagenet", *folders)
    with pytest.raises(Misuse, match="no folder"):
        prepare(tmp_path / "imagenet", tmp_path / "absent", folders[1])

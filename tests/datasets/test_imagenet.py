"""ImageNet's loader, on a few real JPEGs in its folder layout."""

import io
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocol.base.errors import Misuse
from protocol.datasets.imagenet import EDGE, centre, prepare, read
from protocol.datasets.store import open_store
from tests.support.refusals import refused

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
    (folders[0] / CLASSES[1] / "._zz.JPEG").write_bytes(b"what another system keeps beside its files")
    (folders[0] / ".git").mkdir()
    with pytest.raises(Misuse, match=r"zz\.JPEG cannot be read"):
        prepare(tmp_path / "imagenet", *folders)
    assert sorted(tmp_path.iterdir()) == before


def test_other_classes_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "n99999999").mkdir()
    with pytest.raises(Misuse, match="same classes: only the first has n99999999"):
        prepare(tmp_path / "imagenet", *folders)
    with pytest.raises(Misuse, match="no folder"):
        prepare(tmp_path / "imagenet", tmp_path / "absent", folders[1])


def test_images_are_never_replaced_by_their_store(folders: tuple[Path, Path], tmp_path: Path) -> None:
    train, validation = folders
    images = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    (tmp_path / "data").mkdir()
    place = tmp_path / "data" / "imagenet"
    train.rename(tmp_path / "held")
    place.mkdir()
    (tmp_path / "held").rename(place / "train")
    validation.rename(place / "val")
    with refused(str(place), "did not write", "train, val"):
        prepare(place, place / "train", place / "val")
    assert len([path for path in place.rglob("*") if path.is_file()]) == len(images)
    assert sorted(path.name for path in place.parent.iterdir()) == ["imagenet"]


def test_hidden_entries_are_neither_classes_nor_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in folders:
        (folder / ".git").mkdir()
        (folder / CLASSES[0] / "._grey.JPEG").write_bytes(b"\0\5\x16\7 of another system")
    prepare(tmp_path / "imagenet", *folders)
    assert len(open_store(tmp_path / "imagenet").train) == 8


def trouble(kind: str, path: Path) -> None:
    """Write a file that cannot be an image, or not one of ours."""
    whole = io.BytesIO()
    Image.effect_noise((300, 300), 90).convert("RGB").save(whole, "JPEG" if "JPEG" in kind else "PNG")
    content = bytearray(whole.getvalue())
    match kind:
        case "nothing":
            content = bytearray()
        case "a JPEG cut short":
            del content[len(content) // 2 :]
        case "a broken PNG":
            content[content.index(b"IDAT")] = 0
        case "a pipe":
            os.mkfifo(path)
            return
        case "a bomb":
            small = io.BytesIO()
            Image.new("L", (20_000, 20_000)).save(small, "PNG")
            content = bytearray(small.getvalue())
        case "PostScript":
            content = bytearray(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\nshowpage\n")
        case "a folder":
            path.mkdir()
            return
    path.write_bytes(content)


@pytest.mark.parametrize(
    "kind", ["nothing", "a JPEG cut short", "a broken PNG", "a pipe", "a bomb", "PostScript", "a folder"]
)
def test_what_is_no_image_is_refused_by_its_name(folders: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    bad = folders[0] / CLASSES[1] / "zz.JPEG"
    trouble(kind, bad)
    with refused(str(bad)):
        prepare(tmp_path / "imagenet", *folders)
    assert not (tmp_path / "imagenet").exists()


def test_a_long_strip_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    """Scaled as a whole, a picture of 1 x 65,500 would have 4 billion pixels."""
    jpeg(tmp_path / "strip.JPEG", 1, 65_500, (200, 100, 50))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.abs(read(tmp_path / "strip.JPEG").reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65_535, 300 * 300).reshape(300, 300).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    found = read(tmp_path / "ramp.png")
    assert 100 < found.mean() < 155
    assert (found == 255).mean() < 0.01


@pytest.mark.parametrize("size", [(500, 375), (256, 300), (90, 120), (1000, 257)])
def test_scaling_the_middle_alone_is_scaling_all_and_cutting_the_middle_out(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    scale = EDGE / min(size)
    whole = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - EDGE) // 2, (whole.height - EDGE) // 2
    expected = np.asarray(whole.crop((left, top, left + EDGE, top + EDGE))).astype(int)
    assert np.abs(centre(image) - expected).max() <= 1


def test_too_small_a_disk_is_noticed_before_any_work(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with refused("GB left"):
        prepare(tmp_path / "imagenet", *folders)
    assert not (tmp_path / "imagenet").exists()

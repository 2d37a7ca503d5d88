"""A small ImageNet in the shapes of its official site, with everything in it that has ever been wrong there."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = tuple(f"n{10_000_000 + 37 * number:08}" for number in range(20))
COLOURS = np.random.default_rng(1).integers(30, 226, (len(CLASSES), 3))
SIDES = ((500, 375), (256, 300), (90, 120), (640, 480), (375, 500))


def pixels(label: int, number: int, size: tuple[int, int]) -> Image.Image:
    """A picture (size[1], size[0], 3) of a class: its colour, with stripes that its number turns."""
    width, height = size
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    wave = 20 * np.sin((across * np.cos(number) + down * np.sin(number)) * (0.05 + 0.01 * label))
    values = COLOURS[label] + wave[:, :, None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(label: int, number: int) -> bytes:
    return encoded(pixels(label, number, SIDES[number % len(SIDES)]), quality=90)


def turned() -> bytes:
    """A picture of class 0 that lies on its side and says so in its EXIF block."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(pixels(0, 900, (400, 300)), exif=exif, quality=90)


def bomb() -> bytes:
    return encoded(Image.new("L", (20_000, 20_000)), "PNG")


# By name, files that are left out, and files that are unusual but kept; all of the first class.
BAD = {
    "empty": b"",
    "cut": jpeg(0, 901)[:2_000],
    "text": b"<html>not found</html>",
    "bomb": bomb(),
}
ODD = {
    "cmyk": encoded(pixels(0, 902, (400, 300)).convert("CMYK"), quality=90),
    "grey": encoded(pixels(0, 903, (400, 300)).convert("L"), quality=90),
    "png": encoded(pixels(0, 904, (400, 300)), "PNG"),
    "turned": turned(),
    "twice": jpeg(0, 0),
    # Bytes that belong to nothing, between two markers: some of ImageNet's files have them.
    "stray": jpeg(0, 905)[:20] + b"\xff\x00" * 2 + jpeg(0, 905)[20:],
}


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def tar_of(members: dict[str, bytes], *, hostile: bool = False) -> bytes:
    """An archive; where it is ``hostile``, with members that climb out of it, a link and a device among its images."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            add(archive, name, data)
        if hostile:
            add(archive, "../../climbed.JPEG", next(iter(members.values())))
            for name, kind in (("link.JPEG", tarfile.SYMTYPE), ("device.JPEG", tarfile.CHRTYPE)):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, "/etc/passwd"
                archive.addfile(member)
    return file.getvalue()


def kit(year: int) -> bytes:
    """``meta.mat``: numbers in another order than names, and above the classes one that has children."""
    kind = [(f"ILSVRC{year}_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    numbers = {name: len(CLASSES) - label for label, name in enumerate(CLASSES)}
    rows = [(numbers[name], name, f"thing {name}", 0) for name in reversed(CLASSES)]
    rows.append((len(CLASSES) + 1, "n00001740", "entity", len(CLASSES)))
    file = io.BytesIO()
    savemat(file, {"synsets": np.array(rows, kind)[:, None]})
    return file.getvalue()


def number_of(label: int) -> int:
    """The kit's number of a class."""
    return len(CLASSES) - label


def gzipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in members.items():
            add(archive, name, data)
    return file.getvalue()


def write_imagenet(folder: Path, year: int, each: int, tests: int, *, troubles: bool = True) -> None:
    """Write the archives of a year: ``each`` training images a class, ``tests`` test images in all."""
    folder.mkdir(parents=True, exist_ok=True)
    inner: dict[str, bytes] = {}
    for label, name in enumerate(CLASSES):
        members = {f"{name}_{number}.JPEG": jpeg(label, number) for number in range(each)}
        if troubles and label == 0:
            members |= {f"{name}_{kind}.JPEG": data for kind, data in (BAD | ODD).items()}
        inner[f"{name}.tar"] = tar_of(members, hostile=troubles and label == 1)
    answers = [7 * number % len(CLASSES) for number in range(tests)]
    truth = "".join(f"{number_of(label)}\n" for label in answers).encode()
    kind = "val" if year == 2012 else "test"
    flat = {
        f"{'' if year == 2012 else 'test/'}ILSVRC{year}_{kind}_{number:08}.JPEG": jpeg(label, 50 + number)
        for number, label in enumerate(answers, start=1)
    }
    if year == 2012:
        (folder / "ILSVRC2012_img_train.tar").write_bytes(tar_of(inner))
        (folder / "ILSVRC2012_img_val.tar").write_bytes(tar_of(flat))
        data = {"ILSVRC2012_devkit_t12/data/meta.mat": kit(year)}
        data["ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"] = truth
        (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(gzipped(data))
    else:
        (folder / "ILSVRC2010_images_train.tar").write_bytes(tar_of(inner))
        (folder / "ILSVRC2010_images_test.tar").write_bytes(tar_of(flat))
        (folder / "ILSVRC2010_test_ground_truth.txt").write_bytes(truth)
        (folder / "ILSVRC2010_devkit-1.0.tar.gz").write_bytes(gzipped({"devkit-1.0/data/meta.mat": kit(year)}))

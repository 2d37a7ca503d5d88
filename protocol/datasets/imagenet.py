"""ImageNet from folders of JPEGs: the shorter side scaled to 256, the centre 256 x 256 kept (section 2).

train/n01440764/*.JPEG      validation/n01440764/*.JPEG     one folder a class, the same classes in both
"""

import os
import shutil
import stat
import warnings
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from protocol.base.errors import Misuse
from protocol.base.files import check_replaceable, new_folder
from protocol.base.log import log
from protocol.base.sealed import one_line
from protocol.datasets.store import HOLDS, Manifest, seal

EDGE = 256
SUFFIXES = {".jpeg", ".jpg"}
FORMATS = ("JPEG", "PNG")  # what files of that name hold in ImageNet; no other decoder is ever started
LARGEST = 80_000_000  # pixels of a file, fewer than Pillow warns of: ImageNet's largest has under half of that
LOG_EVERY = 10_000  # images
BYTES = EDGE * EDGE * 3  # of a stored image
SHOWN = 3  # names in a sentence


def centre(image: Image.Image) -> np.ndarray:
    """Scale the shorter side to 256 and cut out the centre: (256, 256, 3) uint8.

    Only the part that is cut out is scaled, however long the other side is.
    """
    width, height = image.size
    scale = EDGE / min(width, height)
    size = (max(EDGE, round(width * scale)), max(EDGE, round(height * scale)))
    left, top = (size[0] - EDGE) // 2, (size[1] - EDGE) // 2
    # The same square in the image's own pixels.
    across, down = width / size[0], height / size[1]
    box = (left * across, top * down, (left + EDGE) * across, (top + EDGE) * down)
    # Decoding takes memory for all of the image, conversion for no more than the square and the filter's reach.
    beside, above = (4 * ceil(max(1, step)) for step in (across, down))
    near = (
        max(0, int(box[0]) - beside),
        max(0, int(box[1]) - above),
        min(width, ceil(box[2]) + beside),
        min(height, ceil(box[3]) + above),
    )
    part = rgb(image.crop(near))
    inside = (box[0] - near[0], box[1] - near[1], box[2] - near[0], box[3] - near[1])
    return np.asarray(part.resize((EDGE, EDGE), Image.Resampling.BICUBIC, box=inside))


def rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; Pillow cuts 16 bits off at 255, which turns nearly all of a picture white."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def read(path: Path) -> np.ndarray:
    """The image in a file as it is stored, (256, 256, 3) uint8.

    Raises:
        Misuse: it is no regular file, no JPEG or PNG, too large, or cannot be decoded.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Misuse(f"{path} is not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > LARGEST:
                    raise Misuse(f"{path} has {image.width} x {image.height} pixels, more than {LARGEST:,}")
                return centre(image)
    # Pillow's decoders raise what they meet: SyntaxError of a broken PNG, a bomb's own error, and others.
    except (OSError, SyntaxError, ValueError, ArithmeticError, MemoryError, Image.DecompressionBombError) as error:
        raise Misuse(f"{path} cannot be read as an image ({one_line(error)})") from None
    except Image.DecompressionBombWarning as error:
        raise Misuse(f"{path} cannot be read as an image ({one_line(error)})") from None


def visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder but hidden entries, such as .git and the ._x.JPEG that some systems put beside each file."""
    return (entry for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if entry.name[0] != ".")


def classes_of(folder: Path) -> list[str]:
    """The classes: the names of the folders in ``folder``, sorted.

    Raises:
        Misuse: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise Misuse(f"there is no folder {folder}")
    found = [entry.name for entry in visible(folder) if entry.is_dir()]
    if not found:
        raise Misuse(f"{folder} holds no folders: one for each class is needed")
    return found


def samples_of(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for entry in visible(folder / name):
            if Path(entry.name).suffix.lower() in SUFFIXES:
                yield Path(entry.path), label


def same_classes(train: Path, validation: Path) -> list[str]:
    """The classes of both folders.

    Raises:
        Misuse: one has a class that the other has not.
    """
    classes, others = classes_of(train), classes_of(validation)
    for here, there, extra in (
        (train, validation, sorted(set(classes) - set(others))),
        (validation, train, sorted(set(others) - set(classes))),
    ):
        if extra:
            named = ", ".join(extra[:SHOWN]) + (f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else "")
            raise Misuse(f"{here} and {there} do not hold the same classes: only the first has {named}")
    return classes


def prepare(folder: Path, train: Path, validation: Path) -> Manifest:
    """Write the store to ``folder``.

    Raises:
        Misuse: something else stands at ``folder``, the folders do not hold the same classes, there is not enough room
            on the disk, or an image cannot be read.
    """
    check_replaceable(folder, HOLDS, "store.json")
    for source in (train, validation):
        if source.resolve().is_relative_to(folder.resolve()):
            raise Misuse(f"{source} lies within {folder}, which is to be written: name another --data")
    classes = same_classes(train, validation)
    parts = {
        "train": (train, list(samples_of(train, classes))),
        "test": (validation, list(samples_of(validation, classes))),
    }
    for source, samples in parts.values():
        if not samples:
            raise Misuse(f"{source} holds no JPEGs")
    needed = BYTES * sum(len(samples) for _, samples in parts.values())
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder.parent).free) < needed:
        raise Misuse(f"{folder} needs {needed / 1e9:.1f} GB, but its disk has {free / 1e9:.1f} GB left")
    with new_folder(folder, HOLDS, "store.json") as draft:
        for part, (source, samples) in parts.items():
            path = draft / f"{part}_images.npy"
            images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(samples), EDGE, EDGE, 3))
            # Taken now: a full disk would otherwise end the process, by a signal, where it writes to its memory.
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            for place, (sample, _) in enumerate(samples):
                images[place] = read(sample)
                if (place + 1) % LOG_EVERY == 0:
                    log(f"{source}: {place + 1} of {len(samples)} images")
            images.flush()
            np.save(draft / f"{part}_labels.npy", np.array([label for _, label in samples]))
            # Each image is a source of its own.
            np.save(draft / f"{part}_tiles.npy", np.arange(len(samples)))
        return seal(draft, "imagenet", classes, source="JPEGs in class folders", colour_statistics={})

"""ImageNet from folders of JPEGs: the shorter side scaled to 256, the centre 256 x 256 kept (section 2).

train/n01440764/*.JPEG      validation/n01440764/*.JPEG     one folder a class, the same classes in both
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from protocol.datasets.store import Manifest, seal
from protocol.errors import Misuse
from protocol.files import new_folder
from protocol.record import log

EDGE = 256
SUFFIXES = {".jpeg", ".jpg"}
LOG_EVERY = 10_000  # images


def centre(image: Image.Image) -> np.ndarray:
    """Scale the shorter side to 256 and cut out the centre: (256, 256, 3) uint8."""
    width, height = image.size
    scale = EDGE / min(width, height)
    size = (max(EDGE, round(width * scale)), max(EDGE, round(height * scale)))
    left, top = (size[0] - EDGE) // 2, (size[1] - EDGE) // 2
    scaled = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return np.asarray(scaled.crop((left, top, left + EDGE, top + EDGE)))


def classes_of(folder: Path) -> list[str]:
    """The classes: the names of the folders in ``folder``, sorted.

    Raises:
        Misuse: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise Misuse(f"there is no folder {folder}")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if not found:
        raise Misuse(f"{folder} holds no folders: one for each class is needed")
    return found


def samples_of(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                yield path, label


def prepare(folder: Path, train: Path, validation: Path) -> Manifest:
    """Write the store to ``folder``.

    Raises:
        Misuse: the folders do not hold the same classes, or an image cannot be read.
    """
    classes = classes_of(train)
    if classes_of(validation) != classes:
        raise Misuse(f"{train} and {validation} do not hold the same classes")
    with new_folder(folder) as draft:
        for part, source in (("train", train), ("test", validation)):
            samples = list(samples_of(source, classes))
            if not samples:
                raise Misuse(f"{source} holds no JPEGs")
            images = np.lib.format.open_memmap(
                draft / f"{part}_images.npy", mode="w+", dtype=np.uint8, shape=(len(samples), EDGE, EDGE, 3)
            )
            for place, (path, _) in enumerate(samples):
                try:
                    with Image.open(path) as image:
                        images[place] = centre(image)
                except (OSError, UnidentifiedImageError) as error:
                    raise Misuse(f"{path} cannot be read as an image ({error})") from None
                if (place + 1) % LOG_EVERY == 0:
                    log(f"{source}: {place + 1} of {len(samples)} images")
            images.flush()
            np.save(draft / f"{part}_labels.npy", np.array([label for _, label in samples]))
            # Each image is a source of its own.
            np.save(draft / f"{part}_tiles.npy", np.arange(len(samples)))
        return seal(draft, "imagenet", classes, source="JPEGs in class folders", colour_statistics={})

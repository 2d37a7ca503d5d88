"""A file's bytes as the picture that is stored: the shorter side scaled to an edge, the centre cut out (section 2).

Pillow decodes them, with the libjpeg-turbo of its wheel.
"""

import io
import warnings
from importlib.metadata import version
from math import ceil

import numpy as np
from PIL import Image, UnidentifiedImageError

from protocol.base.sealed import one_line

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # whatever a file's name says; no other decoder is ever started
LARGEST = 80_000_000  # pixels of a file, fewer than Pillow warns of: ImageNet's largest has under half of that
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's decoders raise what they meet: SyntaxError of a broken PNG, a bomb's own error, and others.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    MemoryError,
)
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


class Unreadable(Exception):
    """A file that is no picture, or none that can be decoded; says why."""


def decoders() -> str:
    """The library that pictures are decoded by, with its version: another makes other pixels."""
    return f"Pillow {version('pillow')}"


def picture(data: bytes, edge: int) -> tuple[np.ndarray, str]:
    """The picture in ``data``, (edge, edge, 3) uint8, and what was unusual about the file, or nothing.

    Raises:
        Unreadable: it cannot be decoded, or is too large.
    """
    if not data:
        raise Unreadable("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _decoded(image, edge)
    except UnidentifiedImageError:
        raise Unreadable(f"it is none of {', '.join(FORMATS)}, whatever its name") from None
    except BOMBS:
        raise Unreadable(f"it has more than {LARGEST:,} pixels") from None
    except UNREADABLE as error:
        raise Unreadable(f"it cannot be decoded ({one_line(error)})") from None


def _decoded(image: Image.Image, edge: int) -> tuple[np.ndarray, str]:
    if image.width * image.height > LARGEST:
        raise Unreadable(f"it has more than {LARGEST:,} pixels")
    unusual = [] if image.mode == "RGB" else [f"its colours are {image.mode}"]
    if image.format != "JPEG":
        unusual.append(f"it is a {image.format}")
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    # At a half, a quarter or an eighth of its size, where that is still large enough: libjpeg scales as it decodes.
    image.draft("RGB", (edge, edge))
    square = centre(image, edge)
    if turn is not None:
        # The centre of the upright picture is the upright centre.
        square = square.transpose(turn)
        unusual.append("turned upright")
    return np.asarray(square), "; ".join(unusual)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def window(width: int, height: int, edge: int) -> tuple[tuple[int, int, int, int], Box]:
    """Which pixels the centre is made of when the shorter side is scaled to ``edge``, and where it lies among them.

    Only these are converted and scaled, however long the other side is.
    """
    scale = edge / min(width, height)
    size = (max(edge, round(width * scale)), max(edge, round(height * scale)))
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    # The same square in the image's own pixels.
    across, down = width / size[0], height / size[1]
    box = (left * across, top * down, (left + edge) * across, (top + edge) * down)
    beside, above = (4 * ceil(max(1, step)) for step in (across, down))  # the filter's reach
    near = (
        max(0, int(box[0]) - beside),
        max(0, int(box[1]) - above),
        min(width, ceil(box[2]) + beside),
        min(height, ceil(box[3]) + above),
    )
    return near, (box[0] - near[0], box[1] - near[1], box[2] - near[0], box[3] - near[1])


def centre(image: Image.Image, edge: int) -> Image.Image:
    """Scale the shorter side to ``edge`` and cut out the centre: RGB, (edge, edge)."""
    near, inside = window(*image.size, edge)
    return rgb(image.crop(near)).resize((edge, edge), Image.Resampling.BICUBIC, box=inside)


def rgb(image: Image.Image) -> Image.Image:
    """Three channels of 8 bits; Pillow cuts 16 bits off at 255, which turns nearly all of a picture white."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")

"""Anyone's file of weights as a model of ours, whichever of the known kinds it is."""

import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np

from paper.names import unknown
from paper.recipe import PRESETS
from protocol.base.errors import Misuse
from protocol.base.files import digest_file
from protocol.base.sealed import one_line
from protocol.exchange import caffe, numpy_file, onnx_file, torch_file
from protocol.exchange.fit import fit
from protocol.exchange.foreign import Input
from protocol.exchange.model import Card, Model
from protocol.exchange.running import computes_the_same

READERS = {
    ".caffemodel": caffe.read,
    ".npy": numpy_file.read,
    ".onnx": onnx_file.read,
    ".pt": torch_file.read,
    ".pth": torch_file.read,
}
CHANNELS = ("rgb", "bgr")
SMALLEST = 1e-3  # that colours are divided by


def read_foreign(
    path: Path,
    preset_name: str | None = None,
    channels: str | None = None,
    mean: str | None = None,
    deviation: str | None = None,
) -> tuple[Model, Card]:
    """The model in a file, by the ending of its name. The other arguments override what such files usually expect.

    ``mean``: three numbers, red first, or a file: ``.npy`` or Caffe's ``.binaryproto`` with an image (3, rows, columns)
    in the network's own order of colours. ``deviation``: three numbers, red first.

    Raises:
        Misuse: there is no such file, it is of no known kind, is damaged, or is not an AlexNet of a known variant.
    """
    if path.suffix not in READERS:
        raise Misuse(f"{path} is of no known kind: its name must end in {', '.join(READERS)}")
    if not path.is_file():
        raise Misuse(f"there is no file {path}")
    if preset_name is not None and preset_name not in PRESETS:
        raise Misuse(unknown("preset", preset_name, PRESETS))
    foreign = READERS[path.suffix](path)
    own = foreign.input
    if channels is not None:
        if channels not in CHANNELS:
            raise Misuse(f"--channels must be {' or '.join(CHANNELS)}, not {channels[:80]!r}")
        own = replace(own, channels=channels)
    if deviation is not None:
        own = replace(own, deviation=_numbers("--deviation", deviation))
        if (own.deviation < SMALLEST).any():
            raise Misuse(f"--deviation must be {SMALLEST} or more, not {deviation[:80]!r}")
    if mean is not None:
        own = replace(own, mean=_mean(mean, own))
    agrees = None
    if foreign.kind == "onnx":
        # What its nodes do in between is known by what they come to alone.
        agrees = partial(computes_the_same, path, own, in_graph=mean is None)
    model = fit(foreign, own, preset_name, path, agrees)
    return model, Card(network={}, source=f"{path.name} ({foreign.kind})", source_sha256=digest_file(path))


def _numbers(flag: str, told: str) -> np.ndarray:
    try:
        found = np.array([float(word) for word in told.split(",")], np.float32)
    except ValueError:
        found = np.empty(0, np.float32)
    if found.shape != (3,) or not np.isfinite(found).all():
        raise Misuse(f"{flag} must be three numbers such as 123.68,116.78,103.94, not {told[:80]!r}")
    return found


def _mean(told: str, own: Input) -> np.ndarray:
    path = Path(told)
    if path.suffix not in (".npy", ".binaryproto"):
        return _numbers("--mean", told)
    if not path.is_file():
        raise Misuse(f"there is no file {path}")
    if path.suffix == ".binaryproto":
        image = caffe.read_mean(path)
    else:
        try:
            image = np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, TypeError, TokenError, MemoryError) as error:
            raise Misuse(f"{path} is no array of numbers ({one_line(error)})") from None
    if image.ndim not in (1, 3) or image.shape[0] != 3 or image.dtype.kind not in "fiu" or not np.isfinite(image).all():
        raise Misuse(f"{path} is no mean of three colours, but {image.dtype} {image.shape}")
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise Misuse(f"{path} holds what is no float32")
    return image[::-1] if own.channels == "bgr" else image

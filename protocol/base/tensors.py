"""Safetensors files: written whole, read one tensor at a time, refused with a sentence where they are not whole."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from protocol.base.files import replacing
from protocol.base.sealed import Damaged, one_line


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Replace ``path`` by ``tensors``, on the disk, in one step.

    Raises:
        OSError: the system would not write it.
    """
    with replacing(path) as draft:
        try:
            # safetensors writes memory as it lies, whatever an array's strides say.
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, draft)
        except SafetensorError as error:
            # What the system would not do comes as text alone.
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file to read from.

    Raises:
        Damaged: it is absent, or no such file, or not whole; also when that shows within the block.
    """
    if not path.is_file():
        raise Damaged(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    # What a damaged header names may be of no type or size that numpy knows.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise Damaged(f"{path} is damaged ({one_line(error)})") from None


def each_tensor(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a file, one in memory at a time.

    Raises:
        Damaged: it is absent or not whole.
    """
    with opened(path) as file:
        names = list(file.keys())
    for name in names:
        with opened(path) as file:
            value = file.get_tensor(name)
        yield name, value


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a file whole.

    Raises:
        Damaged: it is absent or not whole.
    """
    return dict(each_tensor(path))

"""Arrays out of foreign pickles, of which nothing is run: what a pickle may name is a short list of stand-ins.

A pickle is a program. Python's own reader looks each function that it names up and calls it; this one knows only what
rebuilds arrays and ordered dictionaries, by functions of its own, and refuses every other name.
"""

import codecs
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line


class Rebuilt:
    """An array that a pickle rebuilds: made empty, then told its state. One of objects becomes a list of these."""

    def __init__(self) -> None:
        self.value: Any = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, Kind):
            raise ValueError("an array without a type")
        if kind.value.kind == "O":
            self.value = list(data)
            return
        content = data.encode("latin-1") if isinstance(data, str) else data
        flat = np.frombuffer(content, kind.value)
        self.value = flat.reshape(tuple(shape), order="F" if by_columns else "C")


class Kind:
    """A type of numbers that a pickle names."""

    def __init__(self, name: Any, *_: Any) -> None:
        name = name.decode("ascii") if isinstance(name, bytes) else str(name)
        self.value = np.dtype(name)
        if self.value.kind not in "fiubO":
            raise ValueError(f"arrays of {name}")

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


def _number(kind: Any, data: Any) -> Any:
    content = data.encode("latin-1") if isinstance(data, str) else data
    return np.frombuffer(content, kind.value)[0]


def _encoded(text: Any, encoding: str = "latin-1") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise ValueError(f"the encoding {encoding}")
    return codecs.encode(text, encoding)


class NdArray:
    """What the class of arrays itself is named by."""


STAND_INS: dict[tuple[str, str], Any] = {
    **{(f"{package}.multiarray", "_reconstruct"): lambda *_: Rebuilt() for package in ("numpy.core", "numpy._core")},
    **{(f"{package}.multiarray", "scalar"): _number for package in ("numpy.core", "numpy._core")},
    ("numpy", "ndarray"): NdArray,
    ("numpy", "dtype"): Kind,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
}


class Reader(pickle.Unpickler):
    """Reads a pickle by stand-ins alone. ``persistent``: what gives the objects that it names by a reference."""

    def __init__(
        self,
        file: io.BufferedIOBase | io.BytesIO,
        stand_ins: Mapping[tuple[str, str], Any] = STAND_INS,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file, encoding="latin-1")
        self.stand_ins, self.persistent = stand_ins, persistent

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.stand_ins[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run") from None

    def persistent_load(self, reference: Any) -> Any:
        if self.persistent is None:
            raise pickle.UnpicklingError("it refers to something outside itself")
        return self.persistent(reference)


# What a damaged or hostile pickle can make Python's reader raise.
UNREADABLE = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    ImportError,
    MemoryError,
    OverflowError,
    RecursionError,
    AssertionError,
    LookupError,
)


def read_pickle(data: bytes, what: str) -> Any:
    """What a pickle holds: numbers, text, lists, dictionaries and arrays. ``what`` names it in an error.

    Raises:
        Misuse: it is damaged, or names what is none of these; nothing of it was run.
    """
    try:
        return unwrap(Reader(io.BytesIO(data)).load())
    except UNREADABLE as error:
        raise Misuse(f"{what} cannot be read as plain arrays ({one_line(error)})") from None


def unwrap(value: Any, depth: int = 0) -> Any:
    """``value`` with arrays for what stood in for them."""
    if depth > 20:
        raise ValueError("it nests too deeply")
    if isinstance(value, Rebuilt):
        return unwrap(value.value, depth + 1)
    if isinstance(value, dict):
        return {key: unwrap(own, depth + 1) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [unwrap(own, depth + 1) for own in value]
    return value

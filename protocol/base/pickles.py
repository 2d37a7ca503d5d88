"""Arrays out of foreign pickles, of which nothing is run: what a pickle may name is a short list of stand-ins.

A pickle is a program. Python's own reader looks each function that it names up and calls it; this one knows only what
rebuilds arrays and ordered dictionaries, by functions of its own, and refuses every other name.
"""

import codecs
import io
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line

DEEPEST = 20  # lists within lists


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


# Python's reader in Python: its memo is a dictionary, where that of the one in C has room for the highest number named.
class Reader(pickle._Unpickler):
    """Reads a pickle by stand-ins alone. ``persistent``: what gives the objects that it names by a reference."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(
        self,
        file: BinaryIO,
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

    def load_build(self) -> None:
        """Tell an object its state: only what is rebuilt here has one, and everything else stays as it is."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, target = stack.pop(), stack[-1]
        if type(target) not in (Rebuilt, Kind):
            # PyTorch's dictionaries carry a note of their version, which is not needed.
            if not isinstance(target, OrderedDict):
                raise pickle.UnpicklingError("it tells a state to what has none")
            return
        target.__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build


# What a damaged or hostile pickle can make Python's reader raise.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
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


def unwrap(value: Any) -> Any:
    """``value`` with arrays for what stood in for them; what it holds twice is held twice."""
    done: dict[int, Any] = {}

    def unwrapped(own: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("it nests too deeply")
        if isinstance(own, Rebuilt):
            return unwrapped(own.value, depth + 1)
        if not isinstance(own, dict | list | tuple):
            return own
        if id(own) not in done:
            if isinstance(own, dict):
                done[id(own)] = {key: unwrapped(held, depth + 1) for key, held in own.items()}
            else:
                done[id(own)] = [unwrapped(held, depth + 1) for held in own]
        return done[id(own)]

    return unwrapped(value, 0)

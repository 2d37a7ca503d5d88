"""PyTorch's ``.pth``: a zip with a pickle and the numbers beside it, or the older run of pickles. None of it is run."""

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.pickles import STAND_INS, UNREADABLE, Reader
from protocol.base.sealed import one_line
from protocol.exchange.foreign import TORCH_INPUT, Foreign, ForeignLayer, alexnets

TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "BoolStorage": "?",
}
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of an older file
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # keys under which checkpoints keep the weights
LARGEST = 2**31  # bytes of one tensor
LARGEST_PICKLE = 2**26  # bytes


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors are views of; those of an older file come after the pickle that names them."""

    kind: str
    count: int
    load: Callable[[], bytes]


@dataclass(frozen=True)
class View:
    """A tensor as its pickle tells it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The numbers, in the tensor's shape."""
        flat = np.frombuffer(self.storage.load(), self.storage.kind)
        if len(self.shape) != len(self.strides) or min((*self.shape, *self.strides, self.offset, 0)) < 0:
            raise ValueError("a tensor with a shape or strides that cannot be")
        if prod(self.shape) * flat.itemsize > LARGEST:
            raise ValueError("a tensor that is too large")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if 0 not in self.shape and last >= flat.size:
            raise ValueError("a tensor that reaches beyond its numbers")
        steps = [step * flat.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps).copy()


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> View:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without numbers")
    return View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


TORCH_STAND_INS: dict[tuple[str, str], Any] = {
    **STAND_INS,
    **{("torch", name): kind for name, kind in TYPES.items()},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
}


def read(path: Path) -> Foreign:
    """The weights of a ``.pth``, of a whole checkpoint or of a state alone.

    Raises:
        Misuse: it is none, is damaged, names code to run, or is not of an AlexNet.
    """
    try:
        with path.open("rb") as file:
            state = _in_zip(path) if zipfile.is_zipfile(file) else _in_a_row(path)
        views = _views(state)
        arrays = {name: view.array() for name, view in views.items() if np.dtype(view.storage.kind).kind == "f"}
    except (*UNREADABLE, zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise Misuse(f"{path} cannot be read as a state of PyTorch ({one_line(error)})") from None
    layers, said = [], []
    for name, weight in arrays.items():
        stem, _, last = name.rpartition(".")
        if last == "weight" and weight.ndim in (2, 4):
            if f"{stem}.bias" not in arrays:
                said.append(f"{stem} has no biases: zeros are taken")
            bias = arrays.get(f"{stem}.bias", np.zeros(len(weight), np.float32))
            layers.append(ForeignLayer(stem, weight, bias))
    return Foreign("torch", alexnets(layers, path), TORCH_INPUT, said=tuple(said))


def _views(state: Any) -> dict[str, View]:
    """The named tensors of a state, wherever a checkpoint keeps it."""
    for name in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
            break
    if not isinstance(state, dict):
        raise ValueError("it holds no named tensors")
    return OrderedDict((str(name), value) for name, value in state.items() if isinstance(value, View))


def _in_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        described = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
        if described is None:
            raise ValueError("its zip holds no data.pkl")
        if archive.getinfo(described).file_size > LARGEST_PICKLE:
            raise ValueError("a data.pkl that is too large")
        root = described.removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        loaded: dict[str, bytes] = {}

        def storage(reference: Any) -> Storage:
            _, kind, key, _, count = reference

            def load() -> bytes:
                if key not in loaded:
                    with zipfile.ZipFile(path) as file:
                        if file.getinfo(f"{root}data/{key}").file_size > LARGEST:
                            raise ValueError("a tensor that is too large")
                        loaded[key] = file.read(f"{root}data/{key}")
                return loaded[key]

            return Storage(_kind(kind), int(count), load)

        return Reader(io.BytesIO(archive.read(described)), TORCH_STAND_INS, storage).load()


def _in_a_row(path: Path) -> Any:
    with path.open("rb") as file:
        if Reader(file, TORCH_STAND_INS).load() != MAGIC:
            raise ValueError("it does not begin as PyTorch's files do")
        for _ in ("protocol", "system"):
            Reader(file, TORCH_STAND_INS).load()
        loaded: dict[str, bytes] = {}
        named: dict[str, Storage] = {}

        def storage(reference: Any) -> Storage:
            _, kind, key, _, count, *_ = reference
            return named.setdefault(key, Storage(_kind(kind), int(count), lambda: loaded[key]))

        state = Reader(file, TORCH_STAND_INS, storage).load()
        for key in Reader(file, TORCH_STAND_INS).load():
            own = named[key]
            count = int.from_bytes(file.read(8), "little")
            size = count * np.dtype(own.kind).itemsize
            if size > LARGEST:
                raise ValueError("a tensor that is too large")
            loaded[key] = file.read(size)
        return state


def _kind(kind: Any) -> str:
    if not isinstance(kind, str):
        raise ValueError("numbers of an unknown type")
    return kind

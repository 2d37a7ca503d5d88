"""CIFAR-10 as its site gives it: the binary or the python archive, or the folder that either was unpacked into.

cifar-10-batches-bin/data_batch_1.bin ... test_batch.bin    a label's byte and 3,072 bytes of an image, 10,000 times
cifar-10-batches-py/data_batch_1 ... test_batch             pickles, which are read without being run
"""

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.pickles import read_pickle
from protocol.base.sealed import one_line
from protocol.datasets.store import Manifest, write_store

EDGE = 32
PIXELS = 3 * EDGE * EDGE
CLASSES = 10
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
LARGEST = 2**26  # bytes of a batch
MD5 = {  # that the site publishes
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}

Reader = Callable[[str], bytes | None]  # a file's bytes by its name, if there is one


def prepare(folder: Path, source: Path) -> Manifest:
    """Write the store of CIFAR-10 to ``folder``.

    Raises:
        Misuse: there is a store already; ``source`` is not there, is not CIFAR-10, or is an archive other than the
            published one.
    """
    if (folder / "store.json").exists():
        raise Misuse(f"{folder} is there already: delete it to prepare it again")
    read = _in_folder(source) if source.is_dir() else _in_archive(source)
    batch = _binary if read(f"{TRAIN[0]}.bin") is not None else _python
    arrays: dict[str, np.ndarray] = {}
    for part, names in (("train", TRAIN), ("test", TEST)):
        found = [batch(read, name, source) for name in names]
        arrays[f"{part}_images"] = np.concatenate([images for images, _ in found])
        arrays[f"{part}_labels"] = np.concatenate([labels for _, labels in found])
        arrays[f"{part}_tiles"] = np.arange(len(arrays[f"{part}_labels"]))
    classes = _classes(read, source)
    return write_store(folder, "cifar10", classes, arrays, source=f"CIFAR-10, {source.name}", colour_statistics={})


def _in_folder(source: Path) -> Reader:
    found = {path.name: path for path in sorted(source.rglob("*")) if path.is_file()}

    def read(name: str) -> bytes | None:
        return found[name].read_bytes() if name in found else None

    return read


def _in_archive(source: Path) -> Reader:
    """The published archive's files.

    Raises:
        Misuse: it is not there, or another.
    """
    if not source.is_file():
        raise Misuse(f"there is no folder or archive {source}")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest not in MD5.values():
        raise Misuse(
            f"{source} is not an archive of CIFAR-10 as its site publishes it (its MD5 is {digest}): download it "
            "again, or unpack it and name the folder if it is meant to differ"
        )
    try:
        with tarfile.open(source) as archive:
            members = [member for member in archive if member.isreg() and member.size <= LARGEST]
            found = {Path(member.name).name: _content(archive, member) for member in members}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Misuse(f"{source} is not a whole archive ({one_line(error)})") from None
    return found.get


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _binary(read: Reader, name: str, source: Path) -> tuple[np.ndarray, np.ndarray]:
    data = read(f"{name}.bin")
    if data is None or not data or len(data) % (1 + PIXELS):
        raise Misuse(f"{source} holds no {name}.bin of whole images: unpack it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return _images(rows[:, 1:]), _labels(rows[:, 0], name, source)


def _python(read: Reader, name: str, source: Path) -> tuple[np.ndarray, np.ndarray]:
    data = read(name)
    if data is None:
        raise Misuse(f"{source} holds neither {name}.bin nor {name}: it is not CIFAR-10")
    batch = read_pickle(data, f"{name} in {source}")
    try:
        rows, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
        if rows.dtype != np.uint8 or rows.shape != (len(labels), PIXELS) or labels.dtype.kind != "i" or not len(labels):
            raise ValueError(f"images {rows.dtype} {rows.shape} and labels {labels.dtype} {labels.shape}")
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise Misuse(f"{name} in {source} is no batch of CIFAR-10 ({one_line(error)})") from None
    return _images(rows), _labels(labels, name, source)


def _images(rows: np.ndarray) -> np.ndarray:
    """(N, 3072) as (N, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, EDGE, EDGE).transpose(0, 2, 3, 1))


def _labels(labels: np.ndarray, name: str, source: Path) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise Misuse(f"{name} in {source} has a label that is none of CIFAR-10's {CLASSES} classes")
    return labels.astype(np.int64)


def _classes(read: Reader, source: Path) -> list[str]:
    text, pickled = read("batches.meta.txt"), read("batches.meta")
    if text is not None:
        names = text.decode(errors="replace").split()
    elif pickled is not None:
        found = read_pickle(pickled, f"batches.meta in {source}")
        names = list(map(str, found.get("label_names", []))) if isinstance(found, dict) else []
    else:
        names = []
    if len(names) != CLASSES:
        raise Misuse(f"{source} does not name {CLASSES} classes in batches.meta.txt or batches.meta")
    return names

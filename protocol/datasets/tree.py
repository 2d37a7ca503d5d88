"""Image files below a folder, within tar archives as well, which are read where they lie and never unpacked.

    train/n01440764/a.JPEG                       parts ("n01440764", "a.JPEG")
    ILSVRC2012_img_train.tar, in it n01440764.tar, in it a.JPEG     the same
    ILSVRC2012_img_val.tar, in it a.JPEG         parts ("a.JPEG",)

An archive counts as the folder that it would be unpacked into; a path's own archive or folder is left out of ``parts``.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from protocol.base.errors import Misuse
from protocol.base.sealed import one_line

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".webp", ".bmp"})
ARCHIVE, COMPRESSED = ".tar", (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


class Leaf(NamedTuple):
    """An image file, which has not been opened. ``why``: what forbids that, or nothing."""

    parts: tuple[str, ...]  # from below the folder that was asked for
    file: str  # it, or the archive that it lies in
    offset: int  # of its bytes in ``file``
    size: int  # bytes
    why: str = ""


def leaves(path: Path) -> Iterator[Leaf]:
    """The images below a folder or an archive, in the order of their names; in an archive, in its own order.

    Hidden entries are passed over, such as .git and the ._x.JPEG that some systems put beside each file.

    Raises:
        Misuse: there is no such folder or archive, or an archive is damaged or cut short.
    """
    if path.is_dir():
        yield from _of_folder(path, ())
    elif path.is_file():
        yield from _of_archive(path)
    else:
        raise Misuse(f"there is no folder or archive {path}")


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _of_folder(folder: Path, parts: tuple[str, ...], above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Leaf]:
    own = os.stat(folder)
    if (own.st_dev, own.st_ino) in above:
        return  # a link to a folder that it lies in
    above |= {(own.st_dev, own.st_ino)}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        within = (*parts, entry.name)
        if entry.name.startswith("."):
            continue
        try:
            found = entry.stat()
        except OSError as error:
            if is_image(entry.name):
                yield Leaf(within, entry.path, 0, 0, f"it cannot be opened ({error.strerror})")
            continue
        if stat.S_ISDIR(found.st_mode):
            yield from _of_folder(Path(entry.path), within, above)
        elif entry.name.endswith(COMPRESSED):
            raise Misuse(f"{entry.path} is compressed, and is not read as it lies: unpack it first, or move it away")
        elif entry.name.endswith(ARCHIVE):
            inside = (*parts, entry.name.removesuffix(ARCHIVE))
            yield from (leaf._replace(parts=(*inside, *leaf.parts)) for leaf in _of_archive(Path(entry.path)))
        elif is_image(entry.name):
            why = "" if stat.S_ISREG(found.st_mode) else "it is not a regular file"
            yield Leaf(within, entry.path, 0, found.st_size, why)


def _of_archive(path: Path) -> Iterator[Leaf]:
    try:
        with path.open("rb") as file:
            yield from _members(file, str(path), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise Misuse(f"{path} cannot be read ({error.strerror})") from None
    except tarfile.TarError as error:
        raise Misuse(f"{path} is not a whole tar archive ({one_line(error)}): download it again") from None


def _members(file: io.BufferedReader, path: str, start: int, size: int) -> Iterator[Leaf]:
    """The images of an archive that takes up ``size`` bytes of ``file`` from ``start``."""
    window = _Window(file, start, size)
    with tarfile.open(fileobj=window, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # a million of them would stay in memory
            name = PurePosixPath(member.name)
            if member.isdir() or any(part.startswith(".") and part != ".." for part in name.parts):
                continue
            parts, begins = name.parts, start + member.offset_data
            plain = member.isreg() and not member.issparse()
            if plain and member.offset_data + member.size > size:
                raise tarfile.ReadError(f"it ends within {member.name}")
            if plain and name.suffix == ARCHIVE:
                for leaf in _members(file, path, begins, member.size):
                    yield leaf._replace(parts=(*parts[:-1], name.stem, *leaf.parts))
            elif is_image(member.name):
                why = "" if plain else "it is a link, a device or has holes in its archive"
                if plain and (name.is_absolute() or ".." in parts):
                    why = "its name leads out of its archive"
                yield Leaf(parts, path, begins, member.size, why)
    # An archive that was cut between two of its members looks whole but for this.
    window.seek(max(0, size - tarfile.BLOCKSIZE))
    if window.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError("it has no end")


class _Window(io.RawIOBase):
    """Part of a file, as a file: what ``tarfile`` reads an archive within an archive through."""

    def __init__(self, file: io.BufferedReader, start: int, size: int) -> None:
        self.file, self.start, self.size, self.place = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self.place)
        self.file.seek(self.start + self.place)
        data = self.file.read(left if count < 0 else min(count, left))
        self.place += len(data)
        return data

"""Files and folders that are either whole or absent, whatever ends the process or the machine.

Both are written under a hidden name, put on the disk (data, then folder), and renamed:

    .record.json.4711.draft  ->  record.json            a file, which takes the place of the one before it
    .photos-small.draft      ->  photos-small           a folder; the one before it waits as .photos-small.before
    .photos-small.lock                                  held while that is done

What a kill leaves behind is swept at the next start. Nothing that this project did not write is ever removed.
"""

import fcntl
import glob
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.base.errors import Misuse

DRAFT = ".draft"
WRITING = threading.RLock()  # one thread of a process at a time: their drafts have one name
POLL = 0.2  # seconds
SHOWN = 3  # names in a sentence
BEGINNING = b'{\n "version": '  # of every JSON file that this project writes


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """See a file's data, or a folder's names, on the disk: only then do they outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a draft; what the block has written there takes the place of ``path`` when it ends well."""
    with WRITING:
        draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{DRAFT}"):
            if not _is_alive(left.name.split(".")[-2]):
                left.unlink(missing_ok=True)  # by a process that was killed
        try:
            yield draft
            # Whatever library wrote it: readable as any other file of ours.
            draft.chmod(0o666 & ~_umask())
            sync(draft)
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sweep(folder: Path) -> None:
    """Remove the drafts of files that a killed process has left in ``folder``, which this one has claimed."""
    for draft in folder.glob(f".*{DRAFT}"):
        if draft.is_file():
            draft.unlink(missing_ok=True)


def _is_alive(pid: str) -> bool:
    """Whether a process may still be writing a draft of its own."""
    return not pid.isdecimal() or Path("/proc", pid).exists() or not Path("/proc/self").exists()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def locked(path: Path, taken: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes; the lock falls with the process, however that ends.

    Raises:
        Misuse: another process still holds it after ``patience`` seconds, which ``taken`` says; or ``path`` is a link.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Misuse(f"{path} cannot be opened as a lock ({error.strerror})") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, handle):
                break
        except OSError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise Misuse(taken) from None
            time.sleep(POLL)
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Whether ``path`` is the file that was locked, and was not removed by who held it before."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def check_replaceable(path: Path, holds: Collection[str], mark: str) -> None:
    """See, before any work, that a folder of ours may take the place of ``path``: nothing but ``holds`` stands there.

    ``mark``: of these, what every such folder has. Without it, names that look like ours are somebody else's.

    Raises:
        Misuse: something else does, which would be lost; or ``path`` is a file or a link, or below one.
    """
    for above in path.parents:
        if above.exists() and not above.is_dir():
            raise Misuse(f"{path} cannot be written: {above} is not a folder")
    if path.is_symlink():
        raise Misuse(f"{path} is a link, which is not replaced: name the folder itself, or remove the link")
    if not path.exists():
        return
    if not path.is_dir():
        raise Misuse(f"{path} is a file, where a folder is to be written: name another place")
    there = sorted(entry.name for entry in path.iterdir())
    marked = (path / mark).exists() and (Path(mark).suffix != ".json" or is_own(path / mark))
    _refuse_foreign(path, [name for name in there if name not in holds] if marked else there)


def is_own(path: Path) -> bool:
    """Whether a JSON file begins as this project's do, whatever has become of it since."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False


def _refuse_foreign(path: Path, foreign: list[str]) -> None:
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise Misuse(
            f"{path} holds what this project did not write ({', '.join(foreign[:SHOWN])}{more}), which would be lost: "
            "name another place, or move it away"
        )


@contextmanager
def new_folder(
    path: Path, holds: Collection[str], mark: str, goes_on: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """Yield a draft of the folder ``path``, whose place it takes when the block ends well; it vanishes otherwise.

    ``holds``: the names of all that such a folder of ours may hold; ``mark``: what each has. With ``goes_on`` the draft
    stays when the block ends badly, and is yielded again later if ``goes_on`` says of it that it can be finished.

    Raises:
        Misuse: something else stands at ``path`` (nothing was done), or another process is writing it.
    """
    check_replaceable(path, holds, mark)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, before, lock = (path.with_name(f".{path.name}{kind}") for kind in (DRAFT, ".before", ".lock"))
    with locked(lock, f"another process is writing {path}"):
        try:
            for left in (draft, before):
                if left.is_dir():
                    _refuse_foreign(left, sorted({entry.name for entry in left.iterdir()} - {*holds}))
            if not (goes_on and draft.is_dir() and goes_on(draft)):
                _clear(draft)
            _restore(path, before)
            draft.mkdir(exist_ok=True)
            try:
                yield draft
                for folder, _, names in os.walk(draft, topdown=False):
                    for name in names:
                        sync(Path(folder, name))
                    sync(Path(folder))
                if path.exists():
                    os.rename(path, before)
                os.rename(draft, path)
            except BaseException:
                if not goes_on:
                    _clear(draft)
                _restore(path, before)
                raise
            sync(path.parent)
            shutil.rmtree(before, ignore_errors=True)
        finally:
            lock.unlink(missing_ok=True)


def _clear(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)


def _restore(path: Path, before: Path) -> None:
    """See that a folder stands after a process was ended half-way: the old one again, or the new one."""
    if before.exists():
        if path.exists():
            shutil.rmtree(before)
        else:
            os.rename(before, path)

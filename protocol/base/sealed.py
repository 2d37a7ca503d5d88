"""JSON that this project wrote, with a checksum of itself: what was altered since is refused with a sentence.

{"version": 2, "status": "finished", ..., "seal": "<SHA-256 of all the rest>"}
"""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from protocol.base.errors import Misuse
from protocol.base.files import write_text

SEAL = "seal"
LONGEST = 160  # characters of foreign text in a sentence
Content = TypeVar("Content", bound=BaseModel)


class Damaged(Misuse):
    """A file that this project wrote is not as it wrote it. What does not rest on it can go on."""


def one_line(text: object) -> str:
    """Foreign text as part of a sentence: one line of it, of bounded length, without control characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text).strip().partition("\n")[0])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file; a pipe or a device, which could be waited for without end, is refused.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it is no regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Damaged(f"{path} is not a regular file")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read ({error.strerror})") from None


def seal_of(content: dict[str, Any]) -> str:
    """SHA-256 over content, whichever way its JSON is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sealed(model: BaseModel) -> str:
    """The text of ``model`` with its seal."""
    content = json.loads(model.model_dump_json())
    return json.dumps({**content, SEAL: seal_of(content)}, indent=1, ensure_ascii=False) + "\n"


def write_sealed(path: Path, model: BaseModel) -> None:
    """Replace ``path`` by ``model`` and its seal in one step."""
    write_text(path, sealed(model))


def read_sealed(path: Path, model: type[Content], version: int, missing: str, remedy: str) -> Content:
    """Read what :func:`write_sealed` wrote; ``missing`` is said where there is none, ``remedy`` where it is damaged.

    Raises:
        Misuse: it is absent, or has another version.
        Damaged: it is not what was written.
    """
    try:
        content = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise Misuse(missing) from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not JSON ({one_line(error)}): {remedy}") from None
    found = content.get("version") if isinstance(content, dict) else None
    if type(found) is not int or found != version:
        raise Misuse(
            f"{path} has version {one_line(found)}, but this project reads version {version}: update, or run it again"
        )
    seal = content.pop(SEAL, None)
    try:
        made = model.model_validate(content)
    except (ValidationError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "it nests too deeply"}
        where = one_line(".".join(map(str, problem["loc"])))
        raise Damaged(f"{path} is not valid: {where}: {one_line(problem['msg'])}: {remedy}") from None
    if seal != seal_of(content):
        raise Damaged(f"{path} was altered after it was written: {remedy}")
    return made

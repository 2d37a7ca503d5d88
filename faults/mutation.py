"""Ways in which a file is not as it was written: bits, cuts, strange values, strange kinds of file."""

import json
import os
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from protocol.base.sealed import SEAL, seal_of

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**6, 2**63, 10**400, float("nan"), float("inf")),
    *("", "nan", "../..", "\x1b[31m[/x]", "é" * 999, "0" * 64),
    *([], {}, [[]], {"a": 1}, [None] * 5, list(range(300))),
)


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Bytes as a failing disk, a cut copy or an editor leaves them."""
    found = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 4, 32))):
        place = generator.randrange(len(found) + 1)
        match generator.randrange(7):
            case 0 | 1 if place < len(found):
                found[place] ^= 1 << generator.randrange(8)
            case 2:
                del found[place:]
            case 3:
                del found[place : place + generator.randrange(64)]
            case 4:
                found[place:place] = generator.randbytes(generator.randrange(1, 16))
            case 5:
                found[place:place] = found[place : place + generator.randrange(256)]
            case _:
                found[place : place + 8] = generator.choice((b"\0" * 8, b"\xff" * 8, b"[" * 2000, b"-1e999", b"\r\n,,"))
    return bytes(found)


def strange(content: bytes, generator: random.Random) -> bytes:
    """Sealed JSON with some values of another kind, sealed anew: what only a reader's own checks can refuse."""
    tree = json.loads(content)
    for _ in range(generator.choice((1, 1, 2, 5))):
        places = list(_places(tree))
        parent, key = generator.choice(places)
        match generator.randrange(4):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[generator.choice(("a", "", "version", "step"))] = deepcopy(generator.choice(STRANGE))
            case 2:
                other, name = generator.choice(places)
                parent[key] = deepcopy(other[name])
            case _:
                parent[key] = deepcopy(generator.choice(STRANGE))
        if not tree or not isinstance(tree, dict):
            break
    if isinstance(tree, dict):
        tree.pop(SEAL, None)
        tree[SEAL] = seal_of(tree)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


def _fifo(path: Path) -> None:
    os.mkfifo(path)


# What else may stand where a file should.
KINDS: dict[str, Callable[[Path], None]] = {
    "absent": lambda path: None,
    "empty": Path.touch,
    "folder": Path.mkdir,
    "pipe": _fifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "broken link": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}

"""What to say of a name that is none."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """There is no ``kind`` called ``name``: what may have been meant, and all there are."""
    names = list(known)
    near = get_close_matches(name, names, n=2)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no {kind} {name[:80]!r}{meant or ';'} there are {', '.join(names)}"

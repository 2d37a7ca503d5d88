"""What a program says while it works."""

import sys


def log(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)

"""Asking a run to save its state and stop: a signal to its command, or a file in its folder.

    kill -USR1 PID              touch results/runs/gluon/imagenet/single/seed0/.stop

Whoever keeps the record looks for the file whenever it reads losses, so all processes of a run stop after the same
step. A scheduler that ends jobs sends such a signal some minutes before, if told to (Slurm: ``--signal=B:USR1@300``).
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from protocol.base.log import log

STOP = ".stop"


def is_asked(folder: Path) -> bool:
    """Whether the run in ``folder`` is to save its state and stop."""
    return (folder / STOP).exists()


def forget(folder: Path) -> None:
    """Take the wish back, since it was heeded, or was meant for an earlier process."""
    (folder / STOP).unlink(missing_ok=True)


@contextmanager
def heeding(folder: Path, *, anew: bool = True) -> Iterator[None]:
    """Within the block, SIGUSR1 asks the run in ``folder`` to save its state and stop.

    ``anew``: what was asked of an earlier process is forgotten.
    """
    if anew:
        forget(folder)

    def ask(number: int, frame: FrameType | None) -> None:
        if not folder.is_dir():
            raise KeyboardInterrupt  # nothing has begun that could be saved
        (folder / STOP).touch()
        log("asked to stop: the run saves its state first")

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)

"""A DeepSpeed run goes on as if nothing had been, whichever of its processes is killed at whatever moment."""

from typing import ClassVar

import psutil

from tests.support.commands import DEEPSPEED
from tests.support.resuming import ResumeTests, Role


def rank(number: str) -> Role:
    return lambda process: is_module(process, "deepspeed_impl") and process.environ().get("LOCAL_RANK") == number


def is_command(process: psutil.Process | None) -> bool:
    """Whether it is the command line that the user called, or the launcher that it forked."""
    return process is not None and is_module(process, "deepspeed_impl") and "LOCAL_RANK" not in process.environ()


def is_module(process: psutil.Process, name: str) -> bool:
    """Whether it was started as ``python -m name``."""
    words = [word for word in process.cmdline() if word != "-u"]
    return words[1:3] == ["-m", name]


class TestResume(ResumeTests):
    backend = DEEPSPEED
    roles: ClassVar[dict[str, Role]] = {
        "command": lambda process: is_command(process) and not is_command(process.parent()),
        "launch": lambda process: is_command(process) and is_command(process.parent()),
        "rank 0": rank("0"),
        "rank 1": rank("1"),
    }
    writers = ("rank 0", "rank 1")
    start = 4.0

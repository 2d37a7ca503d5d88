"""A Gluon run that is killed at any moment goes on as if it had not been."""

from typing import ClassVar

from tests.support.commands import GLUON
from tests.support.resuming import ResumeTests, Role


class TestResume(ResumeTests):
    backend = GLUON
    roles: ClassVar[dict[str, Role]] = {"command": lambda process: "gluon_impl" in process.cmdline()}
    writers = ("command",)
    start = 2.5

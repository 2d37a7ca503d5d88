"""What ``nox -s tests`` leaves to ``nox -s tests_long``: more of what a shorter test has shown once."""

from collections.abc import Iterable
from typing import Any

import pytest


def long(*values: Any) -> Any:
    """A parameter set of a test that is long only with these."""
    return pytest.param(*values, marks=pytest.mark.long)


def but(values: Iterable[str], short: str) -> list[Any]:
    """Each of ``values``, long but for those named in ``short``."""
    return [value if value in short.split() else long(value) for value in values]

"""What ``nox -s tests`` leaves to ``nox -s tests_long``: more of what a shorter test has shown once."""

from typing import Any

import pytest


def long(*values: Any) -> Any:
    """A parameter set of a test that is long only with these."""
    return pytest.param(*values, marks=pytest.mark.long)

"""How every refusal must look: one sentence that names what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from protocol.base.errors import Misuse


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """The block must raise :class:`Misuse` with a single line that holds all of ``words``."""
    with pytest.raises(Misuse) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    for word in words:
        assert word in message

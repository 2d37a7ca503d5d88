"""The bench's peers run, each in its environment, and say what the bench reads."""

import os

import pytest

from compare.bench import measure
from compare.limit import limit
from tests.support.long import long

SLOW_TO_START = ("torch-compiled", "deepspeed-default-cut")
INTERPRETERS = {name: os.environ.get(f"{name.upper()}_PYTHON", "") for name in ("gluon", "deepspeed")}


@pytest.mark.skipif(not all(INTERPRETERS.values()), reason="needs both environments; nox -s tests names them")
@pytest.mark.parametrize("name", [long(name) if name in SLOW_TO_START else name for name in measure.PEERS])
def test_a_peer_says_its_threads_and_seconds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BATCH", 16)
    found = measure.peer(measure.Contender(name, threads=1), INTERPRETERS, "cpu", 1)
    assert found["threads"] == 1
    assert len(found["seconds"]) == 1


@pytest.mark.skipif(not INTERPRETERS["deepspeed"], reason="needs the deepspeed environment; nox -s tests names it")
def test_the_limit_is_measured() -> None:
    found = limit(INTERPRETERS)
    assert {"fp32", "copy", "link"} <= set(found)
    # Whatever else the machine does: these are operations and bytes, and between processes bytes, a second.
    assert all(value > (1e7 if name == "link" else 1e9) for name, value in found.items())

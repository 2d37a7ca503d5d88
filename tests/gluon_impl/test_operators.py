"""Our operators where they can be compiled, and MXNet's where they cannot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gluon_impl import operators
from gluon_impl.operators import COMPILED, COMPOSED, implementation


@pytest.fixture
def anew() -> Iterator[None]:
    """What was found out before is forgotten, and what is found out in this test."""
    implementation.cache_clear()
    yield
    implementation.cache_clear()


def test_where_there_is_a_compiler_they_are_ours() -> None:
    assert implementation() == COMPILED


@pytest.mark.usefixtures("anew")
def test_without_a_compiler_they_are_mxnets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert implementation() == COMPOSED
    assert "no C++ compiler" in capsys.readouterr().err


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("source", ["no C++", 'extern "C" int nothing_for_mxnet() { return 0; }'])
def test_what_does_not_compile_or_load_leaves_mxnets(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "broken.cc"
    broken.write_text(source)
    monkeypatch.setattr(operators, "SOURCES", (broken,))
    assert implementation() == COMPOSED
    assert "do not compile or load" in capsys.readouterr().err

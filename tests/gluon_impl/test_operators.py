"""Our operators where they can be compiled, and MXNet's where they cannot."""

import sys
from pathlib import Path

import pytest

from gluon_impl import operators
from gluon_impl.operators import COMPILED, COMPOSED, implementation

# What is not remembered: a process can load the library once.
implementation_anew = implementation.__wrapped__


def test_where_there_is_a_compiler_they_are_ours() -> None:
    assert implementation() == COMPILED


def test_without_a_compiler_they_are_mxnets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert implementation_anew() == COMPOSED
    assert "no C++ compiler" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["no C++", 'extern "C" int nothing_for_mxnet() { return 0; }'])
def test_what_does_not_compile_or_load_leaves_mxnets(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    broken = tmp_path / "broken.cc"
    broken.write_text(source)
    monkeypatch.setattr(operators, "SOURCES", (broken,))
    assert implementation_anew() == COMPOSED
    assert "do not compile or load" in capsys.readouterr().err

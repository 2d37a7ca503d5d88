"""What is compiled once is used again, until something about it changes."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.base import native


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    path = tmp_path / "answer.cc"
    path.write_text('extern "C" int answer() { return ANSWER; }')
    return path


def test_one_library_for_one_source_framework_and_arguments(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.library("answer", (source,), "a 1", ("-DANSWER=42",))
    made = first.stat().st_mtime_ns
    assert native.library("answer", (source,), "a 1", ("-DANSWER=42",)) == first
    assert first.stat().st_mtime_ns == made
    others = {
        native.library("answer", (source,), "a 2", ("-DANSWER=42",)),
        native.library("answer", (source,), "a 1", ("-DANSWER=43",)),
    }
    monkeypatch.setattr(native, "_instructions", lambda: "flags: none")
    others.add(native.library("answer", (source,), "a 1", ("-DANSWER=42",)))
    assert len({first, *others}) == 4


def test_what_does_not_compile_leaves_nothing_behind(source: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        native.library("answer", (source,), "a 1", ())
    assert list((source.parent / "lib").iterdir()) == []


def test_several_sources_make_one_library_and_each_of_them_counts(source: Path) -> None:
    half, header = source.with_name("half.cc"), source.with_name("half.h")
    half.write_text('#include "half.h"\nint half() { return ALL / 2; }')
    source.write_text('#include "half.h"\nextern "C" int answer() { return 2 * half(); }')
    made = {}
    for whole in ("42", "44"):
        header.write_text(f"int half(); constexpr int ALL = {whole};")
        made[whole] = native.library("answer", (source, half, header), "a 1", ())
    assert {whole: ctypes.CDLL(str(path)).answer() for whole, path in made.items()} == {"42": 42, "44": 44}


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit", "no checksum"])
def test_a_damaged_library_is_built_anew(source: Path, damage: str) -> None:
    """Loaded, one that was cut ends the process by a signal, without a word."""
    built = native.library("answer", (source,), "a 1", ("-DANSWER=42",))
    whole = built.read_bytes()
    if damage == "no checksum":
        native.checksum_of(built).unlink()
    else:
        bit = bytearray(whole)
        bit[len(bit) // 2] ^= 1
        built.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "one bit": bytes(bit)}[damage])
        assert not native.is_whole(built)
    assert native.library("answer", (source,), "a 1", ("-DANSWER=42",)) == built
    assert native.is_whole(built)
    assert ctypes.CDLL(str(built)).answer() == 42

"""Files and folders are whole or absent."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from protocol.base.files import new_folder, sweep, write_text
from protocol.base.tensors import save_tensors
from tests.support.disk import ordered
from tests.support.refusals import refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first")
    write_text(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "second"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_text_that_cannot_be_written_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_text(tmp_path / "a.txt", "first")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space"):
        write_text(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


HOLDS, MARK = ("a", "old", "new"), "old"


def test_a_folder_appears_only_when_its_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with new_folder(target, HOLDS, MARK) as draft:
        (draft / "a").touch()
        assert not target.exists()
    assert names(target) == ["a"]
    assert names(target.parent) == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_whose_block_fails_leaves_the_old(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "folder"
    with new_folder(target, HOLDS, MARK) as draft:
        (draft / "old").touch()

    def fail() -> None:
        with new_folder(target, HOLDS, MARK) as draft:
            (draft / "new").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_what_this_project_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / MARK).touch()
    for name in ("photo1.jpeg", "photo2.jpeg", "photo3.jpeg", "photo4.jpeg"):
        (target / name).write_text(name)
    began = False
    with refused(str(target), "photo1.jpeg", "1 more", "lost"), new_folder(target, HOLDS, MARK):
        began = True
    assert not began
    assert (target / "photo1.jpeg").read_text() == "photo1.jpeg"
    assert names(tmp_path) == ["folder"]


def test_names_like_ours_without_our_mark_are_somebody_elses(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "a").write_text("mine")
    with refused(str(target), "a", "lost"), new_folder(target, HOLDS, MARK):
        raise AssertionError
    assert (target / "a").read_text() == "mine"


def test_the_drafts_of_a_file_that_a_killed_process_left_go_when_it_is_written_again(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    dead, alive = tmp_path / f".a.csv.{gone.pid}.draft", tmp_path / f".a.csv.{os.getppid()}.draft"
    other = tmp_path / f".b.csv.{gone.pid}.draft"
    for draft in (dead, alive, other):
        draft.touch()
    write_text(tmp_path / "a.csv", "whole")
    assert names(tmp_path) == sorted(["a.csv", alive.name, other.name])


@pytest.mark.parametrize("kind", ["file", "link", "below a file"])
def test_what_is_no_folder_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("kept")
    target = tmp_path / "folder"
    if kind == "file":
        target.write_text("kept")
    elif kind == "link":
        target.symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "file").touch()
        target = tmp_path / "file" / "folder"
    before = names(tmp_path)
    with refused(str(target)), new_folder(target, HOLDS, MARK):
        raise AssertionError
    assert names(tmp_path) == before
    assert (tmp_path / "elsewhere" / "a").read_text() == "kept"


KILLED = """
import os, sys
from pathlib import Path
from protocol.base import files
moment = int(sys.argv[2])
for name in ("rename", "mkdir", "fsync"):
    def counted(*arguments, right=getattr(os, name), **more):
        global moment
        moment -= 1
        if moment < 0:
            os._exit(9)
        return right(*arguments, **more)
    setattr(os, name, counted)
with files.new_folder(Path(sys.argv[1]), ("a",), "a") as draft:
    (draft / "a").write_text("new")
os._exit(7)
"""


def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new_one(tmp_path: Path) -> None:
    """A process is ended before each of its calls in turn; the next writer finds one of the two, and leaves nothing."""
    states = set()
    for moment in range(20):
        root = tmp_path / str(moment)
        target = root / "folder"
        with new_folder(target, ("a",), "a") as draft:
            (draft / "a").write_text("old")
        command = [sys.executable, "-c", KILLED, str(target), str(moment)]
        ended = subprocess.run(command, check=False).returncode
        assert ended in (7, 9)
        # What the next process does before its own work: here it fails at once, which must leave what there was.
        with pytest.raises(KeyError), new_folder(target, ("a",), "a"):
            raise KeyError
        states.add((target / "a").read_text())
        assert names(root) == ["folder"]
        if ended == 7:
            break
    else:
        raise AssertionError("it was killed every time")
    assert states == {"old", "new"}


def test_a_mark_that_somebody_else_wrote_is_none(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "store.json").write_text('{"mine": 1}')
    with refused(str(target), "did not write", "store.json"), new_folder(target, ("a", "store.json"), "store.json"):
        raise AssertionError
    (target / "store.json").write_text('{\n "version": 2, cut off')
    with new_folder(target, ("a", "store.json"), "store.json") as draft:
        (draft / "a").touch()
    assert names(target) == ["a"]


@pytest.mark.parametrize("left", [".folder.draft", ".folder.before"])
def test_nothing_of_anybody_elses_is_cleared_away(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir()
    (tmp_path / left / "thesis.txt").write_text("years of work")
    with refused(left, "thesis.txt"), new_folder(tmp_path / "folder", HOLDS, MARK):
        raise AssertionError
    assert (tmp_path / left / "thesis.txt").read_text() == "years of work"


def test_two_writers_of_one_folder_are_kept_apart(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with new_folder(target, HOLDS, MARK) as draft:
        (draft / "a").touch()
        with refused("another process", str(target)), new_folder(target, HOLDS, MARK):
            raise AssertionError
    assert names(target) == ["a"]


def test_drafts_of_files_that_a_kill_has_left_are_swept(tmp_path: Path) -> None:
    write_text(tmp_path / "epochs.csv", "a")
    (tmp_path / ".epochs.csv.4711.draft").write_text("half")
    (tmp_path / ".hidden").write_text("not ours")
    sweep(tmp_path)
    assert names(tmp_path) == [".hidden", "epochs.csv"]


def test_every_file_has_the_mode_that_the_user_asks_for(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
        save_tensors(tmp_path / "a.safetensors", {"a": np.zeros(2)})
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_data_is_on_the_disk_before_its_name_is_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = ordered(monkeypatch)
    save_tensors(tmp_path / "a.safetensors", {"a": np.zeros(2)})
    assert done == [f".a.safetensors.{os.getpid()}.draft", "rename to a.safetensors", tmp_path.name]


def test_a_folder_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ordered(monkeypatch)
    with new_folder(tmp_path / "made", ("a", "in"), "a") as draft:
        (draft / "a").write_text("data")
        (draft / "in").mkdir()
        (draft / "in" / "b").write_text("more")
    assert done == ["b", "in", "a", ".made.draft", "rename to made", tmp_path.name]

"""A lint's record: read as it was written, or refused; and what may be linted at all."""

import json
import sys
from pathlib import Path

import pytest

from protocol.lint.factory import call_factory
from protocol.lint.record import Link, LintRecord, Operation, make_lint_request, read_lint, write_lint
from tests.support.refusals import refused


def record() -> LintRecord:
    operation = Operation(
        weight=[96, 3, 11, 11],
        bias=False,
        shape_in=[3, 227, 227],
        shape_out=[96, 55, 55],
        weight_mean=0.0,
        weight_deviation=0.01,
        bias_mean=None,
        bias_deviation=None,
        reach=[(0, 0, 0), (226, 54, 54)],
    )
    return LintRecord(
        backend="gluon",
        subject="models:alexnet",
        edge=227,
        initialised=True,
        parameters=34848,
        unseen=0,
        operations=[operation],
        links=[Link(source=-1, target=0, maps=(0, 3), rows=(0, 227), response=None)],
        ending=None,
        packages={},
        commit="",
        processor="",
    )


def test_a_record_is_read_as_it_was_written_from_folder_or_file(tmp_path: Path) -> None:
    path = write_lint(tmp_path / "new", record())
    assert read_lint(tmp_path / "new") == read_lint(path) == record()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lint.json"]


def test_an_absent_a_damaged_and_a_later_record_are_refused(tmp_path: Path) -> None:
    with refused("no lint record", "lint.json", "lint module:factory"):
        read_lint(tmp_path)
    path = write_lint(tmp_path, record())
    whole = path.read_text()
    path.write_text(whole[:-9])
    with refused("lint.json", "not JSON", "run lint again"):
        read_lint(tmp_path)
    for changes, words in (({"version": 9}, ("version 9", "version 3")), ({"colour": 1}, ("colour",))):
        path.write_text(json.dumps({**json.loads(whole), **changes}))
        with refused("lint.json", *words):
            read_lint(tmp_path)


def test_a_convolutions_groups_follow_from_its_depth() -> None:
    (operation,) = record().operations
    assert operation.groups == 1
    assert operation.model_copy(update={"weight": [256, 48, 5, 5], "shape_in": [96, 27, 27]}).groups == 2
    assert operation.model_copy(update={"weight": [4096, 9216], "shape_in": [256, 6, 6]}).groups == 1


@pytest.mark.parametrize("spec", ["alexnet", "models:", ":alexnet", ""])
def test_what_names_no_factory_is_refused(spec: str) -> None:
    with refused(repr(spec), "module:factory"):
        make_lint_request("gluon", spec, None, None)


def test_the_record_lies_where_the_factory_says(tmp_path: Path) -> None:
    assert make_lint_request("gluon", "a.b:c.d", None, None).out == Path("results/lint/gluon/a.b.c.d")
    assert make_lint_request("gluon", "a:b", 224, tmp_path).out == tmp_path
    with refused("--input", "0"):
        make_lint_request("gluon", "a:b", 0, None)


def test_a_factory_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lint_found_here.py").write_text("made = 7\nmake = int\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [place for place in sys.path if place not in ("", str(tmp_path))])
    assert call_factory("lint_found_here:make", int, "a number") == 0
    # What is a network already need not be called.
    assert call_factory("lint_found_here:made", int, "a number") == 7
    with refused("lint_found_here:make", "makes a int, not a text"):
        call_factory("lint_found_here:make", str, "a text")
    with refused("lint_found_here:made", "cannot be called", "TypeError"):
        call_factory("lint_found_here:made", str, "a text")

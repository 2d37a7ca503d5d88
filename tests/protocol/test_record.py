"""A run's record and tables: written whole, read strictly, and without a trace of the machine's owner."""

import getpass
import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from protocol.base.provenance import surroundings
from protocol.base.tables import write_table
from protocol.experiment.cases import CASES
from protocol.runs.record import Record, check_file, kept_files, read_record, write_record
from tests.support.refusals import refused


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "kind": "train",
        "backend": "gluon",
        "placement": "single",
        "devices": ["cpu:0"],
        "case": CASES["tiny"].content(),
        "seed": 0,
        "precision": "fp32",
        "threads": 1,
        "plan_hash": "abc",
    }
    return Record(**{**fields, **changes})


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(result={"distances": {"logits": 1e-7, "loss": math.inf}}, reason="β", parameters={"cpu:0": 3})
    write_record(tmp_path / "new", written)
    assert read_record(tmp_path / "new") == written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["record.json"]


def test_a_record_from_another_version_is_refused(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    for version in (1, 3, 0, None):
        edit(tmp_path, version=version)
        with refused("record.json", f"version {version}", "reads version 2"):
            read_record(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "sleeping"}, ("status",)),
        ({"seed": "many"}, ("seed",)),
        ({"devices": None}, ("devices",)),
        ({"colour": "green"}, ("colour",)),
        ({"parameters": {"cpu:0": "x"}}, ("parameters.cpu:0",)),
    ],
)
def test_a_record_with_a_bad_field_is_refused_by_its_name(
    tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    write_record(tmp_path, record())
    edit(tmp_path, **change)
    with refused("record.json", "not valid", *words):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "record", "\u20ac" * 3, "[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with refused("record.json", "not JSON"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with refused("record.json", "version None"):
        read_record(tmp_path)


@pytest.mark.parametrize("change", [{"status": "finished"}, {"seed": 1}, {"seconds": 3.5}, {"seal": "0" * 64}])
def test_a_record_that_was_altered_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_record(tmp_path, record())
    edit(tmp_path, **change)
    with refused("record.json", "altered"):
        read_record(tmp_path)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    with refused("record.json", "regular file"):
        read_record(tmp_path)


def test_a_file_of_a_run_is_used_only_as_it_was_left(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ("a",), [{"a": 1}, {"a": 2}])
    (tmp_path / "framework.log").write_text("noise")
    left = record(files=kept_files(tmp_path))
    assert {name: kept.rows for name, kept in left.files.items()} == {"a.csv": 2}
    assert check_file(tmp_path, left, "a.csv") == tmp_path / "a.csv"
    # Cut at a line's end, it would be read without a word.
    (tmp_path / "a.csv").write_text("a\n1\n")
    with refused("a.csv", "damaged"):
        check_file(tmp_path, left, "a.csv")
    (tmp_path / "a.csv").unlink()
    with refused("a.csv", "missing"):
        check_file(tmp_path, left, "a.csv")
    with refused("knows no b.csv"):
        check_file(tmp_path, left, "b.csv")


def test_an_absent_record_is_refused(tmp_path: Path) -> None:
    with refused("no record", str(tmp_path)):
        read_record(tmp_path)


def test_the_surroundings_name_versions_and_neither_host_user_nor_path() -> None:
    found = surroundings(("numpy",))
    assert set(found["packages"]) == {"python", "numpy"}
    text = json.dumps(found)
    assert socket.gethostname() not in text
    assert str(Path.cwd()) not in text
    assert f"/{getpass.getuser()}" not in text


def test_a_table_has_its_columns_and_an_empty_field_for_what_does_not_apply(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.csv"
    write_table(path, ("a", "b"), [{"b": None, "a": 1}, {"a": "x,y", "b": 2.5}])
    assert path.read_text() == 'a,b\n1,\n"x,y",2.5\n'


def test_a_table_refuses_a_row_with_another_column_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_table(path, ("a",), [{"a": 1}])
    with pytest.raises(ValueError, match="b"):
        write_table(path, ("a",), [{"a": 1, "b": 2}])
    assert path.read_text() == "a\n1\n"

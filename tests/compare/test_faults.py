"""A short campaign of faults; the long one is nox -s faults."""

from pathlib import Path

import pytest

from faults.power_loss import lose_power
from faults.readers import attack
from faults.subjects import subjects
from protocol.base import files

INPUTS = 200


def test_every_reader_gives_what_was_written_or_one_sentence(tmp_path: Path) -> None:
    rows = [row for subject in subjects(tmp_path) for row in attack(subject, INPUTS)]
    assert [row for row in rows if row["wrong"] or row["traceback"] or row["hang"]] == []
    assert sum(row["refused"] for row in rows) > sum(row["tried"] for row in rows) / 2


def test_no_loss_of_power_leaves_a_finished_run_that_is_not_whole(tmp_path: Path) -> None:
    row = lose_power(tmp_path)
    assert row["tried"] > 60
    assert (row["wrong"], row["same"] > 0, row["refused"] > 0) == (0, True, True)


def test_a_file_that_is_not_put_on_the_disk_before_its_record_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = files.sync
    monkeypatch.setattr(files, "sync", lambda path: right(path) if path.is_dir() or "record" in path.name else None)
    assert lose_power(tmp_path)["wrong"] > 0

"""CIFAR-10 from the binary and the python archive, whose pickles run nothing."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.datasets import cifar
from protocol.datasets.cifar import prepare
from protocol.datasets.store import open_store
from tests.support.cifar import EACH, NAMES, batch, pack, write_binary, write_python
from tests.support.refusals import refused


@pytest.mark.parametrize("write", [write_binary, write_python])
def test_both_shapes_become_the_same_store(tmp_path: Path, write: Any) -> None:
    prepare(tmp_path / "cifar10", write(tmp_path / "in"))
    store = open_store(tmp_path / "cifar10")
    assert store.manifest.classes == list(NAMES)
    assert store.train.images.shape == (5 * EACH, 32, 32, 3)
    rows, labels = batch(5)
    np.testing.assert_array_equal(store.test.labels, labels)
    # A row is 1,024 red bytes, then green, then blue, each by rows.
    np.testing.assert_array_equal(store.test.images[3, 2, 5], rows[3].reshape(3, 32, 32)[:, 2, 5])
    np.testing.assert_array_equal(store.train.labels[:EACH], batch(0)[1])


def test_an_archive_is_held_to_the_published_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(write_binary(tmp_path / "cifar-10-batches-bin"))
    with refused("cifar-10-batches-bin.tar.gz", "MD5", "unpack it"):
        prepare(tmp_path / "cifar10", archive)
    own = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "MD5", {"cifar-10-binary.tar.gz": own})
    assert prepare(tmp_path / "cifar10", archive).counts == {"train": 5 * EACH, "test": EACH}


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    folder = write_python(tmp_path / "in")
    (folder / "data_batch_3").write_bytes(pickle.dumps(Hostile(tmp_path / "mark"), protocol))
    with refused("data_batch_3", "not run"):
        prepare(tmp_path / "cifar10", folder)
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "cifar10").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data_batch_2", {"labels": [0] * EACH}),
        ("data_batch_2", {"data": np.zeros((EACH, 3072), np.float32), "labels": [0] * EACH}),
        ("data_batch_2", {"data": np.zeros((EACH, 99), np.uint8), "labels": [0] * EACH}),
        ("data_batch_2", {"data": np.zeros((EACH, 3072), np.uint8), "labels": [10] * EACH}),
        ("data_batch_2", [1, 2]),
        ("data_batch_2", None),
        ("batches.meta", {"label_names": ["one"]}),
        ("batches.meta", 3),
    ],
)
def test_what_is_no_batch_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = write_python(tmp_path / "in")
    (folder / name).write_bytes(pickle.dumps(value, 2))
    with refused(name):
        prepare(tmp_path / "cifar10", folder)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    folder = write_binary(tmp_path / "in")
    (folder / "test_batch.bin").write_bytes((folder / "test_batch.bin").read_bytes()[:-1])
    with refused("test_batch.bin", "whole images"):
        prepare(tmp_path / "cifar10", folder)
    folder = write_python(tmp_path / "python")
    whole = (folder / "data_batch_1").read_bytes()
    for end in range(0, len(whole), 997):
        (folder / "data_batch_1").write_bytes(whole[:end])
        with refused("data_batch_1"):
            prepare(tmp_path / "cifar10", folder)
    (empty := tmp_path / "empty").mkdir()
    with refused("not CIFAR-10"):
        prepare(tmp_path / "cifar10", empty)
    with refused("no folder or archive"):
        prepare(tmp_path / "cifar10", tmp_path / "absent")

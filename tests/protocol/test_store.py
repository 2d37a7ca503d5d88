"""A store is read whole or refused with a sentence, and written whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protocol.base.files import digest_file
from protocol.base.sealed import write_sealed
from protocol.datasets.store import open_store, read_manifest, write_store
from tests.support.refusals import refused


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(data / "photos-small", tmp_path / "photos-small"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_written_is_read(data: Path) -> None:
    store = open_store(data / "photos-small")
    assert store.manifest.counts == {"train": len(store.train), "test": len(store.test)} == {"train": 400, "test": 70}
    assert store.train.edge == store.manifest.edge == 36
    assert store.train.images.dtype == np.uint8
    assert store.test.labels.tolist() == [number % 20 for number in range(70)]
    assert np.allclose(store.test.mean, store.train.images.mean(axis=0), atol=1e-4)


def test_the_digest_stands_for_every_byte(data: Path) -> None:
    manifest = read_manifest(data / "photos-small")
    digests = {manifest.digest}
    for name in manifest.sha256:
        digests.add(manifest.model_copy(update={"sha256": {**manifest.sha256, name: "0" * 64}}).digest)
    assert len(digests) == len(manifest.sha256) + 1


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "mean.npy", "variances.npy"])
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with refused(name, "truncated", "prepare"):
        open_store(folder)


def test_an_altered_bit_is_refused(folder: Path) -> None:
    content = bytearray((folder / "test_images.npy").read_bytes())
    content[-7] ^= 1
    (folder / "test_images.npy").write_bytes(content)
    with refused("test_images.npy", "altered"):
        open_store(folder)


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "test_tiles.npy").unlink()
    with refused("test_tiles.npy", "missing", "prepare"):
        open_store(folder)


def test_an_absent_store_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with refused(str(tmp_path / "nowhere"), "nox -s prepare"):
        open_store(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [0, 1, 3, None, "2"])
def test_another_version_is_refused(folder: Path, version: object) -> None:
    edit(folder, version=version)
    with refused("store.json", f"version {version}", "reads version 2"):
        open_store(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"version": 2}', '{"version": 2, "name": 3}', "\xff", "[" * 9999]
)
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "store.json").write_bytes(text.encode("latin-1"))
    with refused("store.json"):
        open_store(folder)


EDITS = [('"edge": 36', '"edge": 37'), ('"class 3"', '"class x"'), ('"train": 400', '"train": 4')]


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_an_altered_manifest_is_refused(folder: Path, old: str, new: str) -> None:
    path = folder / "store.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with refused("store.json", "altered"):
        open_store(folder)


def resealed(folder: Path, **changes: Any) -> None:
    """The manifest with other content and a seal that fits it, as only malice or a fault of ours would make it."""
    write_sealed(folder / "store.json", read_manifest(folder).model_copy(update=changes))


def test_a_manifest_that_vouches_for_nothing_is_refused(folder: Path) -> None:
    resealed(folder, sha256={})
    with refused("store.json", "does not list"):
        open_store(folder)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("train_labels", np.full(400, 20), "classes"),
        ("train_labels", np.full(400, -1), "classes"),
        ("test_labels", np.zeros(70, np.int32), "int32"),
        ("test_tiles", np.zeros((70, 1), np.int64), "(70, 1)"),
        ("mean", np.full((36, 36, 3), np.nan, np.float32), "no number"),
        ("components", np.zeros((3, 3), np.float32), "float32"),
        ("train_images", np.zeros((400, 36, 36, 3), np.int8), "int8"),
        ("variances", np.zeros((2,)), "(2,)"),
    ],
)
def test_an_array_that_is_none_of_a_stores_is_refused_though_its_checksum_fits(
    folder: Path, name: str, value: np.ndarray, words: str
) -> None:
    np.save(folder / f"{name}.npy", value)
    resealed(folder, sha256={**read_manifest(folder).sha256, f"{name}.npy": digest_file(folder / f"{name}.npy")})
    with refused(name, words):
        open_store(folder)


def test_an_unknown_field_is_refused(folder: Path) -> None:
    edit(folder, colour="green")
    with refused("store.json", "colour"):
        open_store(folder)


def test_a_store_that_cannot_be_finished_leaves_nothing_behind(tmp_path: Path) -> None:
    images = np.zeros((4, 6, 6, 3), np.uint8)
    arrays = {"train_images": images, "test_images": images, "train_labels": np.array([{"no": "number"}], object)}
    with pytest.raises(ValueError, match="allow_pickle"):
        write_store(tmp_path / "store", "store", ["one"], arrays, source="", colour_statistics={})
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_unpickled(folder: Path) -> None:
    np.save(folder / "mean.npy", np.array([{"code": 1}], object), allow_pickle=True)
    with refused("mean.npy", "no array of numbers"):
        open_store(folder, verify=False)

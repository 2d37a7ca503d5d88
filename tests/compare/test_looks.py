"""What a model makes of one's own pictures: likeliest, nearest, and what does not belong together is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest

from compare import ensemble, looks
from protocol.base.files import digest_file
from protocol.base.sealed import write_sealed
from protocol.datasets.folders import material_of
from protocol.datasets.preparation import prepare
from protocol.datasets.store import open_store
from protocol.runs.outputs import MARK, Outputs
from tests.support.archives import jpeg
from tests.support.refusals import refused


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the store ``mine``: six training and two test pictures of cats and dogs."""
    folder = tmp_path_factory.mktemp("data")
    for label, name in enumerate(("cat", "dog")):
        (folder / "in" / name).mkdir(parents=True)
        for number in range(4):
            (folder / "in" / name / f"{number}.jpg").write_bytes(jpeg(label, number))
    prepare(folder / "mine", material_of(folder / "in", "mine", 0.25, 36), workers=1)
    return folder


def write(
    folder: Path,
    data: Path,
    classes: list[str],
    parts: tuple[str, ...] = ("train", "test"),
    *,
    model: str = "",
    views: int = 1,
    likely: np.ndarray | None = None,
) -> None:
    """Outputs in which a picture's features are its class and its number, and its likeliest class its own."""
    folder.mkdir()
    store = open_store(data / "mine")
    for part, split in (("train", store.train), ("test", store.test)):
        if part in parts:
            features = np.stack([10.0 * split.labels, np.arange(len(split))], axis=1).astype(np.float32)
            own = np.full((len(split), 3), 0.1, np.float32)
            own[np.arange(len(split)), split.labels] = 0.8
            np.save(folder / f"{part}_features.npy", features)
            np.save(folder / f"{part}_probabilities.npy", own if likely is None else likely)
    record = Outputs(
        backend="gluon",
        model=model,
        store="mine",
        store_digest=store.manifest.digest,
        views=views,
        classes=classes,
        sha256={path.name: digest_file(path) for path in folder.glob("*.npy")},
    )
    write_sealed(folder / MARK, record)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("classes", "first"), [(["cat", "dog"], "cat"), ([], "class 0"), (["x", "y", "z"], "x")])
def test_guesses_name_files_and_classes(data: Path, tmp_path: Path, classes: list[str], first: str) -> None:
    write(tmp_path / "out", data, classes)
    looks.classify(tmp_path / "out", data, None)
    found = rows(tmp_path / "out" / "guesses.csv")
    assert len(found) == 2 * 3
    (best,) = (row for row in found if row["label"] == "cat" and row["place"] == "1")
    assert best["file"].startswith("cat/")
    assert best["guess"] == first
    assert float(best["probability"]) == pytest.approx(0.8)


def test_neighbours_are_the_nearest_of_the_training_pictures(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", data, [])
    looks.search(tmp_path / "out", data, "0,1")
    found = rows(tmp_path / "out" / "neighbours.csv")
    assert len(found) == 2 * looks.NEAREST
    for row in found[:3], found[looks.NEAREST : looks.NEAREST + 3]:
        for one in row:
            assert one["neighbour"][:3] == one["file"][:3]
            assert one["neighbour"] != one["file"]


def test_the_nearest_are_found_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    known, asked = random.normal(size=(50, 7)).astype(np.float32), random.normal(size=(4, 7)).astype(np.float32)
    monkeypatch.setattr(looks, "ROWS", 8)
    places, distances = looks.nearest(known, asked, 5)
    away = np.linalg.norm(known[None].astype(float) - asked[:, None], axis=2)
    np.testing.assert_array_equal(places, np.argsort(away, axis=1)[:, :5])
    np.testing.assert_allclose(distances, np.sort(away, axis=1)[:, :5], rtol=1e-6)


def test_what_does_not_belong_together_is_refused(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", data, [], parts=("test",))
    with refused("nothing of the train part", "--parts"):
        looks.search(tmp_path / "out", data, None)
    for told in ("2", "x", "-1", "0,,1"):
        with refused("--images", "below 2"):
            looks.classify(tmp_path / "out", data, told)
    with refused("no outputs in"):
        looks.classify(tmp_path, data, None)
    path = tmp_path / "out" / "test_features.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with refused("test_features.npy", "altered"):
        looks.classify(tmp_path / "out", data, None)


def test_models_that_err_on_different_images_err_less_averaged(data: Path, tmp_path: Path) -> None:
    """Each is a little wrong on one of the two test images and very right on the other."""
    labels = np.asarray(open_store(data / "mine").test.labels)
    for wrong, name in enumerate("ab"):
        right = np.where(np.arange(2) == wrong, 0.4, 0.9).astype(np.float32)
        likely = np.stack([np.where(labels == label, right, 1 - right) for label in range(2)], axis=1)
        write(tmp_path / name, data, ["cat", "dog"], ("test",), model=name, likely=likely)
    table = tmp_path / "average.csv"
    found = ensemble.average([tmp_path / "a", tmp_path / "b"], data, table)
    assert [row["top1_error"] for row in found] == [0.5, 0.5, 0.0]
    assert [row["outputs"] for row in rows(table)][-1] == ensemble.AVERAGED
    assert rows(table)[-1]["images"] == "2"
    # A last layer that two columns share may have a unit that stands for no class.
    write(tmp_path / "c", data, ["cat", "dog"], ("test",), model="c")
    assert ensemble.average([tmp_path / "a", tmp_path / "c"], data, table)[-1]["top1_error"] == 0


def test_what_cannot_be_averaged_is_refused(data: Path, tmp_path: Path) -> None:
    even = np.full((2, 2), 0.5, np.float32)
    write(tmp_path / "one", data, [], ("test",), model="one", likely=even)
    write(tmp_path / "same", data, [], ("test",), model="one", likely=even)
    write(tmp_path / "ten", data, [], ("test",), model="ten", likely=even, views=10)
    write(tmp_path / "many", data, [], ("test",), model="many", likely=np.full((2, 6), 0.1, np.float32))
    write(tmp_path / "few", data, [], ("test",), model="few", likely=np.ones((2, 1), np.float32))
    write(tmp_path / "named", data, ["dog", "cat"], ("test",), model="named", likely=even)
    write(tmp_path / "training", data, [], ("train",), model="training")
    for others, *words in (
        ([], "two models or more"),
        (["same"], "one model", "once"),
        (["ten"], "more or fewer views"),
        (["many"], "other classes"),
        (["few"], "other classes"),
        (["named"], "other classes"),
        (["training"], "nothing of the test part"),
        (["absent"], "no outputs in"),
    ):
        with refused(*words):
            ensemble.average([tmp_path / "one", *(tmp_path / name for name in others)], data, tmp_path / "average.csv")
        assert not (tmp_path / "average.csv").exists()
    with refused("is a folder"):
        ensemble.average([tmp_path / "one", tmp_path / "two"], data, tmp_path)

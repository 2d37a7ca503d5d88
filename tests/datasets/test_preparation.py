"""A small ImageNet in its official shapes becomes a store, with everything in it that is ever wrong there."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from protocol.base.errors import Failed, Misuse
from protocol.base.files import digest_file
from protocol.datasets import preparation
from protocol.datasets.folders import material_of as folder_material
from protocol.datasets.imagenet import YEARS, material_of
from protocol.datasets.preparation import JOURNAL, Material, prepare
from protocol.datasets.store import open_store
from protocol.experiment.augmentation import Policy, plan_epoch, training_batch, views
from tests.support.archives import BAD, CLASSES, COLOURS, ODD, jpeg, write_imagenet
from tests.support.long import but
from tests.support.refusals import refused

EACH, TESTS = 8, 40
HOSTILE = 3  # members that climb out, links and devices
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("2012")
    write_imagenet(folder, 2012, EACH, TESTS)
    return folder


def remarks_of(store: Path) -> list[dict[str, str]]:
    with (store / "remarks.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def store(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "imagenet"
    prepare(folder, material_of(archives, YEARS[2012]), workers=2, most_left_out=0.1)
    return folder


def test_the_official_archives_become_a_store(store: Path) -> None:
    found = open_store(store)
    assert found.manifest.classes == list(CLASSES)
    assert len(found.train) == EACH * len(CLASSES) + len(ODD)
    assert np.bincount(found.train.labels).tolist() == [EACH + len(ODD)] + [EACH] * (len(CLASSES) - 1)
    assert len(found.test) == TESTS
    for split in (found.train, found.test):
        # The stripes add little to the mean; what is grey has other colours.
        means = split.images.reshape(len(split), -1, 3).mean(axis=1)
        differs = np.abs(means - COLOURS[split.labels]).max(axis=1)
        assert (differs > 8).sum() == (split is found.train)
        assert split.images.shape[1:] == (256, 256, 3)


def test_any_beginning_is_a_fair_cut_of_the_classes(store: Path) -> None:
    labels = open_store(store).train.labels
    assert len(set(labels[:60].tolist())) > 15
    assert (np.diff(labels) < 0).any()


def test_what_could_not_be_used_or_was_unusual_is_listed_with_the_reason(store: Path) -> None:
    rows = remarks_of(store)
    out = {row["file"].rpartition("/")[2]: row["remark"] for row in rows if row["kept"] == "no"}
    assert len(out) == len(BAD) + HOSTILE
    first = f"{CLASSES[0]}_{{}}.JPEG".format
    assert out[first("empty")] == "the file is empty"
    assert "cannot be decoded" in out[first("cut")]
    assert out[first("text")].startswith("it is none of JPEG")
    assert out[first("bomb")] == "it has more than 80,000,000 pixels"
    assert "leads out of its archive" in out["climbed.JPEG"]
    assert "a link, a device" in out["link.JPEG"]
    assert "a link, a device" in out["device.JPEG"]
    odd = {row["file"].rpartition("/")[2]: row["remark"] for row in rows if row["kept"] == "yes"}
    assert odd[first("cmyk")] == "its colours are CMYK"
    assert odd[first("grey")] == "its colours are L"
    assert odd[first("png")] == "it is a PNG"
    assert odd[first("turned")] == "turned upright"
    assert first("stray") not in odd  # bytes that belong to nothing do no harm
    assert odd[first("twice")] == f"the same file as train {CLASSES[0]}/{first('0')}"
    assert len(odd) == len(ODD) - 1


def test_the_year_2010_has_its_own_names_and_its_answers_beside_the_kit(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "2010", 2010, 2, TESTS, troubles=False)
    prepare(tmp_path / "imagenet-2010", material_of(tmp_path / "2010", YEARS[2010]), workers=1)
    found = open_store(tmp_path / "imagenet-2010")
    means = found.test.images.reshape(TESTS, -1, 3).mean(axis=1)
    assert np.abs(means - COLOURS[found.test.labels]).max() < 8
    assert remarks_of(tmp_path / "imagenet-2010") == []


def test_workers_and_blocks_change_no_byte(store: Path, archives: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "imagenet", material_of(archives, YEARS[2012]), workers=1, most_left_out=0.1)
    for path in store.iterdir():
        assert digest_file(path) == digest_file(tmp_path / "imagenet" / path.name), path.name


def test_sums_over_parts_are_the_statistics_of_all(store: Path) -> None:
    found = open_store(store).train
    pixels = found.images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(found.mean, found.images.mean(axis=0), rtol=1e-6)
    variances = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))[::-1]
    np.testing.assert_allclose(found.variances, variances, rtol=1e-6)
    for component, variance in zip(found.components, found.variances, strict=True):
        assert (pixels @ component).var() == pytest.approx(variance, rel=1e-6)


def test_a_large_store_is_opened_quickly_and_its_images_are_held_to_their_checks(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "imagenet"
    shutil.copytree(store, folder)
    path = folder / "train_images.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # in the last image, which is sampled
    path.write_bytes(bytes(data))
    with refused("train_images.npy is truncated or altered"):
        open_store(folder)
    monkeypatch.setattr("protocol.datasets.store.READ_WHOLE", 0)
    last = len(open_store(store).train) - 1
    with refused("train_images.npy", f"image {last} is damaged"):
        open_store(folder)
    data[-5] ^= 1
    data[-5 - 3 * 256 * 256] ^= 1  # in the one before, which is not
    path.write_bytes(bytes(data))
    found = open_store(folder)
    plan = plan_epoch(found.train, 224, Policy(), seed=0, epoch=0)
    readers: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda samples: training_batch(found.train, plan, 224, samples),
        lambda samples: views(found.train, 224, samples, ten=False),
    ]
    for read in readers:
        read(np.array([0, 5, last]))
        with refused(f"image {last - 1} is damaged"):
            read(np.array([5, last - 1]))
    assert found.train.checks is not None
    assert found.train.checks.seen[[0, 5, last]].all()
    with refused("train_images.npy is truncated or altered"):
        open_store(folder, whole=True)
    path.write_bytes(bytes(data[:-1]))
    with refused("train_images.npy"):
        open_store(folder)


def test_a_store_that_is_there_is_left_alone(store: Path, archives: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    prepare(store, material_of(archives, YEARS[2012]), workers=1, most_left_out=0.1)
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before


KILLED = """
import sys
from pathlib import Path
from protocol.datasets import preparation
from protocol.datasets.imagenet import YEARS, material_of
preparation.BLOCK = 8
if __name__ == "__main__":
    made = material_of(Path(sys.argv[1]), YEARS[2012])
    preparation.prepare(Path(sys.argv[2]), made, workers=2, most_left_out=0.1)
"""


class Killed:
    """A preparation that is killed."""

    def __init__(self, archives: Path, folder: Path) -> None:
        (folder / "script.py").write_text(KILLED)
        self.target = folder / "out" / "imagenet"
        self.journal = folder / "out" / ".imagenet.draft" / JOURNAL
        self.command = [sys.executable, str(folder / "script.py"), str(archives), str(self.target)]
        self.environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def done(self) -> int:
        """Blocks in the journal."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def kill(self, blocks: int, later: float) -> None:
        """Kill it ``later`` seconds after that many blocks more are done, if it has not ended before."""
        wanted = self.done() + blocks
        with subprocess.Popen(self.command, env=self.environment) as process:
            while process.poll() is None and self.done() < wanted:
                time.sleep(0.001)
            time.sleep(later)
            process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        subprocess.run(self.command, env=self.environment, check=True)

    def check(self, store: Path) -> None:
        assert sorted(path.name for path in self.target.iterdir()) == sorted(path.name for path in store.iterdir())
        for path in store.iterdir():
            if path.name != preparation.MATERIAL:  # another block's size is another key
                assert digest_file(path) == digest_file(self.target / path.name), path.name


def test_killed_it_goes_on_and_the_store_is_the_same(store: Path, archives: Path, tmp_path: Path) -> None:
    run = Killed(archives, tmp_path)
    run.kill(4, 0)
    before = run.done()
    assert before >= 4
    run.kill(4, 0)
    assert run.done() >= before + 4  # nothing is done twice
    run.journal.write_bytes(run.journal.read_bytes() + b'{"part": "train", "blo')  # cut short by a kill
    run.end()
    run.check(store)


@pytest.mark.long
def test_killed_at_twenty_random_moments_the_store_is_the_same(store: Path, archives: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    run = Killed(archives, tmp_path)
    for _ in range(20):
        # Also while workers start, in the midst of blocks, and while the store is finished.
        run.kill(int(random.integers(0, 4)), float(random.uniform(0, 0.5)))
    run.end()
    run.check(store)


@pytest.mark.parametrize("moment", but(("gaps", "closed", "named"), "closed"))
def test_ended_while_it_is_finished_it_goes_on(
    store: Path, archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    target, made = tmp_path / "imagenet", material_of(archives, YEARS[2012])
    place = {
        "gaps": (preparation.Work, "_close_gaps"),  # before they are closed
        "closed": (preparation, "write_remarks"),  # when they are
        "named": (Path, "unlink"),  # before the folder has its name
    }[moment]

    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*place, end)
        with pytest.raises(KeyboardInterrupt):
            prepare(target, made, workers=1, most_left_out=0.1)
    assert not target.exists()
    with monkeypatch.context() as patched:
        # Nothing is decoded again.
        patched.setattr(preparation, "decode", end)
        prepare(target, made, workers=1, most_left_out=0.1)
    for path in store.iterdir():
        assert digest_file(path) == digest_file(target / path.name), path.name


def test_too_many_bad_files_end_it_with_their_list(archives: Path, tmp_path: Path) -> None:
    with refused("more than 1.0%", "imagenet-left-out.csv", "--left-out"):
        prepare(tmp_path / "imagenet", material_of(archives, YEARS[2012]), workers=1)
    assert not (tmp_path / "imagenet").exists()
    assert len((tmp_path / "imagenet-left-out.csv").read_text().splitlines()) == 1 + len(BAD) + HOSTILE


def test_a_store_of_other_files_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "in" / name / f"{number}.jpg").write_bytes(jpeg(0, number))
    target = tmp_path / "out" / "mine"
    prepare(target, folder_material(tmp_path / "in", "mine", 0.25, 64), workers=1)
    before = (target / "store.json").read_bytes()
    (tmp_path / "in" / "cat" / "new.jpg").write_bytes(jpeg(1, 9))
    with refused(str(target), "made of other files", "another name"):
        prepare(target, folder_material(tmp_path / "in", "mine", 0.25, 64), workers=1)
    assert (target / "store.json").read_bytes() == before

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    other = tmp_path / "out" / "other"
    with monkeypatch.context() as patched:
        patched.setattr(preparation.Work, "remarks", end)
        with pytest.raises(KeyboardInterrupt):
            prepare(other, folder_material(tmp_path / "in", "other", 0.25, 64), workers=1)
    (tmp_path / "in" / "cat" / "newer.jpg").write_bytes(jpeg(1, 10))
    with refused(".other.draft", "made of other files"):
        prepare(other, folder_material(tmp_path / "in", "other", 0.25, 64), workers=1)


def test_names_that_are_no_text_are_told_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for number in range(4):
        path = os.fsencode(tmp_path / "in" / "cat" / f"{number}") + b"\xff.jpg"
        Path(os.fsdecode(path)).write_bytes(jpeg(0, number))
    prepare(tmp_path / "mine", folder_material(tmp_path / "in", "mine", 0.25, 64), workers=1)
    assert "cat/0\\udcff.jpg" in (tmp_path / "mine" / "files.csv").read_text()


def test_a_class_without_an_image_is_said(tmp_path: Path) -> None:
    for name in ("cat", "dog", "emu"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for number in range(5):
        (tmp_path / "in" / "cat" / f"{number}.jpg").write_bytes(jpeg(0, number))
        (tmp_path / "in" / "dog" / f"{number}.jpg").write_bytes(jpeg(1, number))
    made = folder_material(tmp_path / "in", "mine", 0.2, 64)
    assert prepare(tmp_path / "mine", made, workers=1).classes == ["cat", "dog", "emu"]
    assert [(row["part"], row["file"], row["remark"]) for row in remarks_of(tmp_path / "mine")] == [
        ("train", "emu", "a class without an image"),
        ("test", "emu", "a class without an image"),
    ]


def test_a_worker_that_the_system_ends_is_said_and_gone_on_from(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = material_of(archives, YEARS[2012])
    with monkeypatch.context() as patched:
        patched.setattr(preparation, "each", lambda executor, *_: executor.submit(os._exit, 9).result())
        with pytest.raises(Failed, match="goes on"):
            prepare(tmp_path / "imagenet", made, workers=1, most_left_out=0.1)
    prepare(tmp_path / "imagenet", made, workers=1, most_left_out=0.1)


def test_too_small_a_disk_is_noticed_before_any_work(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with refused("GB left"):
        prepare(tmp_path / "imagenet", material_of(archives, YEARS[2012]), workers=1)
    assert not (tmp_path / "imagenet").exists()


def test_a_part_without_images_is_refused(tmp_path: Path) -> None:
    with refused("no images for the train part"):
        prepare(tmp_path / "mine", Material("mine", ["a"], {"train": [], "test": []}, "a folder", 64), workers=1)


def test_images_are_never_replaced_by_their_store(archives: Path, tmp_path: Path) -> None:
    place = tmp_path / "imagenet"
    place.mkdir()
    (place / "ILSVRC2012_img_train.tar").write_bytes((archives / "ILSVRC2012_img_train.tar").read_bytes())
    with refused(str(place), "did not write", "ILSVRC2012_img_train.tar"):
        prepare(place, material_of(archives, YEARS[2012]), workers=1)


def test_the_journal_says_what_its_blocks_had(store: Path) -> None:
    assert json.loads((store / preparation.MATERIAL).read_text())["version"] == 2
    assert not (store / JOURNAL).exists()
    with pytest.raises(Misuse):
        material_of(store, YEARS[2012])

"""What both backends obey: samples, pixels, rates and weights of each step, and the hash that stands for them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.datasets.store import write_store
from protocol.experiment.augmentation import Policy, plan_epoch, training_batch
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import Experiment, open_experiment
from tests.support.refusals import refused

TINY = CASES["tiny"]


@pytest.fixture
def experiment(data: Path) -> Experiment:
    return open_experiment(TINY, data, 2)


def small_store(folder: Path, *, edge: int = 36, classes: int = 20, count: int = 40) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, edge, edge, 3), np.uint8)
    numbers = np.arange(count)
    arrays = {f"{part}_{kind}": numbers % classes for part in ("train", "test") for kind in ("labels", "tiles")}
    arrays |= {"train_images": images, "test_images": images}
    names = [str(number) for number in range(classes)]
    write_store(folder, folder.name, names, arrays, source="tests", colour_statistics={})


def test_an_epochs_steps_take_each_sample_at_most_once(experiment: Experiment) -> None:
    for epoch in range(2):
        steps = range(epoch * 10, (epoch + 1) * 10)
        taken = np.concatenate([experiment.samples(step) for step in steps])
        assert len(taken) == experiment.steps_per_epoch * TINY.batch == 320
        assert np.array_equal(np.sort(taken), np.arange(320))
    assert experiment.total_steps == 20


def test_samples_left_over_by_whole_batches_differ_from_epoch_to_epoch(data: Path) -> None:
    experiment = open_experiment(replace(TINY, batch=48), data, 2)
    assert experiment.steps_per_epoch == 6
    left = []
    for epoch in range(2):
        taken = np.concatenate([experiment.samples(epoch * 6 + step) for step in range(6)])
        assert len(np.unique(taken)) == len(taken) == 288
        left.append(set(range(320)) - set(taken.tolist()))
    assert left[0] != left[1]


def test_only_so_many_images_are_used(experiment: Experiment) -> None:
    assert len(experiment.training) == 320
    assert len(experiment.store.train) == 400
    assert np.array_equal(experiment.training.labels, experiment.store.train.labels[:320])


def test_images_follow_the_plan_of_their_epoch_in_any_order_of_asking(experiment: Experiment) -> None:
    for step in (13, 2, 13):
        samples = experiment.samples(step)
        plan = plan_epoch(experiment.training, 31, TINY.policy, 2, step // 10)
        assert np.array_equal(samples, plan.order[step % 10 * 32 : (step % 10 + 1) * 32])
        assert np.array_equal(experiment.images(step, samples), training_batch(experiment.training, plan, 31, samples))
        assert np.array_equal(experiment.labels(samples), samples % 20)


def test_after_so_many_epochs_colours_are_no_longer_shifted_nor_images_divided(data: Path) -> None:
    case = replace(TINY, preset="chm-145", deviations=None, colour_epochs=1)
    always, never = replace(case, colour_epochs=0), replace(case, colour_epochs=0, policy=Policy(colour=False))
    shifted, ended, without = (open_experiment(chosen, data, 2) for chosen in (always, case, never))
    for step, same in ((3, shifted), (13, without)):
        samples = ended.samples(step)
        assert np.array_equal(ended.images(step, samples), same.images(step, samples))
    assert not np.array_equal(shifted.images(13, ended.samples(13)), ended.images(13, ended.samples(13)))


def test_the_rate_falls_after_the_first_epoch(experiment: Experiment) -> None:
    assert [experiment.rate(step) for step in (0, 9, 10, 19)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_the_plan_hash_changes_with_data_case_and_seed_alone(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "moved")
    small_store(tmp_path / "other" / "photos-small", count=400)
    same = [open_experiment(TINY, folder, 2).plan_hash() for folder in (data, tmp_path / "moved")]
    assert same[0] == same[1]
    others = [
        open_experiment(TINY, data, 3),
        open_experiment(TINY, tmp_path / "other", 2),
        open_experiment(replace(TINY, batch=16), data, 2),
        open_experiment(replace(TINY, preset="caffe"), data, 2),
    ]
    hashes = {experiment.plan_hash() for experiment in others}
    assert len(hashes | set(same)) == 5


def test_a_store_that_does_not_suit_the_case_is_refused(tmp_path: Path) -> None:
    small_store(tmp_path / "a" / "photos-small", edge=30)
    with refused("crops of 31 pixels", "images of 30"):
        open_experiment(TINY, tmp_path / "a", 0)
    small_store(tmp_path / "b" / "photos-small", classes=21)
    with refused("21 classes", "tiny 20"):
        open_experiment(TINY, tmp_path / "b", 0)
    small_store(tmp_path / "c" / "photos-small", count=31)
    with refused("batch of 32", "31 images"):
        open_experiment(TINY, tmp_path / "c", 0)
    with refused("no data store", "photos-full"):
        open_experiment(CASES["parity"], tmp_path / "c", 0)

"""Crops, reflections and colour shifts against a second, slow implementation of them."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from paper.recipe import PRESETS
from protocol.base import native
from protocol.datasets.colours import Sums, principal_colours
from protocol.datasets.store import Split
from protocol.experiment import augmentation
from protocol.experiment.augmentation import EpochPlan, Policy, plan_epoch, training_batch, views

EDGE, CROP = 9, 6
COUNT = 40


@pytest.fixture(scope="module")
def split() -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (COUNT, EDGE, EDGE, 3), np.uint8)
    mean, components, variances = principal_colours(Sums.of(images))
    return Split(images, np.arange(COUNT), np.arange(COUNT), mean, components, variances)


def slow_batch(split: Split, plan: EpochPlan, samples: np.ndarray) -> np.ndarray:
    """Pixel by pixel: crop, subtract the mean image, reflect, shift each colour."""
    batch = np.empty((len(samples), 3, CROP, CROP), np.float32)
    for place, sample in enumerate(samples):
        for colour in range(3):
            for row in range(CROP):
                for column in range(CROP):
                    r = plan.rows[sample] + row
                    c = plan.columns[sample] + (CROP - 1 - column if plan.flips[sample] else column)
                    pixel = np.float32(split.images[sample, r, c, colour]) - split.mean[r, c, colour]
                    batch[place, colour, row, column] = pixel + plan.shifts[sample, colour]
    return batch


@pytest.fixture(params=["compiled", "composed"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways of carrying a plan out: in C++, and by numpy where there is no compiler."""
    augmentation.compiled.cache_clear()
    if request.param == "composed":
        monkeypatch.setattr(native, "compiler", lambda: None)
    assert augmentation.implementation() == {"compiled": "compiled loop", "composed": "numpy"}[request.param]
    yield
    augmentation.compiled.cache_clear()


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize(
    "policy",
    [Policy(), Policy(crops=False), Policy(reflections=False), Policy(colour=False), Policy(False, False, False)],
)
def test_a_batch_carries_the_plan_out_exactly(split: Split, policy: Policy) -> None:
    plan = plan_epoch(split, CROP, policy, seed=3, epoch=2)
    samples = plan.order[5:13]
    batch = training_batch(split, plan, CROP, samples)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert np.array_equal(batch, slow_batch(split, plan, samples))
    used = batch[::-1].copy()
    assert training_batch(split, plan, CROP, samples, used) is used
    assert np.array_equal(used, batch)


def code_batch(split: Split, plan: EpochPlan, samples: np.ndarray) -> np.ndarray:
    """As the 2012 code's convdata.py has it, in its order: cut, reflect, take the mean's middle off, shift, divide."""
    border = (EDGE - CROP) // 2
    middle = split.mean[border : border + CROP, border : border + CROP]
    found = []
    for sample in samples:
        row, column = plan.rows[sample], plan.columns[sample]
        pic = split.images[sample, row : row + CROP, column : column + CROP].astype(np.float32)
        if plan.flips[sample]:
            pic = pic[:, ::-1]
        pic = pic - middle
        pic = pic + plan.shifts[sample]
        pic = pic * np.float32(1.0 / (1.0 + augmentation.COLOUR_DEVIATION))
        found.append(pic.transpose(2, 0, 1))
    return np.stack(found)


@pytest.mark.usefixtures("carrier")
def test_the_2012_codes_reading_of_the_data_is_carried_out_exactly(split: Split) -> None:
    plan = plan_epoch(split, CROP, Policy(), seed=3, epoch=2)
    samples = plan.order[:16]
    assert plan.flips[samples].any()
    assert not plan.flips[samples].all()
    by_the_code = training_batch(split, plan, CROP, samples, None, PRESETS["chm-145"].data)
    assert np.array_equal(by_the_code, code_batch(split, plan, samples))
    assert not np.allclose(by_the_code, training_batch(split, plan, CROP, samples))


def test_test_images_are_not_divided_and_have_the_middle_of_the_mean_taken_off(split: Split) -> None:
    samples, border = np.array([4, 0]), (EDGE - CROP) // 2
    middle = split.mean[border : border + CROP, border : border + CROP]
    ten = views(split, CROP, samples, ten=True, reading=PRESETS["chm-145"].data)
    for view, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]):
        for place, sample in enumerate(samples):
            cut = split.images[sample, row : row + CROP, column : column + CROP].astype(np.float32)
            assert np.array_equal(ten[view, place], (cut - middle).transpose(2, 0, 1))
            assert np.array_equal(ten[view + 5, place], (cut[:, ::-1] - middle).transpose(2, 0, 1))


@pytest.mark.usefixtures("carrier")
@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("samples", -1),
        ("samples", COUNT),
        ("rows", -1),
        ("rows", EDGE - CROP + 1),
        ("columns", -1),
        ("columns", EDGE - CROP + 1),
    ],
)
def test_nothing_is_read_from_beyond_the_images(split: Split, name: str, beyond: int) -> None:
    plan = plan_epoch(split, CROP, Policy(), seed=3, epoch=2)
    samples = plan.order[:2].copy()
    if name == "samples":
        samples[1] = beyond
    else:
        getattr(plan, name)[samples[1]] = beyond
    with pytest.raises(IndexError):
        training_batch(split, plan, CROP, samples)


@pytest.mark.usefixtures("carrier")
def test_nothing_is_written_where_there_is_no_room(split: Split) -> None:
    plan = plan_epoch(split, CROP, Policy(), seed=3, epoch=2)
    room = np.zeros((2, 3, CROP, CROP), np.float32)
    with pytest.raises(IndexError, match="no room for 2 crops"):
        training_batch(split, plan, CROP, plan.order[:2], room[:1])
    room.flags.writeable = False
    with pytest.raises((ValueError, ctypes.ArgumentError)):
        training_batch(split, plan, CROP, plan.order[:2], room)
    assert not room.any()
    with pytest.raises(IndexError, match="not a plan for 39 images"):
        training_batch(split.first(COUNT - 1), plan, CROP, plan.order[:2])


def test_what_does_not_compile_is_said_and_left_to_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "augmentation.cc"
    broken.write_text("this is no C++")
    monkeypatch.setattr(augmentation, "SOURCE", broken)
    assert augmentation.compiled.__wrapped__() is None
    assert "numpy augments" in capsys.readouterr().err


def test_what_a_policy_switches_off_is_centred_unreflected_or_unshifted_and_nothing_else(split: Split) -> None:
    full = plan_epoch(split, CROP, Policy(), 3, 0)
    plan = plan_epoch(split, CROP, Policy(crops=False), 3, 0)
    assert (plan.rows == 1).all()
    assert (plan.columns == 1).all()
    assert np.array_equal(plan.flips, full.flips)
    assert np.array_equal(plan.shifts, full.shifts)
    plan = plan_epoch(split, CROP, Policy(reflections=False), 3, 0)
    assert not plan.flips.any()
    assert np.array_equal(plan.rows, full.rows)
    plan = plan_epoch(split, CROP, Policy(colour=False), 3, 0)
    assert not plan.shifts.any()
    assert np.array_equal(plan.order, full.order)


def test_draws_reach_every_offset_and_both_reflections(split: Split) -> None:
    places = set()
    for epoch in range(60):
        plan = plan_epoch(split, CROP, Policy(), 0, epoch)
        places |= set(zip(plan.rows.tolist(), plan.columns.tolist(), plan.flips.tolist(), strict=True))
    offsets = range(EDGE - CROP + 1)
    assert places == {(row, column, flip) for row in offsets for column in offsets for flip in (False, True)}


def test_an_epoch_takes_every_sample_once_in_an_order_of_its_own(split: Split) -> None:
    orders = [plan_epoch(split, CROP, Policy(), seed, epoch).order for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(COUNT))
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)


def test_a_plan_is_the_same_again_and_another_for_each_epoch_and_seed(split: Split) -> None:
    def digest(seed: int, epoch: int) -> str:
        return plan_epoch(split, CROP, Policy(), seed, epoch).digest()

    assert digest(3, 2) == digest(3, 2)
    assert len({digest(seed, epoch) for seed in (0, 3) for epoch in (0, 1, 2)}) == 6


def test_the_digest_covers_every_draw(split: Split) -> None:
    plan = plan_epoch(split, CROP, Policy(), 3, 2)
    digests = {plan.digest()}
    for name in ("order", "rows", "columns", "flips", "shifts"):
        changed = getattr(plan, name).copy()
        changed.flat[0] = not changed.flat[0] if name == "flips" else changed.flat[0] + 1
        digests.add(EpochPlan(**{**vars(plan), name: changed}).digest())
    assert len(digests) == 6


def test_colour_shifts_lie_along_the_components_with_a_tenth_of_their_deviations(split: Split) -> None:
    shifts = np.concatenate([plan_epoch(split, CROP, Policy(), 1, epoch).shifts for epoch in range(200)])
    alphas = shifts.astype(np.float64) @ split.components.T / np.sqrt(split.variances)
    assert np.abs(alphas.mean(axis=0)).max() < 6 * 0.1 / np.sqrt(len(alphas))
    assert np.abs(alphas.std(axis=0) - 0.1).max() < 6 * 0.1 / np.sqrt(2 * len(alphas))
    correlation = np.corrcoef(alphas.T) - np.eye(3)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(alphas))


def test_the_ten_views_are_corners_and_centre_then_their_reflections(split: Split) -> None:
    samples = np.array([4, 0, 4])
    ten = views(split, CROP, samples, ten=True)
    assert ten.shape == (10, 3, 3, CROP, CROP)
    assert ten.dtype == np.float32
    for view, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]):
        for place, sample in enumerate(samples):
            whole = split.images[sample].astype(np.float32) - split.mean
            expected = whole[row : row + CROP, column : column + CROP].transpose(2, 0, 1)
            assert np.array_equal(ten[view, place], expected)
            assert np.array_equal(ten[view + 5, place], expected[:, :, ::-1])
    assert np.array_equal(views(split, CROP, samples, ten=False), ten[4:5])


def test_the_statistics_are_the_mean_image_and_the_pixels_principal_colours(split: Split) -> None:
    pixels = split.images.reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels.T, bias=True)
    rebuilt = split.components.T @ np.diag(split.variances) @ split.components
    # Principal colours are rounded, so that every library gives the same.
    assert np.allclose(rebuilt, covariance, atol=1e-4)
    assert (np.diff(split.variances) < 0).all()
    assert np.allclose(split.mean, split.images.mean(axis=0), atol=1e-4)

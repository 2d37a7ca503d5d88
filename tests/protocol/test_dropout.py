"""Dropout masks: each part of a batch can be made alone, and equals that part of the whole batch's mask."""

import hashlib
from math import sqrt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paper.architecture import network
from paper.recipe import PRESETS
from protocol.experiment.dropout import keep, masks


def digest(mask: np.ndarray) -> str:
    return hashlib.sha256(mask.tobytes()).hexdigest()[:16]


def test_masks_are_pinned() -> None:
    assert digest(keep(3, 7, 5, 9, 6, 4096)) == "79b2815c4234acf9"
    assert digest(keep(3, 7, 5, 9, 7, 200)) == "41dcfefeac1dde7c"


@given(st.integers(0, 30), st.integers(1, 30), st.sampled_from([1, 63, 64, 200, 256, 257, 1000]), st.integers(0, 2**31))
def test_places_a_to_b_are_that_slice_of_the_whole_mask(first: int, count: int, units: int, step: int) -> None:
    whole = keep(1, step, 0, 60, 6, units)
    part = keep(1, step, first, count, 6, units)
    assert part.shape == (count, units)
    assert part.dtype == bool
    assert np.array_equal(part, whole[first : first + count])


def test_a_narrower_layer_is_a_slice_of_columns_when_both_need_as_many_blocks() -> None:
    whole = keep(2, 5, 0, 8, 7, 256)
    assert np.array_equal(keep(2, 5, 0, 8, 7, 130), whole[:, :130])


def test_seeds_steps_layers_and_places_have_masks_of_their_own() -> None:
    drawn = [
        keep(0, 0, 0, 1, 6, 256),
        keep(1, 0, 0, 1, 6, 256),
        keep(0, 1, 0, 1, 6, 256),
        keep(0, 0, 1, 1, 6, 256),
        keep(0, 0, 0, 1, 7, 256),
    ]
    for place, left in enumerate(drawn):
        for right in drawn[place + 1 :]:
            agree = float((left == right).mean())
            # Two independent masks agree in half of the units.
            assert abs(agree - 0.5) < 6 * sqrt(0.25 / 256)


def test_half_of_the_units_are_kept_in_every_column_and_row() -> None:
    mask = keep(4, 9, 0, 256, 6, 512)
    assert abs(float(mask.mean()) - 0.5) < 5 * sqrt(0.25 / mask.size)
    for axis in (0, 1):
        rates = mask.mean(axis=axis)
        assert np.abs(rates - 0.5).max() < 6 * sqrt(0.25 / mask.shape[axis])


def test_a_network_has_a_mask_for_each_of_its_dropout_layers() -> None:
    table = network("two_column", PRESETS["paper"], "tiny", 20)
    found = masks(table, 3, 4, 8, 5)
    assert set(found) == {"drop6", "drop7"}
    assert np.array_equal(found["drop6"], keep(3, 4, 8, 5, 6, 256))
    assert np.array_equal(found["drop7"], keep(3, 4, 8, 5, 7, 256))
    assert masks(network("two_column", PRESETS["paper"], "tiny", 20, dropout=False), 3, 4, 8, 5) == {}

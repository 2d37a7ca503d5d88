"""The largest batch that fits is the last that does."""

import pytest

from compare.bench.memory_forecast import Placed
from paper.cards import CARDS

PLACED = [
    Placed("deepspeed", "single", "fp32", ("conv1",)),
    Placed("deepspeed", "stages", "fp32", ("conv1", "conv3")),
    Placed("gluon", "columns", "fp32", ("conv1",)),
]


@pytest.mark.parametrize("placed", PLACED, ids=lambda placed: f"{placed.backend} {placed.placement}")
def test_one_image_more_does_not_fit(placed: Placed) -> None:
    card = CARDS[0].bytes
    largest = placed.largest_batch(card)
    assert max(memory.peak for memory in placed.memory(largest)) <= card
    # A pipeline cuts the batch into micro-batches of one size, so it grows by a few images at a time.
    assert max(memory.peak for memory in placed.memory(largest + 8)) > card


def test_what_does_not_fit_at_all_has_no_batch() -> None:
    assert PLACED[0].largest_batch(10**8) == 0


def test_bf16_and_columns_leave_room_for_more() -> None:
    card = CARDS[0].bytes
    one, two = (Placed("deepspeed", placement, "fp32", ("conv1",)) for placement in ("single", "columns"))
    lowered = Placed("deepspeed", "single", "bf16", ("conv1",))
    assert one.largest_batch(card) < two.largest_batch(card)
    assert one.largest_batch(card) < lowered.largest_batch(card)

"""Stages compute in DeepSpeed's order, and wait for what they read."""

import pytest

from compare.schedule import Work, seconds


def test_one_stage_waits_for_nobody() -> None:
    work = Work(1.0, 2.0, 0.5, 4.0)
    assert seconds([work], 3) == work.busy(3) == 3 * 3.5 + 4


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 1), (2, 4), (3, 4), (4, 8), (8, 4)])
def test_even_stages_are_idle_as_long_as_the_textbook_says(stages: int, micro_batches: int) -> None:
    works = [Work(1.0, 1.0)] * stages
    assert seconds(works, micro_batches) == 2 * (micro_batches + stages - 1)


def test_the_picture_is_what_is_simulated() -> None:
    # f0 b0 w0 f1 b1 w1 f2 b2 w2 end above; below, the first backward pass waits for b0, the last for b2.
    below, above = Work(1.0, 2.0), Work(2.0, 2.0, 1.0, 3.0)
    ends_above = 1 + 3 * (2 + 2 + 1) + 3
    ends_below = ends_above - 3 - 1 + 2
    assert seconds([below, above], 3) == max(ends_above, ends_below) == 19
    # A stage that does late what others do not wait for is done sooner than one that makes them wait.
    assert seconds([Work(1.0, 4.0), above], 3) < seconds([Work(1.0, 4.0), Work(2.0, 3.0, 0.0, 3.0)], 3)

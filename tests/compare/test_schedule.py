"""Stages compute in DeepSpeed's order, and wait for what they read."""

import pytest

from compare.bench.schedule import Work, seconds


def test_one_stage_waits_for_nobody() -> None:
    work = Work(1.0, 2.0, 0.5, 4.0)
    assert seconds([work], 3) == work.busy(3) == 3 * 3.5 + 4


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 1), (2, 4), (3, 4), (4, 8), (8, 4)])
def test_even_stages_are_idle_as_long_as_the_textbook_says(stages: int, micro_batches: int) -> None:
    works = [Work(1.0, 1.0)] * stages
    assert seconds(works, micro_batches) == 2 * (micro_batches + stages - 1)


def test_the_picture_is_what_is_simulated() -> None:
    # Above f0 b0 w0 f1 b1 w1 f2 b2 w2 end without a pause; below, the last backward pass begins when b2 has ended.
    below, above = Work(1.0, 2.0), Work(2.0, 2.0, 1.0, 3.0)
    ends_above = 1 + 3 * (2 + 2 + 1) + 3
    assert seconds([below, above], 3) == ends_above == 19
    slow = Work(1.0, 9.0)
    # Here each of above's passes waits for what is below, and does what was late when that has come.
    #   below: f0 0-1, f1 1-2, b0 5-14, f2 14-15, b1 15-24, b2 24-33; above: f0 1-3, b0 3-5, w0 f1 5-8, b1 8-10, ...
    assert seconds([slow, above], 3) == 33


def test_what_is_late_is_waited_for_by_nobody_but_its_own_stage() -> None:
    hurried, waited_for = Work(2.0, 2.0, 1.0, 3.0), Work(2.0, 3.0, 0.0, 3.0)
    below = Work(1.0, 4.0)
    assert seconds([below, hurried], 3) < seconds([below, waited_for], 3)
    # In the middle it is done before the next gradient goes down: where nothing but gradients is left, nobody gains.
    assert seconds([below, hurried, below], 1) <= seconds([below, waited_for, below], 1)

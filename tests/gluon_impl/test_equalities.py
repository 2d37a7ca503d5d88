"""What must be one network is: two devices and one, the columns within a wider network, to rounding."""

import pytest

from paper.cost import parameters
from tests.gluon_impl.answering import answer
from tests.support.backends import TOLERANCE, WIDER, apart, ask, check_wider_is_the_same, tiny, too_far, widened


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("preset", ["paper", "chm-145", "notes"])
def test_two_contexts_are_one(preset: str, dtype: str) -> None:
    question = ask(tiny(preset=preset))
    split, grouped = (answer(question, placement, dtype) for placement in ("columns", "single"))
    assert too_far(apart(split, grouped), TOLERANCE[dtype]) == {}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", WIDER)
def test_the_columns_are_a_wider_network_whose_other_weights_are_zero(name: str, dtype: str) -> None:
    check_wider_is_the_same(lambda question: answer(question, "single", dtype), name, dtype)


def test_the_columns_are_not_the_merged_network() -> None:
    narrow, wide = tiny(), tiny(variant="merged")
    assert parameters(narrow.network()) < parameters(wide.network())
    question, table = ask(narrow), wide.network()
    # Even with no weight between the columns: the merged network's norm reaches across them.
    left = answer(question, "single", "float64")
    merged = type(question)(table, widened(question.weights, table), question.images, question.labels, question.masks)
    right = answer(merged, "single", "float64")
    assert apart(type(left)(right.logits, right.loss, left.gradients), left)["logits"] > 1e-6

"""What must be one network is: any cut and one stage, the columns within a wider network, to rounding."""

import pytest
import torch

from deepspeed_impl.network import Stage, StepPart
from paper.cost import parameters
from tests.deepspeed_impl.answering import answer, build
from tests.support.backends import (
    BATCH,
    SEED,
    TOLERANCE,
    WIDER,
    Question,
    apart,
    ask,
    check_wider_is_the_same,
    tiny,
    too_far,
)
from tests.support.backends import widened as in_wider_shapes

CUTS = range(1, len(tiny().network().layers))


def cut_at(question: Question, place: int, count: int) -> list[Stage]:
    """Two stages, the second from layer number ``place``, that take ``count`` micro-batches."""
    layers, micro = question.network.layers, StepPart(SEED, BATCH // count, count)
    return [Stage(part, micro) for part in (layers[:place], layers[place:])]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_any_cut_and_any_number_of_micro_batches_are_one_stage(dtype: str, count: int) -> None:
    question = ask(tiny())
    whole = answer(build(question.network, "single"), question, dtype)
    for place in CUTS:
        found = apart(answer(cut_at(question, place, count), question, dtype), whole)
        assert too_far(found, TOLERANCE[dtype]) == {}, question.network.layers[place].name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", WIDER)
def test_the_columns_are_a_wider_network_whose_other_weights_are_zero(name: str, dtype: str) -> None:
    check_wider_is_the_same(lambda question: answer(build(question.network, "single"), question, dtype), name, dtype)


def test_the_columns_are_not_the_merged_network() -> None:
    narrow, wide = tiny(), tiny(variant="merged")
    assert parameters(narrow.network()) < parameters(wide.network())
    question, table = ask(narrow), wide.network()
    # Even with no weight between the columns: the merged network's norm reaches across them.
    weights = in_wider_shapes(question.weights, table)
    merged = Question(table, weights, question.images, question.labels, question.masks)
    left, right = (answer(build(asked.network, "single"), asked, "float64") for asked in (question, merged))
    assert torch.tensor(left.logits - right.logits).abs().max() > 1e-6

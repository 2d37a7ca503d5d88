"""The ledger's paper steps, where they can be counted by hand."""

from math import prod

import pytest

from paper.architecture import Network, network
from paper.recipe import PRESETS
from protocol.ledger import deepspeed, gluon
from protocol.ledger.memory import Memory, Part, keep

PARAMETERS = 4 * 60_965_224
STEPS = [deepspeed.step, gluon.step]


@pytest.fixture(scope="module")
def alexnet() -> Network:
    return network("two_column", PRESETS["paper"])


def whole(net: Network, images: int, **changes: int) -> Part:
    return Part(net, net.layers, images, **changes)


def test_memory_keeps_what_somebody_uses(alexnet: Network) -> None:
    memory, layer = Memory(), alexnet.layers[0]
    block = memory.take(10, layer)
    keep(block)
    memory.drop(block)
    memory.pass_by(5, layer)
    assert (memory.size, memory.peak) == (10, 15)
    memory.drop(block)
    assert (memory.size, memory.peak, memory.at_peak) == (0, 15, {("conv1", "activations"): 15})


@pytest.mark.parametrize("step", STEPS)
def test_weights_and_momentum_are_held_whole_or_by_columns(step, alexnet: Network) -> None:  # type: ignore[no-untyped-def]
    for columns in (1, 2):
        memory = step(whole(alexnet, 8, columns=columns, waiting=3))
        for kind in ("parameters", "momentum"):
            assert memory.of_kind(kind) == PARAMETERS // columns


@pytest.mark.parametrize("step", STEPS)
def test_activations_grow_with_the_images_and_a_column_holds_less(step, alexnet: Network) -> None:  # type: ignore[no-untyped-def]
    few, many = step(whole(alexnet, 64)), step(whole(alexnet, 128))
    assert 1.9 < many.of_kind("activations") / few.of_kind("activations") < 2.1
    column = step(whole(alexnet, 128, columns=2))
    assert column.of_kind("activations") < 0.7 * many.of_kind("activations")


def test_bf16_halves_what_lies_between_but_not_the_weights(alexnet: Network) -> None:
    exact, lowered = deepspeed.step(whole(alexnet, 128)), deepspeed.step(whole(alexnet, 128, lowered=2))
    assert lowered.of_kind("parameters") == exact.of_kind("parameters")
    assert lowered.at_peak["relu1", "activations"] * 2 == exact.at_peak["relu1", "activations"]
    assert exact.at_peak["relu1", "activations"] == 4 * 128 * prod((96, 55, 55))


def test_a_pipeline_holds_a_micro_batch_for_each_that_is_under_way(alexnet: Network) -> None:
    one, two = (
        deepspeed.step(Part(alexnet, alexnet.layers[:8], 16, micro_batches=4, in_flight=count)) for count in (1, 2)
    )
    # conv1 to pool2 keep, for each image: the image twice, relu1, and so on; see the rules of each layer.
    assert two.peak - one.peak > 16 * 4 * (2 * 154_587 + 2 * 290_400 + 2 * 186_624)


def test_storages_are_shared_as_in_mxnet(alexnet: Network) -> None:
    part = whole(alexnet, 1)
    planned = gluon.plan(part, gluon.graphs(part)[1])
    # conv5 and pool5 backward: two storages of conv4's size take turns.
    assert planned.sizes == [4 * 64_896, 4 * 64_896]
    assert planned.uses[-1] is None

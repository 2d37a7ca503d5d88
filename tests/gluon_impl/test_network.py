"""The Gluon network against the oracle: logits, loss and every gradient, in every reading and placement."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from gluon_impl.network import AlexNet, Share, joined, make_block
from paper.architecture import Activation, network
from paper.recipe import PRESETS
from protocol.experiment.cases import CASES, Case
from tests.gluon_impl.answering import CONTEXTS, answer
from tests.support.backends import (
    ABLATIONS,
    BATCH,
    BY_COLUMN,
    CIFAR,
    TOLERANCE,
    VARIANTS,
    apart,
    ask,
    norm_layer,
    oracle,
    tiny,
    too_far,
)

# Which readings each placement can carry out.
READINGS = [(preset, "single") for preset in PRESETS] + [(preset, "columns") for preset in BY_COLUMN]
TWO_COLUMNS = [name for name in VARIANTS if tiny(variant=name).network().columns == 2]


def distances(case: Case, placement: str, dtype: str, *, imposed: bool = False) -> dict[str, float]:
    truth, choices = oracle(case)
    return apart(answer(ask(case), placement, dtype, choices if imposed else None), truth)


@pytest.mark.parametrize(("preset", "placement"), READINGS)
def test_every_reading_agrees_with_the_oracle_in_float64(preset: str, placement: str) -> None:
    assert too_far(distances(tiny(preset=preset), placement, "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize(("preset", "placement"), READINGS)
def test_every_reading_agrees_with_the_oracle_in_float32_with_its_choices(preset: str, placement: str) -> None:
    assert too_far(distances(tiny(preset=preset), placement, "float32", imposed=True), TOLERANCE["float32"]) == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_agrees_with_the_oracle(variant: str) -> None:
    assert too_far(distances(tiny(variant=variant), "single", "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("variant", TWO_COLUMNS)
def test_every_variant_of_two_columns_agrees_with_the_oracle_on_two_contexts(variant: str) -> None:
    assert too_far(distances(tiny(variant=variant), "columns", "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("name", CIFAR)
def test_the_network_for_cifar_agrees_with_the_oracle_in_float64(name: str) -> None:
    assert too_far(distances(CASES[name], "single", "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("placement", CONTEXTS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_agrees_with_the_oracle(ablation: str, placement: str) -> None:
    assert too_far(distances(tiny(ablation=ablation), placement, "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize(
    ("function", "order", "operators"),
    [
        ("relu", ("relu", "norm"), ["response_norm"]),
        ("tanh", ("relu", "norm"), ["Activation", "response_norm"]),
        ("relu", ("norm", "relu"), ["response_norm", "Activation"]),
    ],
)
def test_only_a_relu_and_the_norm_after_it_become_one_operator(
    function: str, order: tuple[str, str], operators: list[str]
) -> None:
    norm = norm_layer("paper")
    layers = {"relu": Activation("relu", norm.shape_in, norm.shape_in, norm.groups, function), "norm": norm}
    share = Share(0, 1, mx.cpu(0), "float32")
    run = gluon.nn.HybridSequential()
    for _, block in joined([(layers[name], make_block(layers[name], share)) for name in order]):
        run.add(block)
    nodes = json.loads(run(mx.sym.var("x")).tojson())["nodes"]
    assert [node["op"] for node in nodes if node["op"] != "null"] == operators


def test_without_masks_the_units_are_halved() -> None:
    case = tiny()
    question = ask(case)
    net = AlexNet(question.network, CONTEXTS["columns"], "float64")
    net.load(question.weights)
    images = [mx.nd.array(question.images, ctx=context, dtype="float64") for context in net.contexts]
    halves = {
        name: [mx.nd.full((BATCH, mask.shape[1] // 2), 0.5, share.context, "float64") for share in net.shares]
        for name, mask in question.masks.items()
    }
    assert np.allclose(net(images, None).asnumpy(), net(images, halves).asnumpy(), rtol=1e-12)


def test_columns_that_do_not_exchange_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def own_maps_twice(net: AlexNet, values: list[mx.nd.NDArray]) -> list[mx.nd.NDArray]:
        return [mx.nd.concat(value, value, dim=1) for value in values]

    monkeypatch.setattr(AlexNet, "_cross", own_maps_twice)
    assert too_far(distances(tiny(), "columns", "float64"), 0.01) != {}


def test_columns_that_are_swapped_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(net: AlexNet, values: list[mx.nd.NDArray]) -> list[mx.nd.NDArray]:
        return [mx.nd.concat(*(v.as_in_context(c) for v in values[::-1]), dim=1) for c in net.contexts]

    monkeypatch.setattr(AlexNet, "_cross", swapped)
    assert too_far(distances(tiny(), "columns", "float64"), 0.01) != {}


def test_another_columns_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = AlexNet.forward

    def exchanged(net: AlexNet, images: list[mx.nd.NDArray], masks: dict[str, list[mx.nd.NDArray]]) -> object:
        others = {
            name: [m.as_in_context(c) for m, c in zip(parts[::-1], net.contexts, strict=True)]
            for name, parts in masks.items()
        }
        return right(net, images, others)

    monkeypatch.setattr(AlexNet, "forward", exchanged)
    assert too_far(distances(tiny(), "columns", "float64"), 0.01) != {}


@pytest.mark.parametrize(
    ("variant", "placement", "expected"),
    [
        ("two_column", "single", [60_965_224]),
        ("two_column", "columns", [30_482_612, 30_482_612]),
        ("merged", "single", [62_378_344]),
        ("half", "single", [59_798_312]),
    ],
)
def test_the_full_size_parameters_live_where_they_should(variant: str, placement: str, expected: list[int]) -> None:
    net = AlexNet(network(variant, PRESETS["paper"]), CONTEXTS[placement])
    assert net.parameters_by_context() == dict(zip(CONTEXTS[placement], expected, strict=True))


def test_each_context_holds_its_half_of_every_parameter() -> None:
    question = ask(tiny())
    net = AlexNet(question.network, CONTEXTS["columns"], "float32")
    net.load(question.weights)
    for name, parts in net.canonical().items():
        whole = question.weights[name]
        for index, part in enumerate(parts):
            assert part.list_ctx() == [mx.cpu(index)], name
            assert part.grad().context == mx.cpu(index), name
            rows = whole[index * len(whole) // 2 : (index + 1) * len(whole) // 2]
            assert np.array_equal(part.data().asnumpy().ravel(), rows.ravel()), name


@pytest.mark.parametrize("placement", CONTEXTS)
@pytest.mark.parametrize("variant", ["two_column", "cross_at="])
def test_what_is_loaded_is_read_back(variant: str, placement: str) -> None:
    question = ask(tiny(variant=variant))
    net = AlexNet(question.network, CONTEXTS[placement], "float32")
    net.load(question.weights)
    found = net.assemble(lambda parameter: parameter.data())
    assert list(found) == list(question.network.parameter_shapes())
    assert all(np.array_equal(found[name], value) for name, value in question.weights.items())


@pytest.mark.parametrize("variant", ["merged", "half", "owt"])
def test_a_variant_of_one_column_cannot_be_shared(variant: str) -> None:
    with pytest.raises(ValueError, match=rf"{variant} has 1 column.*2 contexts"):
        AlexNet(tiny(variant=variant).network(), CONTEXTS["columns"])


def test_a_norm_that_spans_the_columns_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="reaches across the columns"):
        AlexNet(tiny(preset="caffe").network(), CONTEXTS["columns"])

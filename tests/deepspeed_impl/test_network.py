"""The pipeline stages against the oracle: logits, loss and every gradient, in every reading and placement."""

import numpy as np
import pytest
import torch

from deepspeed_impl.imposed import impose
from deepspeed_impl.network import CountedDropout, PostponedConv, StepPart, make_module
from paper.architecture import Local, network
from paper.recipe import PRESETS
from protocol.experiment.cases import CASES, Case
from tests.deepspeed_impl.answering import answer, build
from tests.support.backends import ABLATIONS, CIFAR, TOLERANCE, VARIANTS, apart, ask, oracle, tiny, too_far

# With the micro-batch that the plan chooses, and with others.
PLACEMENTS = [("single", None), ("stages", None), ("stages", 2), ("single", 4)]
READINGS = [(preset, place) for preset in PRESETS for place in ("single", "stages")]


def distances(
    case: Case, placement: str, dtype: str, *, micro: int | None = None, imposed: bool = False
) -> dict[str, float]:
    truth, choices = oracle(case)
    stages = build(case.network(), placement, micro, imposed=imposed)
    if imposed:
        for stage in stages:
            impose(stage, choices)
    return apart(answer(stages, ask(case), dtype), truth)


@pytest.mark.parametrize(("preset", "placement"), READINGS)
def test_every_reading_agrees_with_the_oracle_in_float64(preset: str, placement: str) -> None:
    assert too_far(distances(tiny(preset=preset), placement, "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize(("preset", "placement"), READINGS)
def test_every_reading_agrees_with_the_oracle_in_float32_with_its_choices(preset: str, placement: str) -> None:
    assert too_far(distances(tiny(preset=preset), placement, "float32", imposed=True), TOLERANCE["float32"]) == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_agrees_with_the_oracle(variant: str) -> None:
    assert too_far(distances(tiny(variant=variant), "stages", "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("place", ["single", "stages"])
@pytest.mark.parametrize("name", CIFAR)
def test_the_network_for_cifar_agrees_with_the_oracle_in_float64(name: str, place: str) -> None:
    assert too_far(distances(CASES[name], place, "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_agrees_with_the_oracle(ablation: str) -> None:
    assert too_far(distances(tiny(ablation=ablation), "stages", "float64"), TOLERANCE["float64"]) == {}


@pytest.mark.parametrize("imposed", [True, False])
@pytest.mark.parametrize(("placement", "micro"), PLACEMENTS)
def test_the_cut_and_the_micro_batch_change_nothing(placement: str, micro: int | None, imposed: bool) -> None:
    found = distances(tiny(), placement, "float64", micro=micro, imposed=imposed)
    assert too_far(found, TOLERANCE["float64"]) == {}


def test_without_training_the_units_are_halved() -> None:
    question = ask(tiny())
    (stage,) = build(question.network, "single")
    stage.load(question.weights)
    images = torch.from_numpy(question.images)
    tested = stage.eval()(images)
    for name in ("drop6", "drop7"):
        setattr(stage, name, torch.nn.Identity())
        # Half of a layer's output is the next one's weights halved.
        getattr(stage, name.replace("drop6", "fc7").replace("drop7", "fc8"))[1].weight.data *= 0.5
    assert torch.allclose(tested, stage(images), rtol=1e-4, atol=1e-5)


def test_evaluation_does_not_count_and_training_does() -> None:
    (stage,) = build(ask(tiny()).network, "single", micro=4)
    counters = [module for module in stage.modules() if isinstance(module, CountedDropout)]
    images = torch.zeros(4, 3, 31, 31)
    stage.eval()(images)
    assert [counter.seen for counter in counters] == [0, 0]
    stage.train()(images)
    stage.eval()(images)
    stage.train()(images)
    assert [counter.seen for counter in counters] == [2, 2]
    stage.count_from(7)
    assert [counter.seen for counter in counters] == [14, 14]


def with_maps_before_conv3(change: object) -> dict[str, float]:
    """Distances of a network in which ``change`` is done to what conv3 reads."""
    case = tiny()
    stages = build(case.network(), "single")
    stages[0].conv3.register_forward_pre_hook(change)
    return apart(answer(stages, ask(case), "float64"), oracle(case)[0])


def test_columns_that_do_not_exchange_are_found_out() -> None:
    def own_maps_alone(module: torch.nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        halves = (module.out_channels // 2, module.in_channels // 2)
        with torch.no_grad():
            module.weight[: halves[0], halves[1] :] = 0
            module.weight[halves[0] :, : halves[1]] = 0

    assert too_far(with_maps_before_conv3(own_maps_alone), 0.01) != {}


def test_columns_that_are_swapped_are_found_out() -> None:
    def swapped(module: torch.nn.Conv2d, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].roll(module.in_channels // 2, dims=1),)

    assert too_far(with_maps_before_conv3(swapped), 0.01) != {}


def test_another_places_mask_is_found_out() -> None:
    case = tiny()
    stages = build(case.network(), "single")
    stages[0].count_from(1)
    assert too_far(apart(answer(stages, ask(case), "float64"), oracle(case)[0]), 0.01) != {}


@pytest.mark.parametrize(
    ("variant", "expected"), [("two_column", 60_965_224), ("merged", 62_378_344), ("half", 59_798_312)]
)
@pytest.mark.parametrize("placement", ["single", "stages"])
def test_the_full_size_parameters_are_shared_out_without_rest(variant: str, placement: str, expected: int) -> None:
    with torch.device("meta"):
        stages = build(network(variant, PRESETS["paper"]), placement)
    held = [stage.canonical() for stage in stages]
    assert sum(parameter.numel() for part in held for parameter in part.values()) == expected
    names = [name for part in held for name in part]
    assert names == list(network(variant, PRESETS["paper"]).parameter_shapes())


@pytest.mark.parametrize("placement", ["single", "stages"])
@pytest.mark.parametrize("variant", ["two_column", "cross_at="])
def test_what_is_loaded_is_read_back(variant: str, placement: str) -> None:
    question = ask(tiny(variant=variant))
    found: dict[str, np.ndarray] = {}
    for stage in build(question.network, placement):
        stage.load(question.weights)
        found |= {name: value.detach().numpy() for name, value in stage.canonical().items()}
    assert list(found) == list(question.network.parameter_shapes())
    assert all(np.array_equal(found[name], value) for name, value in question.weights.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stage_above_another_leaves_its_convolutions_weights_for_later_and_changes_no_bit(dtype: torch.dtype) -> None:
    question = ask(tiny())
    gradients = []
    for postpones in (True, False):
        _, above = build(question.network, "stages", micro=2)
        above.to(dtype)
        above.load(question.weights)
        postponed = [module for module in above.modules() if isinstance(module, PostponedConv)]
        assert {module.postpones for module in postponed} == {True}
        for module in postponed:
            module.postpones = postpones
        shape = next(iter(above.layers.values())).shape_in
        numbers = torch.Generator().manual_seed(1)
        for turn in range(2):
            values = torch.randn(2, *shape, generator=numbers, dtype=dtype, requires_grad=True)
            above(values).square().sum().backward()
            # In the first turn nothing is there yet; the second has computed what the first left.
            there = {module.weight.grad is not None for module in postponed}
            assert there == {turn == 1 or not postpones}
        above.finish_gradients()
        gradients.append({name: value.grad for name, value in above.canonical().items()})
    late, at_once = gradients
    assert all(torch.equal(late[name], at_once[name]) for name in at_once)


def test_the_first_stage_leaves_nothing_for_later() -> None:
    first, _ = build(ask(tiny()).network, "stages", micro=2)
    assert not any(module.postpones for module in first.modules() if isinstance(module, PostponedConv))


def test_unshared_kernels_put_out_the_lowered_type() -> None:
    module = make_module(Local("local3", (3, 4, 4), (2, 4, 4), 1, kernel=3, pad=1), StepPart(0, 4, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert module(torch.zeros(4, 3, 4, 4)).dtype == torch.bfloat16

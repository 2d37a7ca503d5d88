"""The named experiments: each can be built, and an unknown name is answered with those there are."""

import json
from dataclasses import replace

import pytest

from paper.recipe import LAYERS, PRESETS
from protocol.experiment.augmentation import Policy
from protocol.experiment.cases import CASES, find_case


@pytest.mark.parametrize("name", CASES)
def test_every_case_builds(name: str) -> None:
    case = find_case(name)
    assert case.name == name
    table = case.network()
    assert table.classes == case.classes
    assert case.network().input_shape[1] == {"full": 227, "cifar": 24}.get(case.size, 31)
    layers = LAYERS if case.size != "cifar" else [layer.name for layer in table.weighted()]
    assert set(case.initial_deviations()) == set(layers)
    assert sorted(case.drops) == list(case.drops)
    assert all(0 < drop < case.epochs for drop in case.drops)
    assert case.why
    assert case.cost
    content = json.loads(json.dumps(case.content()))
    assert content["drops"] == list(case.drops)
    assert content["policy"] == {
        "crops": case.policy.crops,
        "reflections": case.policy.reflections,
        "colour": case.policy.colour,
    }


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no-norm", {"norm": False}),
        ("no-overlap", {"pool_window": 2}),
        ("no-dropout", {"dropout": False}),
        ("no-decay", {"decay": False}),
        ("zero-bias", {"bias_ones": False}),
        ("no-crops", {"policy": Policy(crops=False, reflections=False)}),
        ("no-colour", {"policy": Policy(colour=False)}),
    ],
)
def test_an_ablation_changes_one_thing_about_the_base_case(name: str, changed: dict[str, object]) -> None:
    base = CASES["claims"]
    assert replace(CASES[name], name=base.name, why=base.why) == replace(base, **changed)  # type: ignore[arg-type]


def test_nonlinearities_are_compared_unregularized_and_alike_in_all_else() -> None:
    base = CASES["relu"]
    assert not base.dropout
    assert base.recipe().decay == 0
    for name in ("tanh", "sigmoid"):
        other = replace(CASES[name], name=base.name, why=base.why, rate=base.rate, epochs=base.epochs)
        assert other == replace(base, activation=name)


def test_the_recipe_follows_the_switches() -> None:
    assert CASES["photos"].recipe().deviation == PRESETS["chm-145"].deviation
    assert CASES["parity-paper"].recipe() == PRESETS["paper"]
    assert CASES["no-decay"].recipe().decay == 0
    assert CASES["zero-bias"].recipe().ones == frozenset()


def test_variant_and_preset_can_be_changed() -> None:
    assert find_case("tiny", variant="merged").network().columns == 1
    changed = find_case("tiny", preset_name="caffe")
    assert changed.recipe() == PRESETS["caffe"]
    assert find_case("full", preset_name="chm-145").network().input_shape == (3, 224, 224)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "photo"}, ("'photo'", "photos", "parity", "imagenet")),
        ({"name": "tiny", "variant": "tripled"}, ("'tripled'", "two_column", "merged", "cross_at=")),
        ({"name": "cifar", "variant": "merged"}, ("cifar", "--variant")),
        ({"name": "cifar", "preset_name": "caffe"}, ("cifar", "--preset")),
        ({"name": "tiny", "variant": "conv_local"}, ("'conv_local'", "merged")),
        ({"name": "tiny", "variant": "cross_at=conv1"}, ("conv1", "conv2", "fc8")),
        ({"name": "tiny", "preset_name": "2012"}, ("'2012'", "chm-145", "caffe", "notes")),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(arguments: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"there is no|can cross|of its own") as caught:
        find_case(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_the_rate_falls_tenfold_at_the_first_step_after_each_drop() -> None:
    case = replace(CASES["photos"], rate=0.01, drops=(2, 5), epochs=8)
    rates = [case.rate_at(step, steps_per_epoch=3) for step in range(24)]
    assert rates == pytest.approx([0.01] * 6 + [0.001] * 9 + [0.0001] * 9, rel=1e-12)

"""Initial weights: names, shapes, deviations and biases of each preset, at full width and narrower."""

from math import prod, sqrt

import numpy as np
import pytest

from paper.architecture import Network, network
from paper.recipe import PRESETS, Preset
from protocol.experiment.weights import initial_deviations, initial_weights


def tables(preset: Preset, size: str) -> tuple[Network, Network]:
    return network("two_column", preset, size, 20), network("two_column", preset, "full")


@pytest.mark.parametrize("name", PRESETS)
def test_names_shapes_deviations_and_biases(name: str) -> None:
    preset = PRESETS[name]
    small, full = tables(preset, "small")
    deviations = initial_deviations(small, full, preset)
    weights = initial_weights(small, deviations, preset, seed=1)
    assert {key: value.shape for key, value in weights.items()} == small.parameter_shapes()
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    for layer in small.weighted():
        values = weights[f"{layer.name}.weight"].astype(np.float64)
        expected = deviations[layer.name]
        assert abs(values.mean()) < 6 * expected / sqrt(values.size)
        assert abs(values.std() / expected - 1) < 6 / sqrt(2 * values.size)
        bias = preset.bias_start if layer.name in preset.ones else 0
        assert (weights[f"{layer.name}.bias"] == np.float32(bias)).all()


@pytest.mark.parametrize("name", PRESETS)
def test_at_full_width_the_deviations_are_the_presets_own(name: str) -> None:
    preset = PRESETS[name]
    full = network("two_column", preset, "full")
    assert initial_deviations(full, full, preset) == preset.deviation


@pytest.mark.parametrize("size", ["small", "tiny"])
@pytest.mark.parametrize("variant", ["two_column", "merged"])
def test_a_narrower_layer_amplifies_its_input_as_the_full_one_does(size: str, variant: str) -> None:
    preset = PRESETS["chm-145"]
    narrow, full = network(variant, preset, size, 20), network(variant, preset, "full")
    deviations = initial_deviations(narrow, full, preset)
    for layer, whole in zip(narrow.weighted(), full.weighted(), strict=True):
        gain = deviations[layer.name] ** 2 * prod(layer.weight_shape[1:])
        assert gain == pytest.approx(preset.deviation[layer.name] ** 2 * prod(whole.weight_shape[1:]), rel=1e-12)
        assert deviations[layer.name] > preset.deviation[layer.name]


def test_weights_follow_from_the_seed_and_differ_between_seeds_and_layers() -> None:
    preset = PRESETS["paper"]
    tiny, full = tables(preset, "tiny")
    deviations = initial_deviations(tiny, full, preset)
    first, again, other = (initial_weights(tiny, deviations, preset, seed) for seed in (1, 1, 2))
    for name, value in first.items():
        assert np.array_equal(value, again[name])
        if name.endswith("weight"):
            assert not np.array_equal(value, other[name])
    fc6, fc7 = (first[f"{name}.weight"].ravel()[:100] / deviations[name] for name in ("fc6", "fc7"))
    assert abs(np.corrcoef(fc6, fc7)[0, 1]) < 0.6


def test_another_architecture_of_the_same_layer_shape_starts_from_the_same_weights() -> None:
    preset = PRESETS["paper"]
    first, full = tables(preset, "tiny")
    second = network("merged", preset, "tiny", 20)
    deviations = initial_deviations(first, full, preset)
    left, right = (initial_weights(table, deviations, preset, 5) for table in (first, second))
    assert np.array_equal(left["conv1.weight"], right["conv1.weight"])
    assert np.array_equal(left["fc7.weight"], right["fc7.weight"])

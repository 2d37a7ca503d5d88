"""Each preset against the table that compares the paper's text, the 2012 code, Caffe and the study notes."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from paper.recipe import PRESETS, NormScale, preset

ONES = {"conv2", "conv4", "conv5", "fc6", "fc7"}
# Deviations are of conv1 and 2, conv3 to 5, fc6 and 7, fc8. ``norm``: what reaches the sum of squares, k, the window.
TABLE: dict[str, dict[str, Any]] = {
    "paper": {
        "deviation": (0.01, 0.01, 0.01, 0.01),
        "ones": ONES,
        "bias_start": 1,
        "bias_rate": 1,
        "bias_decay": True,
        "norm": (1e-4, 2, "column"),
        "order": None,
        "inverted_dropout": False,
        "ceil_input": False,
        "crossing": True,
    },
    "chm-145": {
        "deviation": (0.01, 0.03, 0.01, 0.01),
        "ones": ONES,
        "bias_start": 1,
        "bias_rate": 2,
        "bias_decay": False,
        "norm": (2e-5, 2, "column"),
        "order": {"conv1": ("norm", "pool", "relu"), "conv2": ("relu", "norm", "rnorm", "pool")},
        "inverted_dropout": False,
        "ceil_input": True,
        "crossing": True,
    },
    "caffe": {
        "deviation": (0.01, 0.01, 0.005, 0.01),
        "ones": ONES,
        "bias_start": 0.1,
        "bias_rate": 2,
        "bias_decay": False,
        "norm": (2e-5, 1, "all"),
        "order": None,
        "inverted_dropout": True,
        "ceil_input": False,
        "crossing": True,
    },
    "caffenet": {
        "deviation": (0.01, 0.01, 0.005, 0.01),
        "ones": ONES,
        "bias_start": 1,
        "bias_rate": 2,
        "bias_decay": False,
        "norm": (2e-5, 1, "all"),
        "order": {"conv1": ("relu", "pool", "norm"), "conv2": ("relu", "pool", "norm")},
        "inverted_dropout": True,
        "ceil_input": False,
        "crossing": True,
    },
    "notes": {
        "deviation": (0.01, 0.01, 0.01, 0.01),
        "ones": {"conv1", "conv3", "conv4", "fc6", "fc7"},
        "bias_start": 1,
        "bias_rate": 1,
        "bias_decay": True,
        "norm": (1e-4, 2, "column"),
        "order": None,
        "inverted_dropout": False,
        "ceil_input": False,
        "crossing": False,
    },
}


def test_each_preset_stands_under_its_own_name() -> None:
    assert list(PRESETS) == list(TABLE)
    assert all(preset(name).name == name for name in PRESETS)


@pytest.mark.parametrize("name", TABLE)
def test_deviations_are_those_of_the_table(name: str) -> None:
    first, middle, dense, last = TABLE[name]["deviation"]
    assert preset(name).deviation == {
        "conv1": first,
        "conv2": first,
        "conv3": middle,
        "conv4": middle,
        "conv5": middle,
        "fc6": dense,
        "fc7": dense,
        "fc8": last,
    }


@pytest.mark.parametrize("name", TABLE)
def test_norm_constants_are_those_of_the_table(name: str) -> None:
    norm = preset(name).norm
    assert (pytest.approx(norm.sum_scale, rel=1e-12), norm.k, norm.window) == TABLE[name]["norm"]
    assert (norm.size, norm.alpha, norm.beta) == (5, 1e-4, 0.75)


@pytest.mark.parametrize(
    "field", ["ones", "bias_start", "bias_rate", "bias_decay", "order", "inverted_dropout", "ceil_input", "crossing"]
)
@pytest.mark.parametrize("name", TABLE)
def test_the_rest_is_as_in_the_table(name: str, field: str) -> None:
    assert getattr(preset(name), field) == TABLE[name][field]


@pytest.mark.parametrize("name", TABLE)
def test_every_preset_takes_the_steps_of_section_5(name: str) -> None:
    chosen = preset(name)
    assert (chosen.rate, chosen.momentum, chosen.decay) == (0.01, 0.9, 0.0005)


def test_the_papers_norm_is_not_divided_by_its_size() -> None:
    assert NormScale(size=9, alpha=1.8e-3).sum_scale == 1.8e-3
    assert NormScale(size=9, alpha=1.8e-3, divided=True).sum_scale == pytest.approx(2e-4, rel=1e-12)


def test_an_unknown_preset_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"^there is no preset 'resnet'; there are paper, chm-145, caffe, caffenet, notes$"
    ):
        preset("resnet")


def test_presets_cannot_be_changed_in_passing() -> None:
    with pytest.raises(FrozenInstanceError):
        preset("paper").rate = 0.1  # type: ignore[misc]

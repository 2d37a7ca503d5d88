"""Ten steps of the optimizer, the rate falling twice, against the oracle's update."""

import numpy as np
import pytest
import torch

from deepspeed_impl.network import Slice, Stage
from deepspeed_impl.optimizer import PaperSGD
from paper.recipe import PRESETS
from protocol.reference import Arrays
from tests.backends import RATES, ask, check_updates, ten_updates, tiny

DTYPES = ("float64", "float32")


def prepare(preset: str, dtype: str) -> tuple[Stage, PaperSGD]:
    stage = Stage(ask(tiny(preset=preset)).network.layers, Slice(0, 4, 1)).to(getattr(torch, dtype))
    return stage, PaperSGD(stage.canonical(), PRESETS[preset])


def take(stage: Stage, optimizer: PaperSGD, gradients: Arrays, rate: float) -> None:
    for name, parameter in stage.canonical().items():
        parameter.grad = torch.from_numpy(gradients[name])
    optimizer.rate = rate
    optimizer.step()


def state(stage: Stage, optimizer: PaperSGD) -> Arrays:
    weights = {name: value.detach().numpy().copy() for name, value in stage.canonical().items()}
    return weights | {f"momentum.{name}": value.copy() for name, value in optimizer.velocities().items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_ten_steps_agree_with_the_oracle(preset: str, dtype: str) -> None:
    weights, gradients, _, _ = ten_updates(preset, dtype)
    stage, optimizer = prepare(preset, dtype)
    stage.load(weights)
    for rate, step in zip(RATES, gradients, strict=True):
        take(stage, optimizer, step, rate)
    check_updates(preset, dtype, state(stage, optimizer))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loaded_state_goes_on_bit_for_bit(dtype: str) -> None:
    weights, gradients, _, _ = ten_updates("chm-145", dtype)
    first = prepare("chm-145", dtype)
    first[0].load(weights)
    for rate, step in zip(RATES[:5], gradients[:5], strict=True):
        take(*first, step, rate)
    saved = state(*first)
    second = prepare("chm-145", dtype)
    second[0].load(saved)
    second[1].load(saved)
    for rate, step in zip(RATES[5:], gradients[5:], strict=True):
        take(*first, step, rate)
        take(*second, step, rate)
    left, right = state(*first), state(*second)
    assert all(np.array_equal(left[name], right[name]) for name in left)


def test_before_the_first_step_the_momentum_is_zero() -> None:
    assert not any(value.any() for value in prepare("paper", "float32")[1].velocities().values())

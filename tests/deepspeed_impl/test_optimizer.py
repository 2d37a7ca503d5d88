"""Ten steps of the optimizer, the rate falling twice, against the oracle's update."""

import subprocess
import sys

import pytest
import torch

from deepspeed_impl.network import Stage, StepPart
from deepspeed_impl.optimizer import PaperSGD
from deepspeed_impl.share import Share
from paper.recipe import PRESETS
from protocol.oracle.network import Arrays
from tests.support.backends import ask, check_held_layers_stay, check_loaded_state_goes_on, check_ten_updates, tiny

DTYPES = ("float64", "float32")


class Trainee:
    def __init__(self, preset: str, dtype: str) -> None:
        self.stage = Stage(ask(tiny(preset=preset)).network.layers, StepPart(0, 4, 1)).to(getattr(torch, dtype))
        self.optimizer = PaperSGD(self.stage.canonical(), PRESETS[preset])

    def load(self, tensors: Arrays) -> None:
        self.stage.load(tensors)
        self.optimizer.load(tensors, Share())

    def take(self, gradients: Arrays, rate: float) -> None:
        for name, parameter in self.stage.canonical().items():
            parameter.grad = torch.from_numpy(gradients[name])
        self.optimizer.rate = rate
        self.optimizer.step()

    def state(self) -> Arrays:
        weights = {name: value.detach().numpy().copy() for name, value in self.stage.canonical().items()}
        momentum = self.optimizer.velocities()
        return weights | {f"momentum.{name}": value.copy() for name, value in momentum.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_ten_steps_agree_with_the_oracle(preset: str, dtype: str) -> None:
    check_ten_updates(Trainee(preset, dtype), preset, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_held_layers_stay_and_the_others_go_on(dtype: str) -> None:
    check_held_layers_stay(Trainee("chm-145", dtype), "chm-145", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loaded_state_goes_on_bit_for_bit(dtype: str) -> None:
    check_loaded_state_goes_on(lambda: Trainee("chm-145", dtype), "chm-145", dtype)


def test_before_the_first_step_the_momentum_is_zero() -> None:
    state = Trainee("paper", "float32").state()
    assert not any(value.any() for name, value in state.items() if name.startswith("momentum."))


def test_the_optimizer_does_without_torchs_compiler() -> None:
    code = """
import sys, torch
from deepspeed_impl.optimizer import PaperSGD
from paper.recipe import PRESETS
PaperSGD({"fc8.weight": torch.nn.Parameter(torch.ones(2, 3))}, PRESETS["paper"])
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

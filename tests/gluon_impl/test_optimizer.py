"""Ten steps of the optimizer, the rate falling twice, against the oracle's update."""

import mxnet as mx
import pytest
from mxnet import autograd

from gluon_impl.network import AlexNet
from gluon_impl.optimizer import Optimizer
from paper.recipe import PRESETS
from protocol.oracle.network import Arrays
from tests.support.backends import (
    BY_COLUMN,
    ask,
    check_held_layers_stay,
    check_loaded_state_goes_on,
    check_ten_updates,
    tiny,
)

DTYPES = ("float64", "float32")
BATCH = 4


class Trainee:
    def __init__(self, preset: str, dtype: str, columns: int = 1) -> None:
        table = ask(tiny(preset=preset)).network
        self.net = AlexNet(table, [mx.cpu(index) for index in range(columns)], dtype)
        self.optimizer = Optimizer(self.net, PRESETS[preset])

    def load(self, tensors: Arrays) -> None:
        self.net.load(tensors)
        self.optimizer.load(tensors)

    def take(self, gradients: Arrays, rate: float) -> None:
        """One update from batch-mean gradients; Gluon's are those of the sum."""
        net = self.net
        with autograd.record():
            products = [
                (parameter.data() * mx.nd.array(rows * BATCH, ctx=share.context, dtype=net.dtype)).sum()
                for name, parts in net.canonical().items()
                for share, parameter in zip(net.shares, parts, strict=True)
                for rows in [gradients[name][share.slice(len(gradients[name]))].reshape(parameter.shape)]
            ]
        autograd.backward(products)
        self.optimizer.step(rate, BATCH)

    def state(self) -> Arrays:
        weights = self.net.assemble(lambda parameter: parameter.data())
        momentum = self.net.assemble(self.optimizer.momentum())
        return weights | {f"momentum.{name}": value for name, value in momentum.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("preset", "columns"),
    [*((preset, 1) for preset in PRESETS), *((preset, 2) for preset in BY_COLUMN)],
)
def test_ten_steps_agree_with_the_oracle(preset: str, dtype: str, columns: int) -> None:
    check_ten_updates(Trainee(preset, dtype, columns), preset, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_held_layers_stay_and_the_others_go_on(dtype: str) -> None:
    check_held_layers_stay(Trainee("chm-145", dtype), "chm-145", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loaded_state_goes_on_bit_for_bit(dtype: str) -> None:
    check_loaded_state_goes_on(lambda: Trainee("chm-145", dtype), "chm-145", dtype)


def test_before_the_first_step_the_momentum_is_zero() -> None:
    state = Trainee("paper", "float32").state()
    assert not any(value.any() for name, value in state.items() if name.startswith("momentum."))

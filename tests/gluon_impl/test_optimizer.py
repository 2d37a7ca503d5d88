"""Ten steps of the optimizer, the rate falling twice, against the oracle's update."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_impl.network import AlexNet
from gluon_impl.optimizer import Optimizer
from paper.recipe import PRESETS
from protocol.reference import Arrays
from tests.backends import RATES, ask, check_updates, ten_updates, tiny

DTYPES = ("float64", "float32")
BATCH = 4


def prepare(preset: str, dtype: str, columns: int = 1) -> tuple[AlexNet, Optimizer]:
    table = ask(tiny(preset=preset)).network
    net = AlexNet(table, [mx.cpu(index) for index in range(columns)], dtype)
    return net, Optimizer(net, PRESETS[preset])


def take(net: AlexNet, optimizer: Optimizer, gradients: Arrays, rate: float) -> None:
    """One update from batch-mean gradients; Gluon's are those of the sum."""
    with autograd.record():
        products = [
            (parameter.data() * mx.nd.array(rows * BATCH, ctx=share.context, dtype=net.dtype)).sum()
            for name, parts in net.canonical().items()
            for share, parameter in zip(net.shares, parts, strict=True)
            for rows in [gradients[name][share.slice(len(gradients[name]))].reshape(parameter.shape)]
        ]
    autograd.backward(products)
    optimizer.step(rate, BATCH)


def state(net: AlexNet, optimizer: Optimizer) -> Arrays:
    weights = net.assemble(lambda parameter: parameter.data())
    momentum = net.assemble(optimizer.momentum())
    return weights | {f"momentum.{name}": value for name, value in momentum.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("preset", "columns"),
    [(preset, columns) for preset in PRESETS for columns in (1, 2) if (preset, columns) != ("caffe", 2)],
)
def test_ten_steps_agree_with_the_oracle(preset: str, dtype: str, columns: int) -> None:
    weights, gradients, _, _ = ten_updates(preset, dtype)
    net, optimizer = prepare(preset, dtype, columns)
    net.load(weights)
    for rate, step in zip(RATES, gradients, strict=True):
        take(net, optimizer, step, rate)
    check_updates(preset, dtype, state(net, optimizer))


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
    net, optimizer = prepare("paper", "float32")
    assert not any(value.any() for name, value in state(net, optimizer).items() if name.startswith("momentum."))

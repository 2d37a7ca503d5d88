"""fp32 means fp32: products round as float32 does, not as bfloat16 or TF32 would."""

import os
from collections.abc import Callable

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_impl.network import CrossEntropy
from protocol.oracle.network import cross_entropy
from tests.support.backends import IMAGES, KERNELS, LEFT, RIGHT, check_rounding


def product(dtype: str) -> np.ndarray:
    return mx.nd.dot(mx.nd.array(LEFT, dtype=dtype), mx.nd.array(RIGHT, dtype=dtype)).asnumpy()


def dense(dtype: str) -> np.ndarray:
    left, right = (mx.nd.array(array, dtype=dtype) for array in (LEFT, RIGHT))
    return mx.nd.FullyConnected(left, right, num_hidden=256, no_bias=True).asnumpy()


def convolution(dtype: str) -> np.ndarray:
    images, kernels = (mx.nd.array(array, dtype=dtype) for array in (IMAGES, KERNELS))
    return mx.nd.Convolution(images, kernels, kernel=(3, 3), num_filter=32, no_bias=True).asnumpy()


@pytest.mark.parametrize("operation", [product, dense, convolution])
def test_the_error_is_that_of_float32(operation: Callable[[str], np.ndarray]) -> None:
    check_rounding(operation)


@pytest.mark.parametrize(("dtype", "units"), [("float32", 4 * 2.0**-24), ("float64", 4 * 2.0**-53)])
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_the_loss_and_its_gradient_round_as_their_precision(size: float, dtype: str, units: float) -> None:
    generator = np.random.default_rng(15)
    logits = generator.normal(0, size, (16, 20)).astype(np.float32)
    labels = generator.integers(0, 20, 16)
    loss, gradient = cross_entropy(logits.astype(np.float64), labels)
    given = mx.nd.array(logits, dtype=dtype)
    given.attach_grad()
    with autograd.record():
        losses = CrossEntropy()(given, mx.nd.array(labels, dtype=dtype))
    losses.backward()
    assert losses.mean().asscalar() == pytest.approx(loss, rel=units)
    found = given.grad.asnumpy().astype(np.float64) / len(labels)
    assert np.linalg.norm(found - gradient) <= units * np.linalg.norm(gradient)


def test_onednn_is_asked_not_to_round_operands() -> None:
    assert os.environ["DNNL_DEFAULT_FPMATH_MODE"] == "STRICT"

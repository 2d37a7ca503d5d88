"""fp32 means fp32: products round as float32 does, not as bfloat16 or TF32 would."""

from collections.abc import Callable

import mxnet as mx
import numpy as np
import pytest

from tests.backends import IMAGES, KERNELS, LEFT, RIGHT, check_rounding


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

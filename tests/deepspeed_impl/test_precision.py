"""fp32 means fp32: products round as float32 does, not as bfloat16 or TF32 would."""

import os
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.backends import IMAGES, KERNELS, LEFT, RIGHT, check_rounding


def tensors(dtype: str, *arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(getattr(torch, dtype)) for array in arrays]


def product(dtype: str) -> np.ndarray:
    left, right = tensors(dtype, LEFT, RIGHT)
    return (left @ right).numpy()


def dense(dtype: str) -> np.ndarray:
    return torch.nn.functional.linear(*tensors(dtype, LEFT, RIGHT)).numpy()


def convolution(dtype: str) -> np.ndarray:
    return torch.nn.functional.conv2d(*tensors(dtype, IMAGES, KERNELS)).numpy()


@pytest.mark.parametrize("operation", [product, dense, convolution])
def test_the_error_is_that_of_float32(operation: Callable[[str], np.ndarray]) -> None:
    check_rounding(operation)


def test_onednn_is_asked_not_to_round_operands() -> None:
    assert os.environ["DNNL_DEFAULT_FPMATH_MODE"] == "STRICT"

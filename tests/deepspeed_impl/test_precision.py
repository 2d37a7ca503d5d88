"""fp32 means fp32: products round as float32 does, not as bfloat16 or TF32 would."""

import os
import subprocess
import sys
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


TERMS = 9216  # of a sum in fc6
UNITS = f"""
import numpy as np
import torch
from deepspeed_impl.parity import sum_in_parts
sum_in_parts()
left, right = np.random.default_rng(3).standard_normal((2, 64, {TERMS}))
exact = left.astype(np.longdouble) @ right.T.astype(np.longdouble)
found = (torch.from_numpy(left) @ torch.from_numpy(right).T).numpy()
print(np.linalg.norm((found - exact).astype(float)) / np.linalg.norm(exact.astype(float)) * 2.0**53)
"""


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="nothing here is more exact than float64")
def test_parity_adds_up_float64_products_in_parts() -> None:
    """As the bounds suppose: K terms in at least 8 sums round by some .3 times the root of K / 8."""
    said = subprocess.run([sys.executable, "-c", UNITS], check=True, capture_output=True, text=True).stdout
    assert 0 < float(said.splitlines()[-1]) < 0.3 * (TERMS / 8) ** 0.5

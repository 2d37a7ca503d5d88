"""fp32 means fp32: products round as float32 does, not as bfloat16 or TF32 would."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deepspeed_impl import parity, precision
from protocol.runs.request import make_parity
from tests.support.backends import IMAGES, KERNELS, LEFT, RIGHT, check_rounding
from tests.support.commands import environment


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


def test_nothing_rounds_operands_on_a_gpu_and_records_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's precision of products leaves cuDNN's convolutions in TF32: both switches are thrown, and each is seen."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("highest")
    assert precision.description() == "convolutions may be TF32"
    torch.set_float32_matmul_precision("high")
    assert precision.description() == "products and convolutions may be TF32"
    assert precision.settle("fp32") == "strict"
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_allowed_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert precision.settle("tf32") == "products and convolutions may be TF32"
    assert precision.settle("bf16") == "strict"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here: python -m pytest this file on one")
@pytest.mark.parametrize("operation", ["product", "convolution"])
def test_the_error_on_a_gpu_is_that_of_float32(operation: str) -> None:
    precision.settle("fp32")

    def on_gpu(dtype: str) -> np.ndarray:
        arrays = (LEFT, RIGHT) if operation == "product" else (IMAGES, KERNELS)
        left, right = (value.cuda() for value in tensors(dtype, *arrays))
        return (left @ right if operation == "product" else torch.nn.functional.conv2d(left, right)).cpu().numpy()

    check_rounding(on_gpu)


class Opened(Exception):
    """A session is about to be opened."""


def test_parity_asks_for_partial_sums_before_its_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise Opened(os.environ["MKL_CBWR"])

    monkeypatch.setenv("MKL_CBWR", "AUTO")
    monkeypatch.setattr(parity, "open_session", opened)
    with pytest.raises(Opened, match="AUTO"):
        parity.parity(make_parity("deepspeed", "tiny", readings="imposed,free", oracle=Path()))
    with pytest.raises(Opened, match="COMPATIBLE"):
        parity.parity(make_parity("deepspeed", "tiny", readings="free,fp64", oracle=Path()))


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
def test_what_it_asks_for_adds_up_float64_products_in_parts() -> None:
    """As the bounds suppose: K terms in at least 8 sums round by some .3 times the root of K / 8."""
    done = subprocess.run([sys.executable, "-c", UNITS], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) < 0.3 * (TERMS / 8) ** 0.5

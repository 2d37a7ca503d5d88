"""What this machine can do at the most: products of large matrices, and copies, a second.

python peers/limit.py
"""

import json
import time
from collections.abc import Callable

import torch

SIZE, REPEATS = 4096, 7


def shortest(work: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def product_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second in a square matrix product."""
    a, b = torch.randn(2, SIZE, SIZE).to(dtype)
    return 2 * SIZE**3 / shortest(lambda: a @ b)


def copy_rate() -> float:
    """Bytes a second, read and written, in a copy too large for the caches."""
    source = torch.zeros(1 << 28)
    target = torch.empty_like(source)
    return 2 * source.nbytes / shortest(lambda: target.copy_(source))


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    products = {"fp32": product_rate(torch.float32), "bf16": product_rate(torch.bfloat16)}
    print(json.dumps({**products, "copy": copy_rate()}))

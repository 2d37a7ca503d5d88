"""What this machine can do at the most in a second: products of large matrices, copies, and what two processes send.

python peers/limit.py
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

SIZE, SMALL, REPEATS = 4096, 512, 7


def shortest(work: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def product_rate(dtype: torch.dtype, size: int = SIZE) -> float:
    """Floating-point operations a second in a square matrix product."""
    a, b = torch.randn(2, size, size).to(dtype)
    return 2 * size**3 / shortest(lambda: a @ b)


def copy_rate() -> float:
    """Bytes a second, read and written, in a copy too large for the caches."""
    source = torch.zeros(1 << 28)
    target = torch.empty_like(source)
    return 2 * source.nbytes / shortest(lambda: target.copy_(source))


def exchange(rank: int, folder: str) -> None:
    """Add up a tensor with another process; the first writes the bytes a second that each sends the other."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    values = torch.zeros(1 << 25)
    seconds = shortest(lambda: dist.all_reduce(values))
    if rank == 0:
        Path(folder, "rate").write_text(str(values.nbytes / seconds))
    dist.barrier()
    os._exit(0)  # gloo's threads outlive Python's own way out, and may abort it


def link_rate() -> float:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(exchange, (folder,), nprocs=2)
        return float(Path(folder, "rate").read_text())


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    found = {"fp32": product_rate(torch.float32), "copy": copy_rate(), "link": link_rate()}
    # A processor without bfloat16 of its own emulates it, many times slower than float32.
    if product_rate(torch.bfloat16, SMALL) > product_rate(torch.float32, SMALL):
        found["bf16"] = product_rate(torch.bfloat16)
    print(json.dumps(found))

"""What this machine can do at the most in a second: products of large matrices, copies, and what two processes send.

python peers/limit.py DEVICE, which is cpu or cuda
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

SIZE, SMALL, REPEATS = 4096, 512, 7


def shortest(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found)


def product_rate(dtype: torch.dtype, size: int = SIZE, device: str = "cpu") -> float:
    """Floating-point operations a second in a square matrix product."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    return 2 * size**3 / shortest(lambda: a @ b, device)


def copy_rate(device: str) -> float:
    """Bytes a second, read and written, in a copy too large for the caches."""
    source = torch.zeros(1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / shortest(lambda: target.copy_(source), device)


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


def on_processor() -> dict[str, float]:
    found = {"fp32": product_rate(torch.float32), "copy": copy_rate("cpu"), "link": link_rate()}
    # A processor without bfloat16 of its own emulates it, many times slower than float32.
    if product_rate(torch.bfloat16, SMALL) > product_rate(torch.float32, SMALL):
        found["bf16"] = product_rate(torch.bfloat16)
    return found


def on_gpu() -> dict[str, float | str]:
    rates = {"fp32": product_rate(torch.float32, 2 * SIZE, "cuda"), "copy": copy_rate("cuda")}
    torch.backends.cuda.matmul.allow_tf32 = True
    rates["tf32"] = product_rate(torch.float32, 2 * SIZE, "cuda")
    rates["bf16"] = product_rate(torch.bfloat16, 2 * SIZE, "cuda")
    return {"gpu": torch.cuda.get_device_name(), **rates}


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    print(json.dumps(on_gpu() if sys.argv[1] == "cuda" else on_processor()))

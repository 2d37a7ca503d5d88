"""torch with its own layers, eager, as one would write it first.

python peers/torch_eager.py BATCH STEPS DEVICE PRECISION
"""

import json
import sys
import time

import torch
from torch import nn

WARM_UP = 3  # steps


def network() -> nn.Sequential:
    """(batch, 3, 227, 227) -> (batch, 1000). Its norm spans both columns: torch's knows no groups."""

    def conv(*shape: int, groups: int = 1, normed: bool = False, pooled: bool = False) -> list[nn.Module]:
        norm, pool = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2), nn.MaxPool2d(3, 2)
        return [nn.Conv2d(*shape, groups=groups), nn.ReLU(), *[norm] * normed, *[pool] * pooled]

    layers = conv(3, 96, 11, 4, normed=True, pooled=True) + conv(96, 256, 5, 1, 2, groups=2, normed=True, pooled=True)
    layers += conv(256, 384, 3, 1, 1) + conv(384, 384, 3, 1, 1, groups=2)
    layers += conv(384, 256, 3, 1, 1, groups=2, pooled=True)
    layers += [nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000))


def measure(net: nn.Module, batch: int, steps: int, device: str, precision: str) -> None:
    """Train on random images; print the threads and each step's seconds as JSON."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    net = net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images, labels = torch.randn(batch, 3, 227, 227, device=device), torch.randint(1000, (batch,), device=device)
    seconds = []
    for _ in range(WARM_UP + steps):
        started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"threads": torch.get_num_threads(), "seconds": seconds[WARM_UP:]}))


if __name__ == "__main__":
    measure(network(), int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

"""torch_eager's layers as a DeepSpeed pipeline of two ranks, cut as DeepSpeed does unless told.

deepspeed --num_gpus 2 --no_local_rank peers/deepspeed_default_cut.py BATCH STEPS
"""

import itertools
import json
import os
import sys
import time

import deepspeed
import torch
from deepspeed.pipe import PipelineModule
from torch_eager import WARM_UP, network

MICRO_BATCH = 16


def main(batch: int, steps: int) -> None:
    """Train on random images; the last stage prints the threads and each step's seconds as JSON."""
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    module = PipelineModule(list(network()), num_stages=2, loss_fn=torch.nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    config = {"train_batch_size": batch, "train_micro_batch_size_per_gpu": MICRO_BATCH, "gradient_clipping": 0.0}
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
    pairs = itertools.repeat((torch.randn(MICRO_BATCH, 3, 227, 227), torch.randint(1000, (MICRO_BATCH,))))
    seconds = []
    for _ in range(WARM_UP + steps):
        started = time.perf_counter()
        engine.train_batch(pairs)
        seconds.append(time.perf_counter() - started)
    if engine.is_last_stage():
        print(json.dumps({"threads": torch.get_num_threads(), "seconds": seconds[WARM_UP:]}), flush=True)
    os._exit(0)  # gloo's threads outlive Python's own way out, and may abort it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

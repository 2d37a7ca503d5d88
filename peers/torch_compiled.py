"""The same network as torch_eager, compiled whole by torch.

python peers/torch_compiled.py BATCH STEPS DEVICE PRECISION
"""

import sys

import torch
from torch_eager import measure, network

if __name__ == "__main__":
    measure(torch.compile(network()), int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])

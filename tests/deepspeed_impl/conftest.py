"""These tests run where DeepSpeed is installed."""

import os
from importlib.util import find_spec

import deepspeed_impl  # noqa: F401  (sets how oneDNN rounds, before any test loads torch)

os.environ["OMP_NUM_THREADS"] = "1"

collect_ignore_glob = [] if find_spec("deepspeed") else ["test_*.py"]

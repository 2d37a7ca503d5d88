"""These tests run where MXNet is installed."""

import os
from importlib.util import find_spec

import gluon_impl  # noqa: F401  (sets how oneDNN rounds, before any test loads MXNet)

# Two contexts that call the BLAS in MXNet's wheel with several threads each can wait for each other for ever.
os.environ["OMP_NUM_THREADS"] = "1"

collect_ignore_glob = [] if find_spec("mxnet") else ["test_*.py"]

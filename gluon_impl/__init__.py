"""AlexNet in MXNet Gluon, split over a list of contexts as the paper split it over two GPUs."""

import os

# fp32 means fp32: oneDNN may not round operands to bfloat16. Read when MXNet is loaded.
os.environ["DNNL_DEFAULT_FPMATH_MODE"] = "STRICT"
# MXNet keeps four copies of its libraries' workspace for operators to take in turn. They wait for one another even so.
os.environ.setdefault("MXNET_CPU_TEMP_COPY", "1")

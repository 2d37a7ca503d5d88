"""AlexNet on DeepSpeed: pipeline stages, columns and replicas over ranks."""

import os

# fp32 means fp32: oneDNN may not round operands to bfloat16. Read when torch is loaded.
os.environ["DNNL_DEFAULT_FPMATH_MODE"] = "STRICT"

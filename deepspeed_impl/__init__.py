"""AlexNet on DeepSpeed: pipeline stages, columns and replicas over ranks."""

import logging
import os

# fp32 means fp32: oneDNN may not round operands to bfloat16. Read when torch is loaded.
os.environ["DNNL_DEFAULT_FPMATH_MODE"] = "STRICT"
# Of DeepSpeed's own messages, those of errors: that a processor is no accelerator is no news here.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)

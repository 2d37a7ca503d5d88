"""The Gluon backend's command line answers every misuse with one sentence."""

from typing import ClassVar

from tests.support.commands import GLUON
from tests.support.misuses import Misuse, MisuseTests


class TestMisuse(MisuseTests):
    backend = GLUON
    own: ClassVar[dict[str, Misuse]] = {
        "columns of a variant that has one": Misuse(
            ("--placement", "columns", "--variant", "merged"), ("merged", "1 column", "2 contexts")
        ),
        "caffe's norm, which spans the columns": Misuse(
            ("--placement", "columns", "--preset", "caffe"), ("norm", "across the columns")
        ),
        "bf16, which the other backend has": Misuse(("--precision", "bf16"), ("fp32 and fp64", "deepspeed")),
        "micro-batches, which only stages take": Misuse(("--micro-batch", "8"), ("--micro-batch", "single")),
        "micro-batches that do not divide the batch": Misuse(
            ("--placement", "stages", "--micro-batch", "5"), ("--micro-batch 5", "32")
        ),
        "replicas that cannot share a batch": Misuse(("--placement", "replicas", "--batch", "31"), ("batch of 31",)),
        "a product, which the other backend carries out": Misuse(
            ("--placement", "columns=2,stages=2"), ("columns=2,stages=2", "deepspeed")
        ),
    }

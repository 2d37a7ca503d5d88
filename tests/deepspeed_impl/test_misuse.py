"""The DeepSpeed backend's command line answers every misuse with one sentence, however many ranks it would start."""

from typing import ClassVar

from tests.support.commands import DEEPSPEED
from tests.support.misuses import Misuse, MisuseTests


class TestMisuse(MisuseTests):
    backend = DEEPSPEED
    own: ClassVar[dict[str, Misuse]] = {
        "micro-batches that do not divide the batch": Misuse(
            ("--placement", "stages", "--micro-batch", "5"), ("--micro-batch 5", "32")
        ),
        "another experiment's state, met by two ranks": Misuse(
            ("--placement", "stages", "--out", "OTHER"), ("another experiment",)
        ),
        "devices out of order": Misuse(("--placement", "stages", "--devices", "cpu:1,cpu:0"), ("in order", "cpu:0")),
        "columns of a variant without": Misuse(
            ("--placement", "columns", "--variant", "merged"), ("merged has 1 column(s)",)
        ),
        "columns that a norm spans": Misuse(
            ("--placement", "stages,columns", "--preset", "caffe"), ("reaches across",)
        ),
        "replicas that cannot share a batch": Misuse(("--placement", "replicas", "--batch", "31"), ("batch of 31",)),
        "micro-batches that do not divide a replica's part": Misuse(
            ("--placement", "replicas", "--micro-batch", "32"), ("--micro-batch 32", "replica's 16 images")
        ),
    }

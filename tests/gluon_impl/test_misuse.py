"""The Gluon backend's command line answers every misuse with one sentence."""

from typing import ClassVar

from tests.commands import GLUON
from tests.misuses import Misuse, MisuseTests


class TestMisuse(MisuseTests):
    backend = GLUON
    own: ClassVar[dict[str, Misuse]] = {
        "columns of a variant that has one": Misuse(
            ("--placement", "columns", "--variant", "merged"), ("merged", "1 column", "2 contexts")
        ),
        "caffe's norm, which spans the columns": Misuse(
            ("--placement", "columns", "--preset", "caffe"), ("norm", "across the columns", "single")
        ),
        "micro-batches, which this backend does not take": Misuse(("--micro-batch", "5"), ("--micro-batch",)),
        "another backend's placement": Misuse(("--placement", "stages"), ("'stages'", "columns")),
    }

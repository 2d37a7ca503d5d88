"""The pipeline leads to the oracle's weights wherever it is cut, in DeepSpeed's engine over two ranks."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.backends import tiny
from tests.support.commands import environment, rank_environment
from tests.support.long import long


@pytest.mark.parametrize(
    ("precision", "count"),
    [
        long("fp64", 2),
        long("fp64", 1),
        long("fp64", 4),
        long("fp32", 2),
    ],
)
def test_every_cut_leads_to_the_same_weights(data: Path, precision: str, count: int) -> None:
    command = [sys.executable, "-m", "tests.deepspeed_impl.cut_everywhere", str(data), str(count), precision]
    ranks = [
        subprocess.Popen(
            command,
            env=environment(CXX="none", **rank_environment(rank, 2, 29650 + count)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said[0][1] + said[1][1]
    cuts = len(tiny().network().layers) - 1
    for output, _ in said:
        assert " off" not in output
        assert output.count(" tried") == cuts

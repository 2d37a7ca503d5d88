"""How a rank ends."""

import subprocess
import sys

from tests.commands import environment, rank_environment

RANK = """
import threading, time
import torch.distributed
from deepspeed_impl.launch import leave

torch.distributed.init_process_group("gloo")
threading.Thread(target=time.sleep, args=(600,)).start()
print("said", end="")
leave()
"""


def test_a_rank_that_is_done_ends_well_whatever_its_threads_do() -> None:
    told = rank_environment(rank=0, ranks=1, port=0)
    done = subprocess.run(
        [sys.executable, "-c", RANK], env=environment(**told), capture_output=True, text=True, timeout=60
    )
    # DeepSpeed may have said something before.
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["said"]), done.stderr

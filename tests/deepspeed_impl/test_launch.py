"""How a rank ends, and a run that is stopped."""

import signal
import subprocess
import sys
from pathlib import Path

from protocol.record import read_record
from tests.commands import DEEPSPEED, environment, rank_environment
from tests.resuming import launched, newest, until

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


def test_a_command_that_is_stopped_ends_its_launcher_and_ranks(data: Path, tmp_path: Path) -> None:
    how = ("--case", "tiny", "--placement", "stages", "--epochs", 1000, "--data", data, "--out", tmp_path / "run")
    with launched(DEEPSPEED.command("train", *how), tmp_path) as run:
        assert until(lambda: newest(tmp_path / "run") > 0)
        assert len(run.processes()) == 4
        run.command.send_signal(signal.SIGTERM)
        assert run.wait_until_gone()
        assert run.command.wait() == 130
    assert read_record(tmp_path / "run").status == "interrupted"

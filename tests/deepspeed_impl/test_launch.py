"""How a rank ends, and a run that is stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from protocol.runs.record import read_record
from tests.support.commands import DEEPSPEED, environment, rank_environment
from tests.support.resuming import launched, newest, until

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
        heard = [at for rank in run.processes() for at in rank.net_connections() if at.status == psutil.CONN_LISTEN]
        assert {at.laddr.ip for at in heard} == {"127.0.0.1"}, "ranks of one machine listen on its loopback alone"
        run.command.send_signal(signal.SIGTERM)
        assert run.wait_until_gone()
        assert run.command.wait() == 130
    assert read_record(tmp_path / "run").status == "interrupted"


def train(data: Path, out: Path, *arguments: object, **more: str) -> tuple[int, str]:
    """Train the tiny case in stages, with ``more`` in the environment; the status, and what was said."""
    how = ("--case", "tiny", "--placement", "stages", "--data", data, "--out", out, *arguments)
    done = subprocess.run(
        DEEPSPEED.command("train", *how),
        cwd=out.parent,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stderr


def test_what_another_program_left_in_the_environment_is_not_believed(data: Path, tmp_path: Path) -> None:
    """A rank 0 of 2, at an address where nobody answers: trusted, it would wait for the other."""
    left = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "9"}
    status, said = train(data, tmp_path / "run", "--steps", 2, **left)
    assert status == 0, said
    assert read_record(tmp_path / "run").status == "finished"


@pytest.mark.long
def test_ranks_that_make_no_progress_are_given_up_and_the_one_that_is_stopped_is_named(
    data: Path, tmp_path: Path
) -> None:
    how = ("--case", "tiny", "--placement", "stages", "--epochs", 1000, "--data", data, "--out", tmp_path / "run")
    with launched(DEEPSPEED.command("train", *how), tmp_path, ALEXNET_PATIENCE="4") as run:
        assert until(lambda: newest(tmp_path / "run") > 0)
        (stopped,) = [process for process in run.processes() if process.environ().get("RANK") == "1"]
        stopped.suspend()
        assert run.wait_until_gone()
        assert run.command.wait() == 1
    said = (tmp_path / "log").read_text().splitlines()[-1]
    assert said.startswith("error: the ranks made no progress for 4 s: rank 1 is stopped")
    record = read_record(tmp_path / "run")
    assert (record.status, f"error: {record.reason}") == ("failed", said)


@pytest.mark.long
def test_a_rank_that_is_killed_is_named(data: Path, tmp_path: Path) -> None:
    how = ("--case", "tiny", "--placement", "stages", "--epochs", 1000, "--data", data, "--out", tmp_path / "run")
    with launched(DEEPSPEED.command("train", *how), tmp_path) as run:
        assert until(lambda: newest(tmp_path / "run") > 0)
        (killed,) = [process for process in run.processes() if process.environ().get("RANK") == "1"]
        killed.kill()
        assert run.wait_until_gone()
        assert run.command.wait() == 1
    said = (tmp_path / "log").read_text().splitlines()[-1]
    assert said == "error: rank 1 was ended by SIGKILL"
    assert read_record(tmp_path / "run").reason == "rank 1 was ended by SIGKILL"


# Read by every Python that starts here, before anything else.
CUSTOM = """
import os
if os.environ.get("RANK") == "1":
    {what}
"""
FAILS = """import deepspeed_impl.train as train
    def save(*_):
        raise {error}
    train.Trainee.save = save"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ('ValueError("planted")', 1, "rank 1 failed: ValueError: planted"),
        ('OSError(28, "No space left on device", "shard")', 2, "shard: No space left on device"),
    ],
)
def test_of_a_rank_that_fails_the_cause_is_said_and_recorded(
    data: Path, tmp_path: Path, error: str, status: int, reason: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CUSTOM.format(what=FAILS.format(error=error)))
    ended, said = train(data, tmp_path / "run")
    assert (ended, said.splitlines()[-1]) == (status, f"error: {reason}")
    assert "Traceback" not in said or status == 1
    record = read_record(tmp_path / "run")
    assert (record.status, record.reason) == ("failed", reason)


@pytest.mark.long
def test_a_rank_that_ends_at_its_start_does_not_leave_the_other_waiting(data: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CUSTOM.format(what="os._exit(0)"))
    status, said = train(data, tmp_path / "run", ALEXNET_PATIENCE="4")
    assert status == 1
    assert "no progress for 4 s: rank 1 has ended" in said.splitlines()[-1]


def test_patience_that_is_no_number_is_refused(data: Path, tmp_path: Path) -> None:
    status, said = train(data, tmp_path / "run", ALEXNET_PATIENCE="soon")
    assert (status, said.splitlines()[-1][:7]) == (2, "error: "), said
    assert "ALEXNET_PATIENCE is 'soon'" in said
    assert not (tmp_path / "run").exists()

"""Two launchers of DeepSpeed's, as on two machines, each of which starts one rank of a pipeline."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.runs.record import read_record
from tests.support.commands import DEEPSPEED, environment, same, weights_of


@pytest.mark.long
def test_two_launchers_train_what_one_does(tmp_path: Path, data: Path) -> None:
    folder = tmp_path
    hosts, out = folder / "hosts", folder / "two-launchers"
    hosts.write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    what = ["train", "--case", "tiny", "--placement", "stages", "--steps", "4", "--data", str(data)]
    said = [folder / f"said-{number}" for number in range(2)]
    launchers = []
    for number, path in enumerate(said):
        command = [sys.executable, "-m", "deepspeed.launcher.runner", "--quiet", "--hostfile", str(hosts), "--no_ssh"]
        command += ["--node_rank", str(number), "--master_addr", "127.0.0.1", "--master_port", str(port)]
        command += ["--no_local_rank", "--module", "deepspeed_impl", *what, "--out", str(out)]
        with path.open("w") as output:
            launchers.append(subprocess.Popen(command, cwd=folder, env=environment(), stderr=output))
    try:
        for launcher in launchers:
            launcher.wait(timeout=300)
    finally:
        for launcher in launchers:
            launcher.kill()
    assert [launcher.returncode for launcher in launchers] == [0, 0], [path.read_text() for path in said]
    assert read_record(out).status == "finished"
    alone = folder / "one-launcher"
    DEEPSPEED.call(*what, "--out", alone, cwd=folder)
    assert same(weights_of(out), weights_of(alone))

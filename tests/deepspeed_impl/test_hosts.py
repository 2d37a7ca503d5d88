"""Two launchers of DeepSpeed's, as on two machines, each of which starts one rank of a pipeline."""

import socket
import subprocess
import sys
from pathlib import Path

from protocol.record import read_record
from tests.commands import DEEPSPEED, environment, same, weights_of


def test_two_launchers_train_what_one_does(tmp_path: Path, data: Path) -> None:
    folder = tmp_path
    hosts, out = folder / "hosts", folder / "two-launchers"
    hosts.write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    what = ["train", "--case", "tiny", "--placement", "stages", "--steps", "4", "--data", str(data)]
    launchers = []
    for number in range(2):
        command = [sys.executable, "-m", "deepspeed.launcher.runner", "--quiet", "--hostfile", str(hosts), "--no_ssh"]
        command += ["--node_rank", str(number), "--master_addr", "127.0.0.1", "--master_port", str(port)]
        command += ["--no_local_rank", "--module", "deepspeed_impl", *what, "--out", str(out)]
        launchers.append(subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True))
    said = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], said
    assert read_record(out).status == "finished"
    alone = folder / "one-launcher"
    DEEPSPEED.call(*what, "--out", alone, cwd=folder)
    assert same(weights_of(out), weights_of(alone))

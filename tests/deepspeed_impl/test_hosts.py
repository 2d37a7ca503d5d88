"""Two launchers of DeepSpeed's, as on two machines, each of which starts one rank of a pipeline."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from protocol.runs.record import read_record
from tests.support.commands import DEEPSPEED, environment, same, weights_of
from tests.support.resuming import newest, until

pytestmark = pytest.mark.long
TRAIN = ("train", "--case", "tiny", "--placement", "stages")


@dataclass
class Host:
    """A launcher, and the file that holds what it and its rank said."""

    launcher: psutil.Popen
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def rank(self) -> psutil.Process:
        (found,) = [child for child in self.launcher.children(recursive=True) if "RANK" in child.environ()]
        return found

    def ends(self) -> int:
        """The status that it ends with by itself."""
        return int(self.launcher.wait(timeout=120))


@contextmanager
def hosts(folder: Path, *arguments: object, started: int = 2, **more: str) -> Iterator[list[Host]]:
    """Launchers, of which so many are ``started`` of the two in the hostfile; nothing of them is left."""
    named = folder / "hosts"
    named.write_text("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    found = []
    for number in range(started):
        command = [sys.executable, "-m", "deepspeed.launcher.runner", "--quiet", "--hostfile", str(named), "--no_ssh"]
        command += ["--node_rank", str(number), "--master_addr", "127.0.0.1", "--master_port", str(port)]
        command += ["--no_local_rank", "--module", "deepspeed_impl", *map(str, arguments)]
        log = folder / f"said-{number}"
        with log.open("w") as output:
            launcher = psutil.Popen(command, cwd=folder, env=environment(**more), stdout=output, stderr=output)
        found.append(Host(launcher, log))
    try:
        yield found
    finally:
        for host in found:
            with suppress(psutil.Error):
                for process in (*host.launcher.children(recursive=True), host.launcher):
                    process.kill()


def test_two_launchers_train_what_one_does(tmp_path: Path, data: Path) -> None:
    what, out = (*TRAIN, "--steps", "4", "--data", data), tmp_path / "two-launchers"
    with hosts(tmp_path, *what, "--out", out) as both:
        assert [host.ends() for host in both] == [0, 0], [host.said for host in both]
    assert read_record(out).status == "finished"
    alone = tmp_path / "one-launcher"
    DEEPSPEED.call(*what, "--out", alone, cwd=tmp_path)
    assert same(weights_of(out), weights_of(alone))


def test_a_launcher_that_was_not_started_is_waited_for_in_words_and_named(tmp_path: Path, data: Path) -> None:
    what = (*TRAIN, "--data", data, "--out", tmp_path / "run")
    with hosts(tmp_path, *what, started=1, ALEXNET_PATIENCE="3") as (first,):
        assert first.ends() == 2
        assert "rank 0 of 2 waits for the others at 127.0.0.1:" in first.said
        assert "error: waited 3 s for rank 1: start the launcher on every machine of the hostfile" in first.said


def test_a_rank_on_another_machine_that_stops_is_noticed_and_named(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    what = (*TRAIN, "--epochs", 1000, "--data", data, "--out", out)
    with hosts(tmp_path, *what, ALEXNET_PATIENCE="8") as (first, second):
        assert until(lambda: newest(out) > 0), (first.said, second.said)
        stopped = second.rank
        stopped.suspend()
        assert first.ends() == 1
        assert "error: rank 1 has not been heard of for 8 s" in first.said
        # It finds, when it goes on, that the others have gone.
        stopped.resume()
        assert second.ends() == 1
    assert not any(process.is_running() for process in (stopped,))

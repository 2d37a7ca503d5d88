"""How a command line ends: one sentence and its status, whatever befalls it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.commands import environment

PROGRAM = """
import resource, sys, time
from pathlib import Path
import numpy as np
from protocol.base.tensors import save_tensors
from protocol.command import run
from protocol.base.errors import Failed, Misuse
import typer

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

@app.command()
def work(what: str) -> None:
    if what == "print":
        print("line\\n" * 100_000)
    if what == "write":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save_tensors(Path("a.safetensors"), {"a": np.zeros(1000)})
    if what == "wait":
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    if what in ERRORS:
        raise ERRORS[what]

@app.callback()
def main() -> None: ...

ERRORS = {
    "misuse": Misuse("there is no such thing"),
    "failed": Failed("rank 1 failed"),
    "full": OSError(28, "No space left on device", "results/runs/x"),
    "nameless": OSError(5, "Input/output error"),
    "bug": RuntimeError("a bug"),
}
run(app)
"""


def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("what", "status", "sentence"),
    [
        ("misuse", 2, "error: there is no such thing"),
        ("failed", 1, "error: rank 1 failed"),
        ("full", 2, "error: results/runs/x: No space left on device"),
        ("nameless", 2, "error: Input/output error"),
    ],
)
def test_what_is_no_bug_is_said_in_one_sentence(what: str, status: int, sentence: str) -> None:
    done = call("work", what)
    assert (done.returncode, done.stderr.strip()) == (status, sentence)


def test_a_file_that_the_system_does_not_write_is_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "work", "write"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "error: a.safetensors: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_a_bug_shows_its_traceback() -> None:
    done = call("work", "bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_no_verb_shows_the_help_and_no_empty_error() -> None:
    done = call()
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr
    assert "error:" not in done.stderr


@pytest.mark.parametrize(("threads", "status"), [("", 0), (" ", 0), ("2", 0), ("many", 2), ("0", 2), ("-1", 2)])
def test_a_number_of_threads_that_is_none(threads: str, status: int) -> None:
    done = call("work", "nothing", OMP_NUM_THREADS=threads)
    assert done.returncode == status, done.stderr
    if status:
        assert f"OMP_NUM_THREADS is {threads!r}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_are_no_error(closed: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} program.py work print {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_who_leaves_early_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} program.py work print | head -c 5"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("line\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_that_what_was_finished_is_kept(number: int) -> None:
    command = [sys.executable, "-c", PROGRAM, "work", "wait"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a shell's background jobs do not hear
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        assert process.stderr
        assert process.stderr.readline() == "waiting\n"
        time.sleep(0.1)
        os.kill(process.pid, number)
        said = process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert said.strip() == "interrupted; what was finished is kept"

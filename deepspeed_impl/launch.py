"""Start DeepSpeed's launcher for a verb, and see that none of its processes outlives another.

On more machines than one the user starts it, on each of them.
"""

import os
import socket
import sys
import threading
import time
from multiprocessing import get_context
from typing import NoReturn

import psutil
import torch.distributed
from deepspeed.launcher import launch as launcher
from deepspeed.launcher.runner import encode_world_info

from deepspeed_impl.response_norm import EAGER, implementation
from protocol.allocation import KEEP_FREED_MEMORY
from protocol.record import log
from protocol.request import Request
from protocol.run import note_interruption

ANCESTORS = "ALEXNET_LAUNCHER"  # process ID of the command line that the user called
POLL = 0.5  # seconds


def is_rank() -> bool:
    """Whether this process is one that a launcher started, ours or the user's own."""
    return "RANK" in os.environ and "LOCAL_RANK" in os.environ


def by_user() -> bool:
    """Whether the user started the launcher of this rank, so that nothing was checked before."""
    return ANCESTORS not in os.environ


def local_number(number: int) -> int:
    """A rank's own number on its machine, where the ranks are on several; else ``number`` itself."""
    return int(os.environ["LOCAL_RANK"]) if os.environ.get("CROSS_SIZE", "1") != "1" else number


def launch(verb: str, request: Request, arguments: list[str]) -> None:
    """Run ``verb`` on as many ranks as the request has devices and wait for them.

    Raises:
        SystemExit: a rank failed or refused the request, with its status; it has said why.
    """
    if implementation() == EAGER:
        log("no C++ compiler that works: the response norm runs as eager operators, several times slower")
    ranks = len(request.devices)
    threads = max(1, (os.cpu_count() or 1) // ranks)
    environment = {"OMP_NUM_THREADS": str(threads), **KEEP_FREED_MEMORY, **os.environ, ANCESTORS: str(os.getpid())}
    # The launcher starts the ranks from anywhere, so they are told where the packages are.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    # What DeepSpeed's runner starts on one machine. Forked, it need not import torch and DeepSpeed, for seconds, again.
    command = ["launch", "--quiet", "--no_local_rank", "--master_addr=127.0.0.1"]
    command += [f"--master_port={_free_port()}", f"--world_info={encode_world_info({'localhost': list(range(ranks))})}"]
    command += ["--module", "deepspeed_impl", verb, *arguments]
    process = get_context("fork").Process(target=_start_ranks, args=(command, environment))
    began = time.time()
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        # A terminal has told the launcher too; who stops this process alone has not.
        process.terminate()
        process.join()
        note_interruption(request.out, began)
        raise
    if process.exitcode:
        sys.exit(process.exitcode if 0 < process.exitcode < 128 else 1)


def _start_ranks(command: list[str], environment: dict[str, str]) -> None:
    """Be DeepSpeed's launcher: start the ranks and wait for them, or end them all."""
    os.environ.update(environment)
    sys.argv = command
    launcher.main()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_ancestors() -> None:
    """End this rank when a process between it and the user's command line has gone, however it went.

    A rank left behind by a killed launcher would go on writing into a folder that a new run has taken over. Where the
    user started the launcher, that is the process to watch.
    """
    top = int(os.environ.get(ANCESTORS, os.getppid()))
    ancestors: list[psutil.Process] = []
    for process in psutil.Process().parents():
        ancestors.append(process)
        if process.pid == top:
            break
    else:
        # One of them had gone before this rank came to look.
        os._exit(1)

    def watch() -> None:
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in ancestors):
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def leave() -> NoReturn:
    """End this rank, its work done, without Python's own way out.

    DeepSpeed holds on to process groups, so gloo's threads live on after the groups are destroyed. One that is late in
    letting a tensor go asks for an interpreter that has gone, which aborts a rank that has succeeded.
    """
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

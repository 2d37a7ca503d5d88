"""Start DeepSpeed's launcher for a verb, and see that none of its processes outlives another, or waits for ever.

    python -m deepspeed_impl train          the command line: starts the launcher, watches the ranks, says how it ended
      DeepSpeed's launcher, forked
        rank 0, rank 1, ...                 each knows where to meet the others, and where to say why it failed

On more machines than one the user starts the launcher, on each of them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import psutil
import torch.distributed
from deepspeed.launcher import launch as launcher
from deepspeed.launcher.runner import encode_world_info

from deepspeed_impl import heartbeat
from deepspeed_impl.heartbeat import IDLE, TICKS
from deepspeed_impl.response_norm import EAGER, implementation
from protocol.base.allocation import KEEP_FREED_MEMORY
from protocol.base.errors import INTERRUPTED, Diverged, Failed, Misuse, of_the_system
from protocol.base.log import log
from protocol.base.sealed import one_line
from protocol.runs.request import PlacedRequest
from protocol.runs.run import note_end
from protocol.runs.stopping import heeding

ANCESTORS = "ALEXNET_LAUNCHER"  # process ID of the command line that the user called
MEETING = "ALEXNET_MEETING"  # the file in which the ranks of one machine find each other
CAUSE = "ALEXNET_CAUSE"  # the file in which the first rank that fails says why
PATIENCE = "ALEXNET_PATIENCE"  # seconds without progress, after which ranks are given up
DEFAULT_PATIENCE = 120.0
LAUNCHERS = ("deepspeed.launcher.launch", "deepspeed/launcher/launch.py")
OWN_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CROSS_RANK", "CROSS_SIZE")
POLL = 0.5  # seconds
GRACE = 5.0  # seconds in which a rank that failed by itself speaks before those that lost it


def patience() -> float:
    """Seconds without progress after which ranks are given up.

    Raises:
        Misuse: the environment says something else than a number.
    """
    told = os.environ.get(PATIENCE, "")
    if told and not told.isdecimal():
        raise Misuse(f"{PATIENCE} is {told[:40]!r} in the environment: set it to seconds, or unset it")
    return float(told) if told else DEFAULT_PATIENCE


def is_rank() -> bool:
    """Whether this process is one that a launcher started, ours or the user's own.

    RANK and its like may have been left in a shell by something else, so the launcher itself is looked for.
    """
    if "RANK" not in os.environ or "LOCAL_RANK" not in os.environ:
        return False
    return ANCESTORS in os.environ or _started_by_launcher()


def _started_by_launcher() -> bool:
    with suppress(psutil.Error):
        above = psutil.Process().parent()
        return above is not None and any(word in " ".join(above.cmdline()) for word in LAUNCHERS)
    return False


def by_user() -> bool:
    """Whether the user started the launcher of this rank, so that nothing was checked before."""
    return ANCESTORS not in os.environ


def local_number(number: int) -> int:
    """A rank's own number on its machine, where the ranks are on several; else ``number`` itself."""
    return int(os.environ["LOCAL_RANK"]) if os.environ.get("CROSS_SIZE", "1") != "1" else number


def launch(verb: str, request: PlacedRequest, arguments: list[str]) -> None:
    """Run ``verb`` on as many ranks as the request has devices and wait for them.

    Raises:
        Misuse: a rank refused the request.
        Failed: a rank failed, or they made no progress; the record says why, too.
    """
    limit = patience()
    if implementation() == EAGER:
        log("no C++ compiler that works: the response norm runs as eager operators, several times slower")
    ranks, cores = len(request.devices), os.cpu_count() or 1
    if ranks > cores and request.devices[0].startswith("cpu"):
        log(f"{ranks} ranks share {cores} cores: they take turns, at their start too, some {8 * ranks // cores} s")
    inherited = {name: value for name, value in os.environ.items() if name not in OWN_RANKS}
    environment = {"OMP_NUM_THREADS": str(max(1, cores // ranks)), **KEEP_FREED_MEMORY, **inherited}
    # The launcher starts the ranks from anywhere, so they are told where the packages are.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH", "")]))
    if request.devices[0].startswith("cpu"):
        # Also where there are GPUs: which accelerator DeepSpeed takes is settled when it is imported.
        environment["DS_ACCELERATOR"] = "cpu"
    # Ranks of one machine speak over its loopback alone.
    environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", ANCESTORS: str(os.getpid())}
    with tempfile.TemporaryDirectory() as folder:
        cause = Path(folder, "cause")
        environment |= {MEETING: str(Path(folder, "meeting")), CAUSE: str(cause)}
        # What DeepSpeed's runner starts on one machine. Forked, it need not import torch and DeepSpeed, for seconds,
        # again. Its address and port are not used: the ranks meet in a file.
        command = ["launch", "--quiet", "--no_local_rank", "--master_addr=127.0.0.1", "--master_port=1"]
        command += [f"--world_info={encode_world_info({'localhost': list(range(ranks))})}"]
        command += ["--module", "deepspeed_impl", verb, *arguments]
        process = get_context("fork").Process(target=_start_ranks, args=(command, environment))
        began = time.time()
        process.start()
        try:
            with heeding(request.out) if verb == "train" else nullcontext():
                gave_up = _watch(process, ranks, limit)
        except BaseException as error:
            # A terminal that sends Ctrl-C has told the launcher too; who stops this process alone has not.
            process.terminate()
            process.join()
            if isinstance(error, KeyboardInterrupt):
                note_end(request.out, began, "interrupted")
            raise
        if process.exitcode == INTERRUPTED and not gave_up:
            raise KeyboardInterrupt  # a run that was asked to stop, and has
        if process.exitcode or gave_up:
            status, sentence = _cause(cause, gave_up)
            note_end(request.out, began, "failed", sentence)
            raise Misuse(sentence) if status == 2 else Failed(sentence)


class _Rank(subprocess.Popen[bytes]):
    """A rank, as DeepSpeed's launcher starts it, which keeps to itself whose end made it end the others."""

    started: ClassVar[list["_Rank"]] = []

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.started.append(self)


def _start_ranks(command: list[str], environment: dict[str, str]) -> None:
    """Be DeepSpeed's launcher: start the ranks and wait for them, or end them all."""
    os.environ.update(environment)
    sys.argv = command
    launcher.subprocess.Popen = _Rank
    launcher.logger.setLevel("CRITICAL")  # what a rank ended with is said by the command line
    try:
        launcher.main()
    finally:
        for number, rank in enumerate(_Rank.started):
            # The launcher waits for no other once one has failed, so the others' are not known.
            if (rank.returncode or 0) < 0:
                _say(1, f"rank {number} was ended by {signal.Signals(-rank.returncode).name}")


def _watch(process: BaseProcess, ranks: int, limit: float) -> str:
    """Wait for the launcher; where its ranks do nothing for ``limit`` seconds, end them and return a sentence.

    Time in which this process was itself stopped, as by Ctrl-Z, does not count.
    """
    waited = before = last = 0.0
    while process.is_alive():
        process.join(POLL)
        found = _ranks_below(process.pid)
        used = sum(_seconds(rank) for rank in found.values())
        waited += POLL
        # Over all that was waited: times are told in hundredths of a second, and ranks that wait look up now and then.
        if used - before > IDLE * waited + TICKS or used - last > POLL / 2:
            waited, before = 0.0, used
        last = used
        if waited > limit:
            stopped = [number for number, rank in found.items() if rank.status() == psutil.STATUS_STOPPED]
            missing = sorted(set(range(ranks)) - set(found))
            process.terminate()
            process.join(GRACE)
            for rank in found.values():
                with suppress(psutil.Error):
                    rank.kill()
            # DeepSpeed's launcher would wait half a minute for each of them.
            process.kill()
            process.join()
            why = "none of them computes"
            if stopped:
                why = f"rank {', '.join(map(str, stopped))} is stopped"
            elif missing:
                why = f"rank {', '.join(map(str, missing))} has ended, and the others wait for it"
            return f"the ranks made no progress for {limit:.0f} s: {why}; {PATIENCE} sets how long is waited"
    return ""


def _ranks_below(pid: int | None) -> dict[int, psutil.Process]:
    """The ranks that the launcher ``pid`` has started and that have not ended, by number."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error, KeyError, ValueError):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[int(child.environ()["RANK"])] = child
    return found


def _seconds(rank: psutil.Process) -> float:
    """Processor time that a rank has used so far."""
    with suppress(psutil.Error):
        times = rank.cpu_times()
        return times.user + times.system
    return 0.0


def _cause(path: Path, gave_up: str) -> tuple[int, str]:
    """The status to end with, and the sentence of the rank that failed first."""
    if gave_up:
        return 1, gave_up
    with suppress(OSError, ValueError, KeyError):
        said = json.loads(path.read_text())
        return int(said["status"]), str(said["sentence"])
    return 1, "a rank crashed without a word"


def meet(backend: str, out: Path) -> None:
    """Find the other ranks: in a file where all are on this machine, else at the launcher's address.

    There they watch each other from then on; ``out``: whose record says why, where they have to give up.

    Raises:
        Misuse: not all of them came in time.
    """
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if MEETING in os.environ:
        store: torch.distributed.Store = torch.distributed.FileStore(os.environ[MEETING], ranks)
    else:
        store = _meet_machines(rank, ranks, out)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks)


def _meet_machines(rank: int, ranks: int, out: Path) -> torch.distributed.Store:
    address, port, limit = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), patience()
    if os.environ["LOCAL_RANK"] == "0":
        log(f"rank {rank} of {ranks} waits for the others at {address}:{port}, up to {limit:.0f} s ({PATIENCE})")

    def connect(serves: bool) -> torch.distributed.TCPStore:
        wait = timedelta(seconds=limit)
        return torch.distributed.TCPStore(address, port, ranks, serves, wait, wait_for_workers=False)

    try:
        store, own = connect(rank == 0), connect(False)
    except torch.distributed.DistError as error:
        raise Misuse(
            f"rank {rank} found no rank 0 at {address}:{port} in {limit:.0f} s: start the launcher on every machine "
            f"of the hostfile ({one_line(error)})"
        ) from None
    heartbeat.attend(store, rank, ranks, limit)
    began = time.time()

    def give_up(sentence: str) -> None:
        note_end(out, began, "failed", sentence)
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        os._exit(1)

    heartbeat.watch(own, rank, ranks, limit, give_up)
    return store


@contextmanager
def accountable() -> Iterator[None]:
    """End this rank as the block ends, and let the first rank that fails by itself say why, for all of them."""
    try:
        yield
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    except Misuse as error:
        _say(2, str(error))
    except OSError as error:
        _say(2, of_the_system(error))
    except Diverged as error:
        if not str(error):
            time.sleep(GRACE)  # the rank that keeps the record has yet to write it
            os._exit(1)
        _say(1, str(error))
    except Exception as error:
        number = os.environ["RANK"]
        if _lost_another(error):
            # Whom it lost may still be about to say why.
            time.sleep(GRACE)
            _say(1, f"rank {number} lost the others ({one_line(error)})")
        traceback.print_exc()
        _say(1, f"rank {number} failed: {type(error).__name__}: {one_line(error)}")


def _lost_another(error: Exception) -> bool:
    """Whether an error only says that another rank has gone, or does not answer."""
    lost = (torch.distributed.DistNetworkError, torch.distributed.DistBackendError, torch.distributed.DistStoreError)
    return isinstance(error, lost) or "gloo/transport" in str(error) or "Connection closed by peer" in str(error)


def _say(status: int, sentence: str) -> NoReturn:
    """Write down why this rank ends, unless another has, and end it."""
    path = Path(os.environ[CAUSE])
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"status": status, "sentence": sentence}))
    with suppress(FileExistsError):
        os.link(draft, path)  # only the first succeeds
    sys.stderr.flush()
    os._exit(status)


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
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

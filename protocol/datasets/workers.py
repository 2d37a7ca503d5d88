"""Worker processes for what takes all cores: started, followed job by job, and ended with the process that has them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from protocol.base.errors import Failed
from protocol.base.log import log


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def pool(workers: int | None) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with this one, however that ends: one more than cores, since one waits for the disk."""
    count = workers or cores() + 1
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _follow_parent)
    try:
        yield executor
    except BrokenProcessPool:
        raise Failed("the system ended a worker, for want of memory perhaps; the same command goes on") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent stops the others in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def each(executor: ProcessPoolExecutor, function: Any, arguments: Any, jobs: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Each job with what ``function`` made of its arguments, as they end; a few wait for each worker, not all."""
    waiting: dict[Future[Any], Any] = {}
    calls = zip(arguments, jobs, strict=True)
    ahead = 2 * cores()
    while True:
        while len(waiting) < ahead and (call := next(calls, None)):
            waiting[executor.submit(function, *call[0])] = call[1]
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()


@contextmanager
def display(what: str, total: int, done: int) -> Iterator[Any]:
    """A bar with rate and time left on a terminal, a line for every tenth elsewhere; yields what moves it on."""
    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn(what), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total, completed=done, rate="")
        tenth = 10 * done // max(1, total)

        def advance(count: int) -> None:
            nonlocal done, tenth
            done += count
            speed = progress.tasks[0].speed if console.is_terminal else None
            progress.update(bar, completed=done, rate=f"{speed:,.0f}/s" if speed else "")
            if not console.is_terminal and 10 * done // total > tenth:
                tenth = 10 * done // total
                log(f"{done:,} of {total:,} {what}")

        yield advance

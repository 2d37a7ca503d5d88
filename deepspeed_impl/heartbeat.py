"""Ranks on several machines, watched from inside: no process sees them all, so each says how much it has computed.

    rank 0's store:   rank-0 = 9 41.20   rank-1 = 9 40.87   ...      heartbeats so far, and processor seconds used

A rank that is stopped, killed or cut off beats no more; ranks that wait for each other beat, and use no time.
"""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import torch.distributed

from protocol.base.errors import Misuse

IDLE = 0.05  # of a core, below which all ranks together are taken to do nothing
TICKS = 0.03  # seconds, the grain of processor times


def key(rank: int) -> str:
    return f"rank-{rank}"


def attend(store: torch.distributed.Store, rank: int, ranks: int, patience: float) -> None:
    """Say that this rank is here, and wait for the others.

    Raises:
        Misuse: not all have come in time; it names who has not.
    """
    store.set(key(rank), "0 0")
    names = {number: key(number) for number in range(ranks)}
    try:
        store.wait(list(names.values()), timedelta(seconds=patience))
    except torch.distributed.DistError:
        missing = ", ".join(str(number) for number, name in names.items() if not store.check([name]))
        raise Misuse(
            f"waited {patience:.0f} s for rank {missing}: start the launcher on every machine of the hostfile"
        ) from None


def computed() -> float:
    """Processor seconds that this process has used so far."""
    times = os.times()
    return times.user + times.system


def watch(
    store: torch.distributed.Store, rank: int, ranks: int, patience: float, give_up: Callable[[str], None]
) -> None:
    """Call ``give_up`` with a sentence, from a thread, when a rank is gone or none has computed for ``patience`` s.

    ``store`` is this thread's own connection: the others' may be waiting in it.
    """
    pause = min(5.0, patience / 8)

    def follow() -> None:
        began = time.monotonic()
        heard = dict.fromkeys(range(ranks), ("", began))  # each rank's last heartbeat, and when it was new
        used, since = 0.0, began
        for beat in count(1):
            time.sleep(pause)
            try:
                store.set(key(rank), f"{beat} {computed():.2f}")
                told = [value.decode() for value in store.multi_get([key(number) for number in range(ranks)])]
            except torch.distributed.DistError:
                give_up(f"rank {rank} lost rank 0, which all ranks are in touch with")
                return
            now = time.monotonic()
            heard = {n: (value, now) if value != heard[n][0] else heard[n] for n, value in enumerate(told)}
            silent = [str(number) for number, (_, last) in heard.items() if now - last > patience]
            if silent:
                give_up(
                    f"rank {', '.join(silent)} has not been heard of for {patience:.0f} s: stopped, ended or cut off"
                )
                return
            total = sum(float(value.split()[1]) for value in told)
            if total - used > IDLE * (now - since) + TICKS * ranks:
                used, since = total, now
            elif now - since > patience:
                give_up(f"the ranks made no progress for {patience:.0f} s: none of them computes")
                return

    threading.Thread(target=follow, daemon=True).start()

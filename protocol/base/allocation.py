"""How a process that carries out the network has its C library handle memory.

glibc hands every large block back to the system when it is freed and clears it anew at the next step, which made a step
of batch 128 up to three times as long; kept, blocks are used again. One arena serves all threads, or each would keep
blocks of its own. Other systems ignore these.
"""

import os
import sys

KEEP_FREED_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def keep_freed_memory() -> None:
    """Start this process anew where its C library was not yet told to; it reads its settings before Python runs."""
    if not KEEP_FREED_MEMORY.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**KEEP_FREED_MEMORY, **os.environ})

"""What this machine can do at the most, measured by a program beside this one."""

import json
import os
import subprocess
from typing import Any

from protocol.backends import DEEPSPEED
from protocol.base.errors import Misuse


def limit(interpreters: dict[str, str], device: str = "cpu", threads: int = 0) -> dict[str, Any]:
    """The machine's rates a second: operations in products of matrices, bytes in copies and between two processes.

    ``threads``: 0 for one a core.

    Without ``bf16`` where the processor has no bfloat16 of its own, ``tf32`` only of a GPU.
    """
    many = {"OMP_NUM_THREADS": str(threads or os.cpu_count() or 1)}
    return json.loads(printed([interpreters[DEEPSPEED.name], "peers/limit.py", device], many))


def printed(command: list[str], environment: dict[str, str]) -> str:
    """What ``command`` prints.

    Raises:
        Misuse: it failed.
    """
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise Misuse(f"{' '.join(command[1:4])} failed with status {done.returncode}; it last said: {last[0]}")
    return done.stdout

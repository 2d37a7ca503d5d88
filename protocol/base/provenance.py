"""Where something ran: versions of packages, the commit, the processor."""

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any


def surroundings(packages: Iterable[str]) -> dict[str, Any]:
    """Fields that say where a run took place: versions, commit, processor."""
    versions = {name: package_version(name) for name in packages}
    return {
        "packages": {"python": platform.python_version(), **versions},
        "commit": current_commit(),
        "processor": processor_name(),
    }


def current_commit() -> str:
    """The checkout's commit, marked ``+`` when files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

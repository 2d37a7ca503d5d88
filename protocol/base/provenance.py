"""Where something ran: versions of packages, the commit, the processor."""

import hashlib
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


# What a training run's numbers come from, besides the backend's own package.
SHARED_SOURCES = (
    "paper/architecture.py",
    "paper/recipe.py",
    "protocol/base/random_bits.py",
    "protocol/datasets/store.py",
    "protocol/experiment/*",
    "protocol/runs/evaluation.py",
    "protocol/runs/observation.py",
    "protocol/runs/training.py",
)


def sources_of(package: str, checkout: Path | None = None) -> str:
    """A hash of the sources that a training run of a backend's ``package`` comes from, whatever the commit.

    ``checkout``: whose they are, if not these.
    """
    root = checkout or Path(__file__).parents[2]
    digest = hashlib.sha256()
    for pattern in (*SHARED_SOURCES, f"{package}/*"):
        for path in sorted(root.glob(pattern)):
            if path.suffix in (".py", ".cc", ".h"):
                digest.update(f"{path.relative_to(root)}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


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

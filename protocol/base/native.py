"""An operator in C++, compiled once in each environment for the processor that it runs on."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from protocol.base.files import digest_file, replacing, write_text
from protocol.base.provenance import processor_name

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")


def compiler() -> str | None:
    """The C++ compiler, where there is one."""
    return shutil.which(os.environ.get("CXX", "g++"))


def library(name: str, sources: Sequence[Path], framework: str, arguments: Sequence[str]) -> Path:
    """Path of the library ``name``; built if these ``sources``, ``framework`` and processor have no whole one yet.

    ``sources``: headers among them are not compiled by themselves. ``framework``: its name and version. ``arguments``:
    what the compiler is told of it.

    Raises:
        CalledProcessError: they do not compile.
    """
    # A processor's name says little in a virtual machine: its instructions do.
    known = (
        *(source.read_text() for source in sources),
        framework,
        *FLAGS,
        *arguments,
        processor_name(),
        _instructions(),
    )
    key = hashlib.sha256("\0".join(known).encode()).hexdigest()[:16]
    built = Path(sys.prefix) / "lib" / f"alexnet_{name}-{key}.so"
    if not is_whole(built):
        with replacing(built) as draft:
            # What a source uses comes before the libraries that have it.
            units = [str(source) for source in sources if source.suffix == ".cc"]
            command = [str(compiler()), *FLAGS, "-o", str(draft), *units, *arguments]
            subprocess.run(command, check=True, capture_output=True, text=True)
            checksum_of(built).unlink(missing_ok=True)
            digest = digest_file(draft)
        write_text(checksum_of(built), digest)
    return built


def checksum_of(built: Path) -> Path:
    """Where a library's SHA-256 stands."""
    return built.with_suffix(".sha256")


def is_whole(built: Path) -> bool:
    """Whether a library is there as it was built: one that was cut would end the process where it is loaded."""
    try:
        return digest_file(built) == checksum_of(built).read_text()
    except (OSError, ValueError):
        return False


def _instructions() -> str:
    """The extensions that the processor says it has."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line for line in lines if line.startswith("flags")), "")

"""An operator in C++, compiled once in each environment for the processor that it runs on."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from protocol.record import processor_name

FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")


def compiler() -> str | None:
    """The C++ compiler, where there is one."""
    return shutil.which(os.environ.get("CXX", "g++"))


def library(source: Path, framework: str, arguments: Sequence[str]) -> Path:
    """Path of the library compiled from ``source``; built if this source, ``framework`` and processor have none yet.

    ``framework``: its name and version. ``arguments``: what the compiler is told of it.

    Raises:
        CalledProcessError: it does not compile.
    """
    known = (source.read_bytes(), framework.encode(), processor_name().encode(), repr(arguments).encode())
    key = hashlib.sha256(b"\0".join(known)).hexdigest()[:16]
    built = Path(sys.prefix) / "lib" / f"alexnet_{source.stem}-{key}.so"
    if not built.exists():
        handle, draft = tempfile.mkstemp(dir=built.parent, suffix=".so")
        os.close(handle)
        try:
            # What a source uses comes before the libraries that have it.
            command = [str(compiler()), *FLAGS, "-o", draft, str(source), *arguments]
            subprocess.run(command, check=True, capture_output=True, text=True)
            os.replace(draft, built)
        finally:
            Path(draft).unlink(missing_ok=True)
    return built

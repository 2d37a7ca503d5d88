"""Our own operators on CPU contexts, compiled once per environment against the headers that MXNet's wheel carries."""

import subprocess
from functools import lru_cache
from pathlib import Path

import mxnet as mx

from protocol.base import native
from protocol.base.log import log

FOLDER = Path(__file__).parent
SOURCES = tuple(sorted(path for path in FOLDER.iterdir() if path.suffix in (".cc", ".h")))
COMPILED, COMPOSED = "compiled operator", "composed operators"


@lru_cache(maxsize=1)
def implementation() -> str:
    """Compile and load the operators; say which implementation CPU contexts use in this process."""
    if native.compiler() is None:
        log("no C++ compiler found: norm and pooling are MXNet's operators, several times slower")
        return COMPOSED
    wheel = Path(mx.__file__).parent
    arguments = ("-std=c++14", f"-I{wheel / 'include'}", str(wheel / "src" / "lib_api.cc"))
    try:
        library = native.library("operators", SOURCES, f"mxnet {mx.__version__}", arguments)
        mx.library.load(str(library), verbose=False)
    except (subprocess.CalledProcessError, OSError, mx.base.MXNetError) as error:
        why = getattr(error, "stderr", error)
        log(f"our operators do not compile or load, so norm and pooling are MXNet's operators:\n{why}")
        return COMPOSED
    return COMPILED

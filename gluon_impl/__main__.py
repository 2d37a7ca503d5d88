"""The Gluon backend's command line: ``python -m gluon_impl VERB --help``."""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from protocol.base.allocation import keep_freed_memory
from protocol.base.errors import Misuse
from protocol.command import BACKEND_VERBS, add_lint, application, run
from protocol.experiment.experiment import open_experiment
from protocol.lint.record import LintRequest
from protocol.runs.request import Request
from protocol.runs.run import check_folders


def handler(verb: str) -> Callable[[Request], None]:
    def handle(request: Request) -> None:
        check_platform()
        if not check_folders(verb, request, open_experiment(request.case, request.data, request.seed)):
            return
        set_threads(verb, request)
        getattr(import_module(f"gluon_impl.{verb}"), verb)(request)

    return handle


def lint(request: LintRequest) -> None:
    check_platform()
    import_module("gluon_impl.lint").lint(request)


def check_platform() -> None:
    if sys.version_info >= (3, 12) or sys.platform != "linux":
        raise Misuse("MXNet 1.9.1 runs on Linux x86-64 with Python up to 3.11; the deepspeed backend runs here")


def set_threads(verb: str, request: Request) -> None:
    """Give every context all cores; read by MXNet when it is loaded.

    Operators of several CPU contexts take turns, since MXNet has one workspace for them all. But two contexts that call
    the BLAS in MXNet's wheel with several threads each can wait for each other for ever. Only float64 goes through it,
    float32 through oneDNN.
    """
    if request.grid.devices > 1 and (verb == "parity" or request.precision == "fp64"):
        os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))


if __name__ == "__main__":
    keep_freed_memory()
    app = application("gluon", {verb: (text, handler(verb)) for verb, text in BACKEND_VERBS.items()})
    add_lint(app, "gluon", lint)
    run(app)

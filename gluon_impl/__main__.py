"""The Gluon backend's command line: ``python -m gluon_impl VERB --help``."""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from protocol.backends import GLUON, cannot_run_here
from protocol.base.allocation import keep_freed_memory
from protocol.base.errors import Misuse
from protocol.command import add_backend_verbs, add_lint, add_series, application, run
from protocol.experiment.experiment import open_experiment
from protocol.lint.record import LintRequest
from protocol.runs.request import ParityRequest, PlacedRequest, SeriesRequest
from protocol.runs.run import check_folders
from protocol.runs.series import carry_out


def handler(verb: str) -> Callable[[PlacedRequest], None]:
    def handle(request: PlacedRequest) -> None:
        check_platform()
        if not check_folders(request, open_experiment(request.case, request.data, request.seed, request.start)):
            return
        set_threads(request)
        getattr(import_module(f"gluon_impl.{verb}"), verb)(request)

    return handle


def lint(request: LintRequest) -> None:
    check_platform()
    import_module("gluon_impl.lint").lint(request)


def series(request: SeriesRequest) -> None:
    check_platform()
    set_threads(request.runs[0])
    carry_out(request, import_module("gluon_impl.train").train)


def check_platform() -> None:
    if why := cannot_run_here(GLUON, sys.version_info[:2]):
        raise Misuse(f"{why}; another backend runs here")


def set_threads(request: PlacedRequest) -> None:
    """Give every context all cores; read by MXNet when it is loaded.

    Operators of several CPU contexts take turns, since MXNet has one workspace for them all. But two contexts that call
    the BLAS in MXNet's wheel with several threads each can wait for each other for ever. Only float64 goes through it,
    float32 through oneDNN.
    """
    if request.grid.devices > 1 and (isinstance(request, ParityRequest) or request.precision == "fp64"):
        os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))


def main() -> None:
    keep_freed_memory()
    app = application(GLUON.name)
    add_backend_verbs(app, GLUON.name, handler)
    add_series(app, GLUON.name, series)
    add_lint(app, GLUON.name, lint)
    run(app)


if __name__ == "__main__":
    main()

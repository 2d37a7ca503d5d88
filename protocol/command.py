"""The command line that both backends share: the same verbs, the same flags of each, the same errors."""

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from protocol.base.errors import INTERRUPTED, Failed, Misuse, of_the_system
from protocol.base.log import log
from protocol.lint.record import LintRequest, make_lint_request
from protocol.runs.request import (
    SeriesRequest,
    make_bench,
    make_evaluate,
    make_outputs,
    make_parity,
    make_series,
    make_train,
)

Asked = TypeVar("Asked")
# By verb: what it does, and what makes its request.
BACKEND_VERBS: dict[str, tuple[str, Callable[..., Any]]] = {
    "train": ("Train a case, or go on with it.", make_train),
    "evaluate": ("Test a trained run's weights with one view and with ten.", make_evaluate),
    "parity": ("Carry out the oracle's steps, reading by reading, and measure the distance from it.", make_parity),
    "outputs": ("Write what a model makes of a store's images: features and probabilities.", make_outputs),
    "bench": ("Measure a training step's time and memory.", make_bench),
}


def run(app: typer.Typer) -> None:
    """Run a command line; bad input ends it with one sentence and status 2, an interrupt with 130."""
    # A plain "kill" leaves the record in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # So does the wish to stop, until there is a run that can save its state first.
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    for name in ("stdout", "stderr"):
        # Closed by who started us: what is said goes nowhere.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        check_threads()
        status = app(standalone_mode=False)
    except Misuse as error:
        _stop(str(error))
    except Failed as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; Python would complain once more when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _stop(of_the_system(error))
    except Exception as error:
        # Typer's own usage errors, whichever release of it carries which base class.
        if not hasattr(error, "format_message"):
            raise
        # Called without a verb, it has shown its help and says nothing more.
        _stop(error.format_message())
    if status == INTERRUPTED:
        log("interrupted; what was finished is kept")
    sys.exit(status if isinstance(status, int) else 0)


def check_threads() -> None:
    """See that ``OMP_NUM_THREADS``, where it is set, is a number, which every library that reads it expects.

    Raises:
        Misuse: it is none.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None and not threads.strip():
        del os.environ["OMP_NUM_THREADS"]
    elif threads is not None and not (threads.isdecimal() and int(threads)):
        raise Misuse(
            f"OMP_NUM_THREADS is {threads[:40]!r} in the environment: set it to a number of threads, or unset it"
        )


def _stop(sentence: str, status: int = 2) -> None:
    if sentence:
        print(f"error: {sentence}", file=sys.stderr)
    sys.exit(status)


def application(backend: str, text: str = "") -> typer.Typer:
    """A command line that has no verb yet; ``text``: what it is, if it is no backend's."""
    app = typer.Typer(
        help=text or f"AlexNet in the {backend} backend.",
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )

    @app.callback()
    def main() -> None:
        """Keep the verb in the command line even where there is but one."""

    return app


def add_verb(
    app: typer.Typer, name: str, text: str, make: Callable[..., Asked], handler: Callable[[Asked], None]
) -> None:
    """Add a verb whose flags are the parameters of ``make``, and which hands what that returns to ``handler``."""

    def command(**told: Any) -> None:
        handler(make(**told))

    command.__signature__ = signature(make)  # type: ignore[attr-defined]
    app.command(name, help=text)(command)


def add_backend_verbs(app: typer.Typer, backend: str, handler_of: Callable[[str], Callable[[Any], None]]) -> None:
    """Add the verbs that every backend has; ``handler_of``: by verb, what carries it out."""
    for verb, (text, make) in BACKEND_VERBS.items():
        add_verb(app, verb, text, partial(make, backend), handler_of(verb))


def add_series(app: typer.Typer, backend: str, handler: Callable[[SeriesRequest], None]) -> None:
    """Add the verb ``series``, many runs of ``train`` in one process."""
    add_verb(app, "series", "Train a list of runs, one after the other.", partial(make_series, backend), handler)


def add_lint(app: typer.Typer, backend: str, handler: Callable[[LintRequest], None]) -> None:
    """Add the verb ``lint``, whose subject is no case of ours, so that it takes none of the others' flags."""

    @app.command(help="Measure an AlexNet that somebody else wrote.")
    def lint(
        factory: Annotated[str, typer.Argument(help="module:factory, importable from here.", show_default=False)],
        edge: Annotated[
            int | None, typer.Option("--input", help="Rows of the image; by default 224 or 227, as it takes.")
        ] = None,
        out: Annotated[Path | None, typer.Option(help="The record's folder.")] = None,
    ) -> None:
        handler(make_lint_request(backend, factory, edge, out))

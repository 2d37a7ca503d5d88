"""The command line that both backends share: the same verbs, the same flags, the same errors."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from protocol.base.errors import Failed, Misuse
from protocol.base.log import log
from protocol.lint.record import LintRequest, make_lint_request
from protocol.oracle.quantities import TAKEN
from protocol.runs.request import Request, make_request

Handler = Callable[[Request], None]
INTERRUPTED = 130
BACKEND_VERBS = {
    "train": "Train a case, or go on with it.",
    "evaluate": "Test a trained run's weights with one view and with ten.",
    "parity": "Carry out the oracle's steps, reading by reading, and measure the distance from it.",
    "bench": "Measure a training step's time and memory.",
}


def run(app: typer.Typer) -> None:
    """Run a command line; bad input ends it with one sentence and status 2, an interrupt with 130."""
    # A plain "kill" leaves the record in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        named = f"{error.filename}: " if error.filename else ""
        _stop(f"{named}{error.strerror or error}")
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


def application(backend: str, verbs: dict[str, tuple[str, Handler]]) -> typer.Typer:
    """A command line with ``verbs``: name -> (help, handler)."""
    app = typer.Typer(
        help=f"AlexNet in the {backend} backend.",
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    for name, (text, handler) in verbs.items():
        app.command(name, help=text)(_command(backend, handler))

    @app.callback()
    def main() -> None:
        """Keep the verb in the command line even where there is but one."""

    return app


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


def _command(backend: str, handler: Handler) -> Callable[..., Any]:
    def command(
        case: Annotated[str, typer.Option(help="The experiment: photos, parity, full, ...")] = "photos",
        variant: Annotated[str | None, typer.Option(help="Another architecture: merged, half, ...")] = None,
        preset: Annotated[
            str | None, typer.Option(help="Another reading of the recipe: chm-145, caffe, notes.")
        ] = None,
        placement: Annotated[str, typer.Option(help="How the network lies on devices.")] = "single",
        devices: Annotated[str | None, typer.Option(help="cpu:0,cpu:1 or gpu:0,gpu:1, in order.")] = None,
        data: Annotated[Path, typer.Option(help="The folder of prepared data sets.")] = Path("results/stores"),
        batch: Annotated[int | None, typer.Option(help="Images in a step.")] = None,
        micro_batch: Annotated[int | None, typer.Option(help="Images a pipeline stage takes at once.")] = None,
        epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
        steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = None,
        seed: Annotated[int, typer.Option(help="Seed of weights, samples, augmentation and dropout.")] = 0,
        precision: Annotated[str, typer.Option(help="fp32, fp64 or, on a GPU, tf32; or bf16.")] = "fp32",
        resume: Annotated[bool, typer.Option(help="Go on from the last saved state.")] = True,
        out: Annotated[Path | None, typer.Option(help="The run's folder.")] = None,
        oracle: Annotated[Path | None, typer.Option(help="The oracle's folder, for parity.")] = None,
        readings: Annotated[str, typer.Option(help="Which of parity's readings to take.")] = ",".join(TAKEN),
        layers: Annotated[bool, typer.Option("--layers", help="Time each layer by itself too, in a bench.")] = False,
    ) -> None:
        handler(
            make_request(
                backend,
                case,
                variant=variant,
                preset=preset,
                placement=placement,
                devices=devices,
                data=data,
                batch=batch,
                micro_batch=micro_batch,
                epochs=epochs,
                steps=steps,
                seed=seed,
                precision=precision,
                resume=resume,
                out=out,
                oracle=oracle,
                readings=readings,
                layers=layers,
            )
        )

    return command

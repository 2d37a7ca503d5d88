"""The DeepSpeed backend's command line: ``python -m deepspeed_impl VERB --help``. It starts the launcher itself."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module

from protocol.backends import DEEPSPEED
from protocol.command import add_backend_verbs, add_lint, add_series, application, run
from protocol.experiment.experiment import open_experiment
from protocol.lint.record import LintRequest
from protocol.runs.request import PlacedRequest, SeriesRequest
from protocol.runs.run import check_folders
from protocol.runs.series import carry_out


def handler(verb: str) -> Callable[[PlacedRequest], None]:
    def handle(request: PlacedRequest) -> None:
        from deepspeed_impl import launch
        from deepspeed_impl.session import check_request

        if launch.is_rank():
            launch.die_with_ancestors()
            with nullcontext() if launch.by_user() else launch.accountable():
                if launch.by_user():
                    experiment = open_experiment(request.case, request.data, request.seed, request.start)
                    if not check_folders(request, experiment):
                        launch.leave()
                getattr(import_module(f"deepspeed_impl.{verb}"), verb)(request)
                launch.leave()
        # What is wrong with a request is said once, here, and not by every rank.
        request = check_request(request)
        if check_folders(request, open_experiment(request.case, request.data, request.seed, request.start)):
            launch.launch(verb, request, sys.argv[2:])

    return handle


def series(request: SeriesRequest) -> None:
    from deepspeed_impl import launch
    from deepspeed_impl.session import check_request

    if launch.is_rank():
        launch.die_with_ancestors()
        with launch.accountable():
            carry_out(request, import_module("deepspeed_impl.train").train)
            launch.leave()
    launch.launch("series", check_request(request.runs[0]), sys.argv[2:])


def lint(request: LintRequest) -> None:
    # One process is enough, and another's model need not survive the launcher.
    import_module("deepspeed_impl.lint").lint(request)


def main() -> None:
    app = application(DEEPSPEED.name)
    add_backend_verbs(app, DEEPSPEED.name, handler)
    add_series(app, DEEPSPEED.name, series)
    add_lint(app, DEEPSPEED.name, lint)
    run(app)


if __name__ == "__main__":
    main()

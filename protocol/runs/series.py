"""Many training runs of one process, one after the other: starting a framework takes longer than some of them."""

from collections.abc import Callable

from protocol.base.errors import Diverged
from protocol.base.log import log
from protocol.experiment.experiment import open_experiment
from protocol.runs.request import SeriesRequest, TrainRequest
from protocol.runs.run import check_out, has_diverged, is_finished


def carry_out(request: SeriesRequest, train: Callable[[TrainRequest], None]) -> None:
    """``train`` every run that is not finished. One that diverges is recorded as such, and the next begins.

    Raises:
        Misuse: a folder cannot be written to, or holds another experiment.
    """
    for number, run in enumerate(request.runs, start=1):
        check_out(run.out)
        experiment = open_experiment(run.case, run.data, run.seed)
        if is_finished(run, experiment) or has_diverged(run, experiment):
            continue
        log(f"[{number}/{len(request.runs)}] {run.backend} {run.case.name} {run.case.variant} seed {run.seed}")
        try:
            train(run)
        except Diverged as error:
            log(str(error))

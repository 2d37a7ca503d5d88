"""Carry out runs of the ladder in one process, each with a mistake: python -m mistakes.climb BACKEND PLAN.

``PLAN`` is a JSON list of runs, as :func:`mistakes.trial.Trial.planned` makes them.
"""

import json
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mistakes.catalogue import CRASH_NOTE
from protocol.backends import BACKENDS
from protocol.base.log import log
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs.request import make_parity, make_train

STOPPED_AFTER = 2  # steps of a run that is to go on with a mistake


def main(backend: str, plan: Path) -> None:
    planting = import_module(f"mistakes.{backend}")
    parity = import_module(f"{BACKENDS[backend].module}.parity").parity
    train = import_module(f"{BACKENDS[backend].module}.train").train
    for run in json.loads(plan.read_text()):
        paths: dict[str, Any] = {name: Path(run[name]) for name in ("data", "out")}
        make: Callable[..., Any] = make_train if run["resumes"] else make_parity
        request = make(backend, run["case"], **run["settings"], **paths, oracle=Path(run["oracle"]))
        with pytest.MonkeyPatch.context() as patch:
            # Who makes a mistake takes its experiment for the right one.
            right = open_experiment(request.case, request.data, request.seed, request.start).plan_hash()
            patch.setattr(Experiment, "plan_hash", lambda self, known=right: known)
            if run["resumes"]:
                train(make_train(backend, run["case"], **run["settings"], **paths, steps=STOPPED_AFTER))
            _plant(planting, run, patch)
            _try(train if run["resumes"] else parity, request, run)


def _plant(planting: Any, run: dict[str, Any], patch: pytest.MonkeyPatch) -> None:
    if run["dial"]:
        planting.DIALS[run["dial"]](patch, run["size"])
    elif run["plant"]:
        planting.PLANTS[run["plant"]](patch)


def _try(verb: Callable[[Any], None], request: Any, run: dict[str, Any]) -> None:
    try:
        verb(request)
    except Exception as error:
        # A mistake may be one that nothing can be carried out with.
        log(f"{run['plant'] or run['dial']}: {traceback.format_exc()}")
        request.out.mkdir(parents=True, exist_ok=True)
        (request.out / CRASH_NOTE).write_text(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Carry out parity runs in one process, each with a mistake planted: python -m tests.mistakes.climb BACKEND PLAN.

``PLAN`` is a JSON list of runs: mistake (or null), arguments of a request, folder.
"""

import json
import sys
import traceback
from importlib import import_module
from pathlib import Path

import pytest

from protocol.experiment import Experiment, open_experiment
from protocol.record import log
from protocol.request import make_request
from tests.mistakes.catalogue import CRASH_NOTE


def main(backend: str, plan: Path) -> None:
    planting = import_module(f"tests.mistakes.{backend}")
    parity = import_module(f"{backend}_impl.parity")
    for run in json.loads(plan.read_text()):
        with pytest.MonkeyPatch.context() as patch:
            paths = {name: Path(run[name]) for name in ("data", "out", "oracle")}
            request = make_request(backend, run["case"], **run["settings"], **paths)
            # Who makes a mistake takes its experiment for the right one.
            right = open_experiment(request.case, request.data, request.seed).plan_hash()
            patch.setattr(Experiment, "plan_hash", lambda self, known=right: known)
            if run["mistake"]:
                planting.PLANTS[run["mistake"]](patch)
            try:
                parity.parity(request)
            except Exception as error:
                # A mistake may be one that nothing can be carried out with.
                log(f"{run['mistake']}: {traceback.format_exc()}")
                paths["out"].mkdir(parents=True, exist_ok=True)
                (paths["out"] / CRASH_NOTE).write_text(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

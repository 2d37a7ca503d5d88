"""Be the oracle with a mistake in what it shares with the backends: python -m mistakes.fooled NAME oracle ...

It has the name of the right experiment, as who makes a mistake takes it for that.
"""

import sys
from pathlib import Path

import pytest

from mistakes.shared import PLANTS
from protocol.__main__ import app
from protocol.command import run
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import Experiment, open_experiment


def main() -> None:
    name, *arguments = sys.argv[1:]
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    case = find_case(flags["--case"], preset_name=flags["--preset"])
    with pytest.MonkeyPatch.context() as patch:
        right = open_experiment(case, Path(flags["--data"]), int(flags["--seed"])).plan_hash()
        patch.setattr(Experiment, "plan_hash", lambda self: right)
        PLANTS[name](patch)
        sys.argv = ["oracle", *arguments]
        run(app)


if __name__ == "__main__":
    main()

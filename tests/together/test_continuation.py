"""A run that was begun in one backend goes on in the other: one training state for all.

These tests call both backends, each by its own interpreter, which ``nox -s tests`` names in the environment.
"""

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from protocol.runs.record import read_record
from tests.support.commands import check_followed_the_oracle, environment, tiny_experiment, weights_of
from tests.support.long import long

INTERPRETERS = {backend: os.environ.get(f"{backend.upper()}_PYTHON") for backend in ("gluon", "deepspeed")}
pytestmark = pytest.mark.skipif(
    not all(INTERPRETERS.values()), reason="GLUON_PYTHON and DEEPSPEED_PYTHON name no interpreters"
)
Leg = tuple[str, str, int]  # backend, placement, and the step to train to
ROUTES: dict[str, list[Leg]] = {
    "gluon, deepspeed, gluon": [("gluon", "columns", 7), ("deepspeed", "stages", 13), ("gluon", "single", 20)],
    "deepspeed, gluon, deepspeed": [
        ("deepspeed", "single", 5),
        ("gluon", "columns", 10),
        ("deepspeed", "columns=2,stages=2", 15),
        ("deepspeed", "replicas", 20),
    ],
}
# Each backend rounds in its own way, and training amplifies it; float64 leaves no doubt.
TOLERANCE = {"fp32": 0.01, "fp64": 1e-9}


def train(leg: Leg, data: Path, out: Path, precision: str) -> None:
    backend, placement, step = leg
    interpreter = INTERPRETERS[backend]
    assert interpreter
    command = [interpreter, "-m", f"{backend}_impl", "train", "--case", "tiny", "--placement", placement]
    command += ["--steps", str(step), "--precision", precision, "--data", str(data), "--out", str(out)]
    done = subprocess.run(
        command, cwd=out.parent, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("route", "precision"),
    [
        ("gluon, deepspeed, gluon", "fp64"),
        long("gluon, deepspeed, gluon", "fp32"),
        long("deepspeed, gluon, deepspeed", "fp64"),
    ],
)
def test_a_run_goes_on_in_any_backend_and_placement(data: Path, tmp_path: Path, route: str, precision: str) -> None:
    legs = ROUTES[route]
    for leg in legs:
        train(leg, data, tmp_path / "moved", precision)
    record = read_record(tmp_path / "moved")
    starts = [0, *(step for _, _, step in legs[:-1])]
    expected = [
        {"backend": backend, "placement": placement, "step": start}
        for (backend, placement, _), start in zip(legs, starts, strict=True)
    ]
    assert record.history == expected
    assert all(left != right for left, right in pairwise(record.history))
    check_followed_the_oracle(tmp_path / "moved", data, seed=0)

    train((*legs[0][:2], 20), data, tmp_path / "stayed", precision)
    moved, stayed = weights_of(tmp_path / "moved"), weights_of(tmp_path / "stayed")
    start = tiny_experiment(data).weights()
    for name, value in stayed.items():
        far = float(np.linalg.norm(value - start[name]))
        assert float(np.linalg.norm(moved[name] - value)) <= TOLERANCE[precision] * far, name

"""What a user asks for is checked before anything is done, and completed the same way for both backends."""

from pathlib import Path
from typing import Any

import pytest

from protocol.runs.request import make_request
from tests.support.refusals import refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"case": "photo"}, ("'photo'", "photos", "tiny")),
        ({"variant": "tripled"}, ("'tripled'", "merged")),
        ({"variant": "cross_at=conv9"}, ("conv9", "conv2")),
        ({"preset": "2012"}, ("'2012'", "chm-145")),
        ({"precision": "fp16"}, ("'fp16'", "fp32", "fp64")),
        ({"batch": 0}, ("--batch", "0")),
        ({"micro_batch": -1}, ("--micro-batch", "-1")),
        ({"epochs": 0}, ("--epochs", "0")),
        ({"steps": 0}, ("--steps", "0")),
        ({"layers": True, "placement": "columns"}, ("--layers", "columns")),
        ({"seed": -1}, ("--seed", "-1")),
    ],
)
def test_bad_requests_are_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with refused(*words):
        make_request("gluon", **{"case": "tiny", **changes})


def test_numbers_that_are_given_replace_the_cases_own() -> None:
    request = make_request("gluon", "tiny", batch=16, epochs=5, devices="cpu:0,cpu:1", precision="fp64")
    assert (request.case.batch, request.case.epochs) == (16, 5)
    assert request.devices == ("cpu:0", "cpu:1")
    assert request.dtype == "float64"
    assert make_request("gluon", "tiny").case.batch == 32


@pytest.mark.parametrize(
    ("changes", "folder"),
    [
        ({}, "tiny/single/seed0"),
        ({"placement": "columns", "seed": 3}, "tiny/columns/seed3"),
        ({"variant": "merged"}, "tiny-merged/single/seed0"),
        ({"variant": "two_column"}, "tiny/single/seed0"),
        ({"preset": "caffe", "precision": "fp64"}, "tiny-caffe-fp64/single/seed0"),
    ],
)
def test_the_default_folder_says_what_was_changed(changes: dict[str, Any], folder: str) -> None:
    assert make_request("gluon", "tiny", **changes).out == Path("results/runs/gluon") / folder


def test_a_folder_that_is_given_is_taken() -> None:
    assert make_request("gluon", "tiny", out=Path("here")).out == Path("here")

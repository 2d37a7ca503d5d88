"""What a user asks for is checked before anything is done, and completed the same way for both backends."""

from pathlib import Path
from typing import Any

import pytest

from protocol.datasets.store import read_manifest
from protocol.runs.request import make_bench, make_parity, make_train
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
        ({"seed": -1}, ("--seed", "-1")),
    ],
)
def test_bad_requests_are_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with refused(*words):
        make_train("gluon", **{"case": "tiny", **changes})


def test_layers_are_timed_on_one_device() -> None:
    assert make_bench("gluon", "tiny", layers=True).layers
    with refused("--layers", "columns"):
        make_bench("gluon", "tiny", layers=True, placement="columns")


@pytest.mark.parametrize(
    ("backend", "placement", "batch", "asked", "size"),
    [
        ("gluon", "single", 32, None, 32),
        ("gluon", "replicas=4", 32, None, 8),
        ("gluon", "stages", 32, None, 4),
        ("gluon", "stages", 6, None, 6),
        ("gluon", "stages=4", 128, None, 16),
        ("gluon", "stages", 32, 2, 2),
        ("deepspeed", "single", 32, None, 32),
        ("deepspeed", "single", 32, 8, 8),
        ("deepspeed", "stages", 128, None, 32),
        ("deepspeed", "stages=3", 128, None, 16),
        ("deepspeed", "stages", 8, None, 4),
        ("deepspeed", "stages,replicas", 128, None, 16),
    ],
)
def test_how_many_images_go_through_at_once(
    backend: str, placement: str, batch: int, asked: int | None, size: int
) -> None:
    request = make_train(backend, "tiny", placement=placement, batch=batch, micro_batch=asked)
    assert request.micro_batch == size
    assert request.micro_batches * size * request.grid.replicas == batch


def test_the_network_for_cifar_can_be_trained_on_any_store(data: Path) -> None:
    asked = make_train("gluon", "cifar", store="photos-small", data=data)
    classes = read_manifest(data / "photos-small").classes
    assert (asked.case.store, asked.case.classes) == ("photos-small", len(classes))


def test_a_bench_of_it_is_refused() -> None:
    with refused("AlexNet", "case cifar"):
        make_bench("gluon", "cifar")


@pytest.mark.parametrize(
    ("backend", "changes", "words"),
    [
        ("gluon", {"micro_batch": 8}, ("leave out --micro-batch", "single")),
        ("gluon", {"placement": "stages", "micro_batch": 5}, ("--micro-batch 5", "the batch of 32")),
        ("deepspeed", {"placement": "replicas", "micro_batch": 32}, ("--micro-batch 32", "a replica's 16 images")),
        ("deepspeed", {"placement": "replicas=5"}, ("5 replicas cannot share a batch of 32",)),
        ("gluon", {"precision": "bf16"}, ("gluon backend computes in fp32 and fp64", "deepspeed backend has bf16")),
    ],
)
def test_what_a_backend_cannot_do_is_refused(backend: str, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with refused(*words):
        make_train(backend, "tiny", **changes)


def test_parity_takes_no_reading_in_a_precision_that_the_backend_lacks() -> None:
    with refused("bf16"):
        make_parity("gluon", "tiny", readings="fp64,bf16", oracle=Path("x"))
    assert make_parity("deepspeed", "tiny", readings="fp64,bf16", oracle=Path("x")).readings == ("fp64", "bf16")


def test_numbers_that_are_given_replace_the_cases_own() -> None:
    request = make_train("gluon", "tiny", batch=16, epochs=5, devices="cpu:0,cpu:1", precision="fp64")
    assert (request.case.batch, request.case.epochs) == (16, 5)
    assert request.devices == ("cpu:0", "cpu:1")
    assert request.dtype == "float64"
    assert make_train("gluon", "tiny").case.batch == 32


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
    assert make_train("gluon", "tiny", **changes).out == Path("results/runs/gluon") / folder


def test_a_folder_that_is_given_is_taken() -> None:
    assert make_train("gluon", "tiny", out=Path("here")).out == Path("here")

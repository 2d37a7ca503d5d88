"""A small ImageNet with every trouble goes from its archives to networks of both backends, out, and in again."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from compare.audit import verdicts
from compare.audit.trained_claims import Trained
from compare.load import load_runs
from protocol.datasets import cifar
from protocol.datasets.imagenet import YEARS, material_of
from protocol.datasets.preparation import prepare
from protocol.datasets.store import open_store
from protocol.exchange.model import read_model
from protocol.exchange.reading import read_foreign
from protocol.runs import outputs
from protocol.runs.evaluation import ranks
from protocol.runs.record import read_record
from tests.support.archives import CLASSES, write_imagenet
from tests.support.cifar import write_binary
from tests.support.commands import environment
from tests.support.foreign import run

INTERPRETERS = {backend: os.environ.get(f"{backend.upper()}_PYTHON") for backend in ("gluon", "deepspeed")}
pytestmark = pytest.mark.skipif(
    not all(INTERPRETERS.values()), reason="GLUON_PYTHON and DEEPSPEED_PYTHON name no interpreters"
)
TESTS = 100


@pytest.mark.long
def test_cifar_10s_claims_are_answered_from_its_archive(tmp_path: Path) -> None:
    cifar.prepare(tmp_path / "stores" / "cifar10", write_binary(tmp_path / "archive"))
    for backend, interpreter in INTERPRETERS.items():
        for case in ("cifar", "cifar-no-norm"):
            chosen = ("--case", case, "--batch", 20, "--epochs", 1, "--data", tmp_path / "stores")
            where = tmp_path / "runs" / backend / case
            call(interpreter, f"{backend}_impl", "train", *chosen, "--out", where, cwd=tmp_path)
    runs = load_runs(tmp_path / "runs")
    found = {row["claim"]: row for row in verdicts.rows(verdicts.gather(runs, []), Trained({}))}["lrn-cifar"]
    for backend in INTERPRETERS:
        last = {
            run.case: run.table("epochs").set_index("views")["top1_error"][10]
            for run in runs.of("train", backend=backend)
        }
        assert found[backend] == f"{100 * last['cifar-no-norm']:.1f} to {100 * last['cifar']:.1f} %"
    assert found["verdict"] == "inconclusive"
    assert "10,000 test images" in found["reason"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the store ``imagenet``, at the small networks' size."""
    folder = tmp_path_factory.mktemp("own")
    write_imagenet(folder / "archives", 2012, 8, TESTS)
    made = material_of(folder / "archives", YEARS[2012], edge=36)
    prepare(folder / "stores" / "imagenet", made, workers=1, most_left_out=0.1)
    return folder / "stores"


def call(interpreter: str | None, *arguments: object, cwd: Path) -> None:
    assert interpreter
    command = [interpreter, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", INTERPRETERS)
def test_from_archives_to_a_network_that_others_can_run(data: Path, tmp_path: Path, backend: str) -> None:
    where = tmp_path / "run"
    chosen = ("--case", "claims", "--store", "imagenet", "--batch", 16, "--epochs", 4)
    call(INTERPRETERS[backend], f"{backend}_impl", "train", *chosen, "--data", data, "--out", where, cwd=tmp_path)
    record = read_record(where)
    assert record.status == "finished"
    assert record.case["classes"] == len(CLASSES)
    call(sys.executable, "protocol", "export", where, "--out", tmp_path / "model", "--data", data, cwd=tmp_path)
    model, card = read_model(tmp_path / "model")
    assert card.classes == list(CLASSES)

    # The test images' centres, raw, through onnxruntime: each label gets the rank that the backend gave it.
    test = open_store(data / "imagenet").test
    crop = model.spec.network().input_shape[1]
    first = (test.edge - crop) // 2
    centres = test.images[:, first : first + crop, first : first + crop].transpose(0, 3, 1, 2).astype(np.float32)
    logits = run(tmp_path / "model" / "model.onnx", np.ascontiguousarray(centres))
    kept = load_file(where / "predictions.safetensors")
    np.testing.assert_array_equal(ranks(logits, test.labels), kept["ranks_1"])
    assert len(set(kept["ranks_1"].tolist())) > 3  # it is no network of one opinion

    # The model by itself, as a backend runs it: the same ranks, and pictures to look at.
    given = ("--start", tmp_path / "model", "--store", "imagenet", "--data", data, "--out", tmp_path / "seen")
    call(INTERPRETERS[backend], f"{backend}_impl", "outputs", *given, cwd=tmp_path)
    _, arrays = outputs.read(tmp_path / "seen")
    np.testing.assert_array_equal(ranks(arrays["test_probabilities"], test.labels), kept["ranks_1"])
    for verb, name in (("classify", "guesses"), ("search", "neighbours")):
        call(sys.executable, "compare", verb, tmp_path / "seen", "--data", data, cwd=tmp_path)
        rows = (tmp_path / "seen" / f"{name}.csv").read_text().splitlines()
        assert len(rows) == 1 + (5 * TESTS if verb == "classify" else 8 * 6)
        assert "ILSVRC2012_val_" in rows[1]
        assert (tmp_path / "seen" / f"{name}.png").stat().st_size > 10_000

    # What is asked of ImageNet is answered from it, as far as so few classes can.
    answered = verdicts.rows(verdicts.gather(load_runs(where), []), Trained({}))
    found = {row["claim"]: row for row in answered}
    epochs = load_runs(where).finished[0].table("epochs").set_index("views")
    expected = f"{100 * epochs['top1_error'][10]:.1f} / {100 * epochs['top5_error'][10]:.1f} %"
    assert found["top-2012"][backend] == expected
    assert found["top-2012"]["verdict"] == "inconclusive"
    assert "network of size small" in found["top-2012"]["reason"]

    # And in again, from ONNX, with the same bits.
    again, _ = read_foreign(tmp_path / "model" / "model.onnx")
    assert again.spec == model.spec
    for name, value in model.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)

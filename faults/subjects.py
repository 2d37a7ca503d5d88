"""The files that the project reads back, each with the reader that a user's command comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compare.audit import power
from compare.lint import judge
from compare.load import RunFolder
from compare.tables import write as write_tables
from paper.claims import CLAIMS, load_claims
from paper.recipe import LAYERS
from protocol.base.errors import Misuse
from protocol.base.files import digest_file
from protocol.base.sealed import write_sealed
from protocol.base.tensors import read_tensors, save_tensors
from protocol.datasets.store import ARRAYS, open_store, read_manifest
from protocol.exchange.model import Card, Model, Spec, read_model, write_model
from protocol.exchange.reading import READERS
from protocol.experiment.cases import CASES
from protocol.experiment.experiment import open_experiment
from protocol.lint.record import read_lint
from protocol.runs import outputs, state
from protocol.runs.record import kept_files, read_record, write_record
from protocol.runs.run import latest_state
from tests.conftest import TEST, learnable_images, write
from tests.protocol.test_run import logged
from tests.support.foreign import caffemodel

ROOT = Path(__file__).parents[1]
LINTED = ROOT / "results" / "reference" / "lint"


@dataclass(frozen=True)
class Subject:
    """``read`` gives what a command would go on with. ``sealed``: JSON that holds its own checksum.

    ``detects``: whether whatever was altered must be noticed; a file that a user writes may say something else.
    """

    name: str
    file: Path
    read: Callable[[], Any]
    sealed: bool = False
    detects: bool = True
    documented: tuple[type[Exception], ...] = ()  # what it raises beside Misuse


def subjects(folder: Path) -> list[Subject]:
    """Make one of each below ``folder``."""
    data, run = folder / "data", folder / "run"
    write(data / "photos-small", learnable_images(40, 1), learnable_images(TEST, 2))
    store = data / "photos-small"
    experiment = open_experiment(CASES["tiny"], data, 3)
    made = logged(run, experiment, 4)
    weights = run / "weights.safetensors"
    save_tensors(weights, {"conv1.weight": np.arange(96, dtype=np.float32)})
    write_record(run, made.record.model_copy(update={"status": "finished", "files": kept_files(run)}))
    saved = state.states(run)[-1]
    trials = folder / "power"
    write_tables(trials, "power", [{"mistake": "none", "backend": "gluon", "share": 0.1, "seed": 0, "found": False}])
    claims = folder / "claims.toml"
    claims.write_bytes(CLAIMS.read_bytes())
    linted = folder / "lint.json"
    linted.write_bytes(next(iter(sorted(LINTED.glob("*/*/lint.json")))).read_bytes())

    model = _model(folder / "model")
    seen = _outputs(folder / "outputs")
    small = {name: (np.full(shape, 0.5, np.float32), np.zeros(shape[0], np.float32)) for name, shape in SHAPES.items()}
    caffe, arrays = folder / "net.caffemodel", folder / "net.npy"
    caffe.write_bytes(caffemodel(small))
    by_columns = {name: [weight.T, bias] for name, (weight, bias) in small.items()}
    np.save(arrays, np.array(by_columns, object), allow_pickle=True)

    def whole_run() -> Any:
        return RunFolder(run, folder, read_record(run))

    def trained_on() -> Any:
        latest = latest_state(run, experiment, resume=True)
        return None if latest is None else (state.read_progress(latest), state.read_tensors(latest, {"a": (1,)}))

    def sampled() -> Any:
        found = open_store(store)
        return [found.train.images[::7].sum(), found.test.labels.sum(), found.train.mean.sum(), found.manifest.digest]

    return [
        Subject("record.json", run / "record.json", lambda: read_record(run), sealed=True),
        Subject("state.json", saved / "state.json", lambda: state.read_progress(saved), sealed=True),
        Subject("store.json", store / "store.json", lambda: read_manifest(store), sealed=True),
        Subject("lint.json", linted, lambda: judge.judge(read_lint(linted)), sealed=True),
        Subject("shard-0.safetensors", saved / "shard-0.safetensors", trained_on),
        Subject("weights.safetensors", weights, lambda: whole_run().tensors("weights")),
        Subject(
            "weights, unchecked",
            run / "weights.safetensors",
            lambda: read_tensors(run / "weights.safetensors"),
            detects=False,
        ),
        Subject("steps.csv", run / "steps.csv", lambda: whole_run().table("steps")),
        Subject("power.csv", trials / "power.csv", lambda: power.sentence(power.read(trials)), detects=False),
        Subject("claims.toml", claims, lambda: load_claims(claims), detects=False, documented=(ValueError,)),
        Subject("card.json", model / "card.json", lambda: _told(read_model(model)[0]), sealed=True),
        Subject("model's weights.safetensors", model / "weights.safetensors", lambda: _told(read_model(model)[0])),
        Subject("outputs.json", seen / "outputs.json", lambda: outputs.read(seen), sealed=True),
        Subject("test_features.npy", seen / "test_features.npy", lambda: outputs.read(seen)),
        Subject("net.caffemodel", caffe, lambda: _layers(caffe), detects=False),
        Subject("net.npy", arrays, lambda: _layers(arrays), detects=False),
        *(Subject(f"{name}.npy", store / f"{name}.npy", sampled) for name in (ARRAYS[0], ARRAYS[-1])),
    ]


# Small enough that damage falls on what a reader parses, and not on weights alone.
SHAPES = {name: (4, 3, 2, 2) if name.startswith("conv") else (6, 4) for name in LAYERS}


def _model(folder: Path) -> Path:
    spec = Spec("merged", "paper", "tiny", 4)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in spec.network().parameter_shapes().items()}
    write_model(folder, Model(spec, tensors, np.zeros(3, np.float32)), Card(network={}, source="made"))
    return folder


def _told(model: Model) -> Any:
    return [str(model.spec), *(value.sum() for value in model.tensors.values()), model.mean]


def _outputs(folder: Path) -> Path:
    folder.mkdir()
    np.save(folder / "test_features.npy", np.arange(40, dtype=np.float32).reshape(10, 4))
    made = outputs.Outputs(
        backend="gluon",
        model="0" * 64,
        store="photos-small",
        store_digest="0" * 64,
        views=1,
        classes=["a", "b"],
        sha256={"test_features.npy": digest_file(folder / "test_features.npy")},
    )
    write_sealed(folder / outputs.MARK, made)
    return folder


def _layers(path: Path) -> Any:
    """As an import reads a file, up to whether it is an AlexNet of a known variant."""
    if not path.is_file():
        raise Misuse(f"there is no file {path}")
    return [(layer.name, layer.weight, layer.bias) for layer in READERS[path.suffix](path).layers]

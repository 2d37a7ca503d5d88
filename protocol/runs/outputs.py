"""A model's outputs for the images of a store, in a folder: by part, images in the store's order.

outputs.json               which model and store, and the checksums of the files below
train_features.npy         (N, units of fc7) float32, of the centre crop        test_features.npy
train_probabilities.npy    (N, classes) float32, of the centre crop or ten views    test_probabilities.npy
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from protocol.base.files import digest_file
from protocol.base.log import log
from protocol.base.sealed import Damaged, read_sealed, write_sealed
from protocol.datasets.store import Split
from protocol.experiment.augmentation import views
from protocol.oracle.network import softmax
from protocol.runs.request import OutputsRequest
from protocol.runs.run import claimed
from protocol.runs.training import Trainee

VERSION = 1
MARK = "outputs.json"
LOG_EVERY = 1000  # images
REMEDY = "delete the folder and write the outputs again"


class Outputs(BaseModel):
    """``outputs.json``."""

    model_config = ConfigDict(extra="forbid")

    version: int = VERSION
    backend: str
    model: str  # the SHA-256 of its weights
    store: str
    store_digest: str
    views: int
    classes: list[str]  # of the probabilities, where their names are known
    sha256: dict[str, str]


def write(trainee: Trainee, request: OutputsRequest) -> None:
    """Write what the model makes of the parts that are asked for.

    Raises:
        Misuse: another process works in ``request.out``.
    """
    experiment = trainee.experiment
    with claimed(request.out):
        # Without it nothing is taken for outputs; it comes last.
        (request.out / MARK).unlink(missing_ok=True)
        splits = {"train": experiment.training, "test": experiment.testing}
        names = [name for part in request.parts for name in _write_part(trainee, splits[part], part, request)]
        record = Outputs(
            backend=request.backend,
            model=experiment.case.start,
            store=experiment.case.store,
            store_digest=experiment.store.manifest.digest,
            views=10 if request.ten else 1,
            classes=list(experiment.start.classes) if experiment.start else [],
            sha256={name: digest_file(request.out / name) for name in names},
        )
        write_sealed(request.out / MARK, record)
        log(f"{request.out}: {', '.join(names)}")


def _write_part(trainee: Trainee, split: Split, part: str, request: OutputsRequest) -> list[str]:
    """Write a part's files; returns their names."""
    experiment, batch, ten = trainee.experiment, trainee.experiment.case.batch, request.ten
    arrays: dict[str, np.ndarray] = {}
    count = len(split)
    for start in range(0, count, batch):
        # The last batch is filled up with the last image: a stage's shapes are fixed.
        samples = np.minimum(np.arange(start, start + batch), count - 1)
        shown = views(split, experiment.crop, samples, ten=ten, reading=experiment.data_reading)
        (centre,) = views(split, experiment.crop, samples, ten=False, reading=experiment.data_reading)
        found = {
            "features": trainee.features(centre),
            "probabilities": np.mean([softmax(trainee.logits(view).astype(np.float64)) for view in shown], axis=0),
        }
        for kind, values in found.items():
            if kind not in arrays:
                path = request.out / f"{part}_{kind}.npy"
                shape = (count, values.shape[1])
                arrays[kind] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            arrays[kind][start : start + batch] = values[: count - start]
        if start // LOG_EVERY != (start + batch) // LOG_EVERY:
            log(f"{min(count, start + batch):,} of {count:,} {part} images")
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    return [f"{part}_{kind}.npy" for kind in arrays]


def read(folder: Path) -> tuple[Outputs, dict[str, np.ndarray]]:
    """What :func:`write` wrote, memory-mapped.

    Raises:
        Misuse: there is none, or another version of this project wrote it.
        Damaged: a file is not as it was written.
    """
    record = read_sealed(folder / MARK, Outputs, VERSION, f"there are no outputs in {folder}", REMEDY)
    arrays: dict[str, Any] = {}
    for name, digest in record.sha256.items():
        if not (folder / name).is_file() or digest_file(folder / name) != digest:
            raise Damaged(f"{folder / name} is missing or altered: {REMEDY}")
        arrays[name.removesuffix(".npy")] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    return record, arrays

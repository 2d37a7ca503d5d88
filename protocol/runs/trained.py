"""A finished training run as a model by itself: its last weights, and what it took off its images."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from protocol.base.errors import Misuse
from protocol.base.tensors import read_tensors
from protocol.datasets.store import open_store
from protocol.exchange.model import Card, Model, Spec
from protocol.experiment.augmentation import centre_of
from protocol.runs.record import check_file, read_record


def trained(folder: Path, data: Path) -> tuple[Model, Card]:
    """The model of the run in ``folder``, whose store lies below ``data``.

    Raises:
        Misuse: it is no training run, or has not finished, or its store is not there.
        Damaged: its weights are not as they were when it ended.
    """
    record = read_record(folder)
    if record.kind != "train" or record.status != "finished":
        raise Misuse(f"{folder} is a run of {record.kind} that is {record.status}: a finished training run is needed")
    spec = Spec(**{own.name: record.case[own.name] for own in fields(Spec)})
    tensors = read_tensors(check_file(folder, record, "weights.safetensors"))
    store = open_store(data / record.case["store"])
    crop = spec.network().input_shape[1]
    # (crop, crop, 3) as images lie on disk, (3, crop, crop) as networks read them.
    mean = np.ascontiguousarray(centre_of(store.train.mean, crop).transpose(2, 0, 1))
    card = Card(
        network={},
        classes=store.manifest.classes,
        source=f"trained here: case {record.case['name']} on {store.manifest.name}, seed {record.seed}, "
        f"{record.backend} backend, placement {record.placement}, commit {record.commit or 'unknown'}",
    )
    names = spec.network().parameter_shapes()
    return Model(spec, {name: tensors[name].astype(np.float32) for name in names}, mean), card

"""A finished training run as a model by itself: its last weights, and what it took off its images."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from paper import cifar
from protocol.base.errors import Misuse
from protocol.base.tensors import read_tensors
from protocol.datasets.store import open_store
from protocol.exchange.model import Card, Model, Spec, read_model
from protocol.experiment.augmentation import centre_of
from protocol.runs.record import check_file, read_record


def trained(folder: Path, data: Path, start: Path | None = None) -> tuple[Model, Card]:
    """The model of the run in ``folder``, whose store lies below ``data``; ``start``: the model that it began with.

    Raises:
        Misuse: it is no training run, or has not finished, or its store or what it began with is not there.
        Damaged: its weights are not as they were when it ended.
    """
    record = read_record(folder)
    if record.kind != "train" or record.status != "finished":
        raise Misuse(f"{folder} is a run of {record.kind} that is {record.status}: a finished training run is needed")
    if record.case["variant"] == cifar.VARIANT:
        raise Misuse(f"{folder} holds {record.case['name']}'s network: only AlexNets are made models of")
    spec = Spec(**{own.name: record.case[own.name] for own in fields(Spec) if own.name in record.case})
    tensors = read_tensors(check_file(folder, record, "weights.safetensors"))
    store = open_store(data / record.case["store"])
    crop = spec.network().input_shape[1]
    # (crop, crop, 3) as images lie on disk, (3, crop, crop) as networks read them.
    mean = np.ascontiguousarray(centre_of(store.train.mean, crop).transpose(2, 0, 1))
    if began := record.case.get("start"):
        # What it took off its images is that model's mean, and not its store's.
        if start is None:
            raise Misuse(f"{folder} began with a model, whose mean it takes off images: name it with --start")
        first, known = read_model(start)
        if known.sha256 != began:
            raise Misuse(f"the model in {start} is not the one that {folder} began with")
        mean = first.mean
    card = Card(
        network={},
        classes=store.manifest.classes,
        source=f"trained here: case {record.case['name']} on {store.manifest.name}, seed {record.seed}, "
        f"{record.backend} backend, placement {record.placement}, commit {record.commit or 'unknown'}",
    )
    names = spec.network().parameter_shapes()
    return Model(spec, {name: tensors[name].astype(np.float32) for name in names}, mean), card

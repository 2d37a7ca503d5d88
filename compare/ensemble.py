"""Several networks averaged (section 6, table 2): the errors of the mean of their predictions.

average.csv   by model, and of all averaged: top-1 and top-5 error on a store's test images
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compare.looks import opened
from paper.architecture import VARIANTS
from protocol.base.errors import Misuse
from protocol.base.tables import write_table
from protocol.runs.evaluation import errors

COLUMNS = ("outputs", "model", "store", "images", "views", "top1_error", "top5_error")
AVERAGED = "averaged"
MOST_COLUMNS = max(variant.columns for variant in VARIANTS.values())


def average(folders: Sequence[Path], data: Path, path: Path) -> list[dict[str, Any]]:
    """Write the errors of each model, from the folder that a backend's verb ``outputs`` wrote, and of their mean.

    Raises:
        Misuse: ``path`` is a folder, there are fewer than two, one is there twice, their stores or views differ, a
            store's labels are not what a model's classes are, or as :func:`looks.opened` says.
    """
    if path.is_dir():
        raise Misuse(f"--out {path} is a folder: name the table to write, such as {path / 'average.csv'}")
    if len(folders) < 2:
        raise Misuse("an average is of two models or more: name the folder of outputs of each")
    models: dict[str, Path] = {}
    found, whole, first = [], np.zeros(()), None
    for folder in folders:
        record, arrays, store = opened(folder, data, "test")
        if record.model in models:
            raise Misuse(f"{folder} and {models[record.model]} are outputs of one model: name each model once")
        models[record.model] = folder
        first = first or record
        if (record.store_digest, record.views) != (first.store_digest, first.views):
            raise Misuse(f"{folder} is of another store, or of more or fewer views, than {folders[0]}")
        likely, own = np.asarray(arrays["test_probabilities"]), store.manifest.classes
        # Two columns share the units of the last layer, so one may stand for no class.
        more = likely.shape[1] - len(own)
        if not 0 <= more < MOST_COLUMNS or (record.classes and record.classes != own):
            raise Misuse(f"{folder} holds probabilities of other classes than those of {record.store}")
        likely = likely[:, : len(own)]
        whole = whole + likely.astype(np.float64)
        told = {"store": record.store, "images": len(likely), "views": record.views}
        found.append({"outputs": str(folder), "model": record.model, **told} | _of(likely, store.test.labels))
    found.append({"outputs": AVERAGED, **told} | _of(whole / len(folders), store.test.labels))
    write_table(path, COLUMNS, found)
    return found


def _of(likely: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {name: value for name, value in errors(likely, np.asarray(labels)).items() if name in COLUMNS}

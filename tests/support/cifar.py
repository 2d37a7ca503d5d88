"""CIFAR-10 in both of its shapes, with few images a batch."""

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EACH = 20  # images a batch
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def batch(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (20, 3072) and labels (20,) of a batch."""
    random = np.random.default_rng(number)
    return random.integers(0, 256, (EACH, 3072), np.uint8), random.permutation(EACH) % len(NAMES)


def write_binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(BATCHES):
        rows, labels = batch(number)
        (folder / f"{name}.bin").write_bytes(np.column_stack([labels.astype(np.uint8), rows]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def write_python(folder: Path, protocol: int = 2) -> Path:
    """As the site's are: pickled by numpy of long ago, under its old name."""
    folder.mkdir(parents=True)

    def dump(name: str, value: Any) -> None:
        data = pickle.dumps(value, protocol)
        (folder / name).write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))

    for number, name in enumerate(BATCHES):
        rows, labels = batch(number)
        files = [f"{number}_{index}.png" for index in range(EACH)]
        dump(name, {"batch_label": "batch", "labels": labels.tolist(), "data": rows, "filenames": files})
    dump("batches.meta", {"num_cases_per_batch": EACH, "label_names": list(NAMES), "num_vis": 3072})
    return folder


def pack(folder: Path) -> Path:
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path

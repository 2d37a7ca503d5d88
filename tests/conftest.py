"""What all tests share: a small data store in the official format. No framework is imported here."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from protocol.datasets.store import write_store

# A loaded machine fails no test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

EDGE, CLASSES, TRAINING, TEST = 36, 20, 400, 70


def learnable_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 36, 36, 3) uint8 and labels: each class has a colour and a direction of stripes, under noise."""
    labels = np.arange(count, dtype=np.int64) % CLASSES
    colours = np.random.default_rng(7).uniform(40, 215, (CLASSES, 3))
    rows, columns = np.mgrid[:EDGE, :EDGE]
    angles = np.pi * np.arange(CLASSES) / CLASSES
    stripes = 35 * np.sin(0.8 * (np.cos(angles)[:, None, None] * rows + np.sin(angles)[:, None, None] * columns))
    noise = np.random.default_rng(seed).normal(0, 20, (count, EDGE, EDGE, 3))
    images = colours[labels][:, None, None] + stripes[labels][..., None] + noise
    return np.clip(images, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds ``photos-small``: 400 training and 70 test images of 20 classes."""
    folder = tmp_path_factory.mktemp("data")
    write(folder / "photos-small", learnable_images(TRAINING, 1), learnable_images(TEST, 2))
    return folder


@pytest.fixture(scope="session")
def full_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds ``photos-full``: 64 images of 256 x 256 to train on, of noise."""
    folder = tmp_path_factory.mktemp("full-data")
    images = np.random.default_rng(3).integers(0, 256, (68, 256, 256, 3), np.uint8)
    labels = np.arange(68, dtype=np.int64) % CLASSES
    write(folder / "photos-full", (images[:64], labels[:64]), (images[64:], labels[64:]))
    return folder


def write(folder: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> None:
    """A store of images and labels; four samples come from each tile."""
    arrays: dict[str, np.ndarray] = {}
    for name, (images, labels) in (("train", train), ("test", test)):
        arrays |= {f"{name}_images": images, f"{name}_labels": labels, f"{name}_tiles": np.arange(len(labels)) // 4}
    classes = [f"class {number}" for number in range(CLASSES)]
    write_store(folder, folder.name, classes, arrays, source="tests", colour_statistics={})

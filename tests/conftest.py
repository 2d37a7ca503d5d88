"""What all tests share: a small data store in the official format. No framework is imported here."""

from pathlib import Path

import numpy as np
import pytest

from protocol.datasets.store import write_store

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
    train, test = learnable_images(TRAINING, 1), learnable_images(TEST, 2)
    arrays = {
        "train_images": train[0],
        "train_labels": train[1],
        "train_tiles": np.arange(TRAINING) // 4,
        "test_images": test[0],
        "test_labels": test[1],
        "test_tiles": np.arange(TEST) // 4,
    }
    write_store(
        folder / "photos-small",
        "photos-small",
        [f"class {number}" for number in range(CLASSES)],
        arrays,
        source="tests",
        colour_statistics={},
    )
    return folder

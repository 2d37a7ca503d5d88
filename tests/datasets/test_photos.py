"""The embedded photographs: what the store promises about them."""

from pathlib import Path

import numpy as np
import pytest

from protocol.base.files import digest_file
from protocol.datasets.photos import CLASSES, EDITIONS, GREY, Edition, photographs, prepare
from protocol.datasets.store import Store, open_store

FEW = Edition("few", 36, 200, 60, 4, EDITIONS["small"].test_tiles, 0.4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("stores") / "photos-few"
    prepare(folder, FEW)
    return open_store(folder)


def test_there_are_twenty_real_photographs_in_the_wheels() -> None:
    found = list(photographs())
    assert len(found) == len(CLASSES) == 20
    for name, photograph in zip(CLASSES, found, strict=True):
        grey = bool((photograph.min(axis=2) == photograph.max(axis=2)).all())
        assert grey == (name in GREY), name
        assert min(photograph.shape[:2]) >= 170


def test_classes_share_each_part_evenly(store: Store) -> None:
    for split in (store.train, store.test):
        counts = np.bincount(split.labels, minlength=len(CLASSES))
        assert counts.max() - counts.min() <= 1


def test_training_and_test_crops_never_share_a_tile(store: Store) -> None:
    assert not set(store.train.tiles) & set(store.test.tiles)


def test_the_first_samples_are_a_fair_cut(store: Store) -> None:
    assert len(set(store.train.labels[:60].tolist())) > 15


def test_preparing_again_gives_the_same_bytes(store: Store, tmp_path: Path) -> None:
    again = prepare(tmp_path / "again", FEW)
    assert again.sha256 == store.manifest.sha256
    assert digest_file(tmp_path / "again" / "mean.npy") == store.manifest.sha256["mean.npy"]


def test_the_mean_image_is_the_training_sets(store: Store) -> None:
    assert np.allclose(store.train.mean, store.train.images.astype(np.float64).mean(axis=0), atol=1e-4)


def test_components_are_the_principal_ones(store: Store) -> None:
    pixels = store.train.images.reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels.T, bias=True)
    rebuilt = (store.train.components.T * store.train.variances) @ store.train.components
    assert np.allclose(rebuilt, covariance, rtol=1e-6)
    assert (np.diff(store.train.variances) <= 0).all()

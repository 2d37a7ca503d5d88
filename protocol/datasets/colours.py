"""The training set's mean image and principal colours, from sums that can be taken part by part (section 4.1)."""

from dataclasses import dataclass

import numpy as np

COMPONENT_DIGITS, VARIANCE_DIGITS = 9, 6  # after the point: far more than colours are shifted by
AT_ONCE = 64  # images


@dataclass(frozen=True)
class Sums:
    """Sums over pictures (edge, edge, 3) of 8 bits, in float64 that holds each of them exactly, in whichever order."""

    images: int
    total: np.ndarray  # (edge, edge, 3)
    products: np.ndarray  # (3, 3): of each pixel's colours with each other

    @classmethod
    def none(cls, edge: int) -> "Sums":
        return cls(0, np.zeros((edge, edge, 3)), np.zeros((3, 3)))

    @classmethod
    def of(cls, images: np.ndarray) -> "Sums":
        """The sums over images (N, edge, edge, 3) uint8."""
        found = cls.none(images.shape[1])
        for start in range(0, len(images), AT_ONCE):
            chunk = images[start : start + AT_ONCE].astype(np.float64)
            flat = chunk.reshape(-1, 3)
            found = add(found, cls(len(chunk), chunk.sum(axis=0), flat.T @ flat))
        return found


def add(one: Sums, other: Sums) -> Sums:
    return Sums(one.images + other.images, one.total + other.total, one.products + other.products)


def principal_colours(sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean image, and principal components and variances of the RGB values of all pixels."""
    pixels = sums.images * sums.total.shape[0] * sums.total.shape[1]
    centre = sums.total.sum(axis=(0, 1)) / pixels
    variances, vectors = np.linalg.eigh(sums.products / pixels - np.outer(centre, centre))
    components = vectors.T[::-1]
    # An eigenvector's sign is arbitrary: its largest entry is made positive, so that any library gives the same.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(3), largest])[:, None]
    # Nor are its last bits: two processors' libraries differ in them, and a store's digest with them.
    components, variances = np.round(components, COMPONENT_DIGITS), np.round(variances[::-1], VARIANCE_DIGITS)
    return (sums.total / sums.images).astype(np.float32), np.ascontiguousarray(components), np.maximum(variances, 0)

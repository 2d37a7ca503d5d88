"""The model that training begins with: its weights, and what it expects to be taken off images."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paper.architecture import Network
from protocol.base.errors import Misuse
from protocol.exchange.model import read_model


@dataclass(frozen=True)
class Start:
    """``tensors``: by canonical name, of the layers that are taken over."""

    tensors: dict[str, np.ndarray]
    taken_off: np.ndarray  # (3,) or (3, crop, crop), red first, of 0 to 255
    classes: tuple[str, ...] = ()  # what its last layer answers to, where that is known

    def mean(self, edge: int) -> np.ndarray:
        """What is taken off a stored image (edge, edge, 3) float32: a mean image goes on beyond its rim as it ends."""
        if self.taken_off.ndim == 1:
            return np.ascontiguousarray(np.broadcast_to(self.taken_off, (edge, edge, 3)), np.float32)
        image = self.taken_off.transpose(1, 2, 0)
        before = (edge - len(image)) // 2
        around = (before, edge - len(image) - before)
        return np.ascontiguousarray(np.pad(image, (around, around, (0, 0)), mode="edge"), np.float32)


def read_start(folder: Path, network: Network, digest: str, fresh: Collection[str]) -> Start:
    """The model in ``folder`` as what ``network`` begins with, but for the layers that are ``fresh``.

    Raises:
        Misuse: there is no model, it is not the one with this digest, or it does not fit the network.
    """
    model, card = read_model(folder)
    if card.sha256 != digest:
        raise Misuse(f"the model in {folder} is not the one that this run began with: name that one, or another --out")
    found = {name: value for name, value in model.tensors.items() if name.partition(".")[0] not in fresh}
    for name, shape in network.parameter_shapes().items():
        if name in found and found[name].shape != shape:
            raise Misuse(f"{folder} has {name} of shape {found[name].shape}, this network {shape}")
    return Start(found, model.mean, tuple(card.classes))

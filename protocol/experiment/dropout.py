"""Dropout masks as bits of a counter-based generator (section 4.2: each unit is kept with probability 1/2).

A mask depends on (seed, step, the sample's place in the global batch, layer) alone. Each device makes its own part,
whatever the placement; nothing travels, and a resumed run sees the masks that an uninterrupted one would have.
"""

import numpy as np

from paper.architecture import Network
from protocol.base.random_bits import WORDS_PER_BLOCK, Purpose, words

WORD_BITS = 64


def keep(seed: int, step: int, first: int, count: int, layer: int, units: int) -> np.ndarray:
    """Return which units survive, bool (count, units), for the samples at places ``first`` to ``first + count``.

    ``layer`` is the paper's number: 6 for fc6, 7 for fc7. ``units`` are those of the whole layer, both columns.
    """
    blocks = -(-units // (WORD_BITS * WORDS_PER_BLOCK))
    raw = words(seed, Purpose.DROPOUT, count * blocks * WORDS_PER_BLOCK, block=first * blocks, stream=(step, layer))
    bits = np.unpackbits(raw.astype("<u8").view(np.uint8).reshape(count, -1), axis=1, bitorder="little")
    return bits[:, :units].astype(bool)


def masks(network: Network, seed: int, step: int, first: int, count: int) -> dict[str, np.ndarray]:
    """The masks of every dropout layer of ``network``, by name, bool (count, units)."""
    return {
        layer.name: keep(seed, step, first, count, int(layer.name[-1]), layer.shape_out[0])
        for layer in network.dropouts()
    }

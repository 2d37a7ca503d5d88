"""Counter-based random bits: the value at any place depends on its key alone, never on what was drawn before.

Philox 4x64 yields four 64-bit words per *block*; its 256-bit counter names the block, its 128-bit key the seed and
what the bits are for. Only raw words are used: numpy keeps those the same between versions, its distributions not.
"""

from enum import IntEnum
from functools import lru_cache
from statistics import NormalDist

import numpy as np

WORDS_PER_BLOCK = 4
LEVELS = 1 << 16


class Purpose(IntEnum):
    """Second half of the key, so that no two uses share bits."""

    WEIGHTS = 1
    ORDER = 2
    PLACE = 3
    COLOUR = 4
    DROPOUT = 5
    ULP = 6
    CROPS = 7


def words(seed: int, purpose: Purpose, count: int, *, block: int = 0, stream: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return ``count`` random 64-bit words (count,) from block ``block`` of ``stream`` on.

    Consecutive blocks join without a gap: words(n) is words(4) followed by words(n - 4, block=1).
    """
    generator = np.random.Philox(key=[seed, purpose], counter=[block, 0, *stream])
    return generator.random_raw(count)


@lru_cache(maxsize=1)
def normal_levels() -> np.ndarray:
    """The standard normal distribution cut into 65,536 equally likely levels, float32 (65536,), mean 0, deviation 1.

    Level i is the quantile of (i + 1/2) / 65536: 16 random bits choose a level, so that a draw is a table look-up
    that no library's logarithm or cosine takes part in.
    """
    normal = NormalDist()
    upper = [normal.inv_cdf((LEVELS / 2 + i + 0.5) / LEVELS) for i in range(LEVELS // 2)]
    levels = np.array([-value for value in reversed(upper)] + upper)
    return (levels / levels.std()).astype(np.float32)


def normal(seed: int, purpose: Purpose, count: int, *, stream: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return ``count`` standard normal draws, float32 (count,)."""
    raw = words(seed, purpose, -(-count // 4), stream=stream)
    return normal_levels()[raw.view(np.uint16)[:count]]


def below(raw: np.ndarray, bound: int) -> np.ndarray:
    """Map 64-bit words to integers in [0, bound): the top 32 bits scaled, so the bias is under bound / 2^32."""
    return ((raw >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)

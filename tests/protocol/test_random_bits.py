"""Random bits are the same everywhere and for ever: another numpy that changed one would be noticed here."""

import hashlib
from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.base.random_bits import LEVELS, Purpose, below, normal, normal_levels, words

Key = tuple[int, Purpose, int, tuple[int, int]]  # seed, purpose, block, stream
PINNED: dict[Key, str] = {
    (0, Purpose.WEIGHTS, 0, (1, 0)): "956ea2e78a0c33ff",
    (1, Purpose.DROPOUT, 12, (5, 6)): "375018e265cf8049",
    (2**40, Purpose.ORDER, 0, (0, 0)): "3ec2242832f59482",
}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def draw(key: Key, count: int) -> np.ndarray:
    seed, purpose, block, stream = key
    return words(seed, purpose, count, block=block, stream=stream)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox 4x64 in whole numbers, after Salmon et al. (2011)."""
    c, k, full = list(counter), list(key), 2**64
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [second // full ^ c[1] ^ k[0], second % full, first // full ^ c[3] ^ k[1], first % full]
        k = [(k[0] + 0x9E3779B97F4A7C15) % full, (k[1] + 0xBB67AE8584CAA73B) % full]
    return c


@pytest.mark.parametrize("key", PINNED)
def test_words_are_pinned(key: Key) -> None:
    assert digest(draw(key, 4096)) == PINNED[key]


@pytest.mark.parametrize("key", PINNED)
def test_a_block_is_philox_of_its_number_and_key(key: Key) -> None:
    seed, purpose, block, stream = key
    # numpy moves its counter on before it makes a block.
    assert draw(key, 4).tolist() == philox([block + 1, 0, *stream], [seed, int(purpose)])


def test_normal_draws_are_pinned_bit_for_bit() -> None:
    assert digest(normal_levels()) == "8babbcaf96568f10"
    assert digest(normal(0, Purpose.WEIGHTS, 10_001, stream=(1, 0))) == "05a596f9be91c2d2"


@given(
    st.integers(0, 2**63 - 1),
    st.sampled_from(Purpose),
    st.integers(0, 2**40),
    st.integers(0, 20),
    st.integers(0, 50),
)
def test_blocks_join_without_a_gap(seed: int, purpose: Purpose, block: int, blocks: int, rest: int) -> None:
    stream = (3, 4)
    whole = words(seed, purpose, 4 * blocks + rest, block=block, stream=stream)
    start = words(seed, purpose, 4 * blocks, block=block, stream=stream)
    end = words(seed, purpose, rest, block=block + blocks, stream=stream)
    assert np.array_equal(whole, np.concatenate([start, end]))


def test_every_part_of_the_key_gives_other_words() -> None:
    keys: list[Key] = [
        (seed, purpose, 0, (a, b)) for seed in (0, 1) for purpose in Purpose for a in (0, 1) for b in (0, 1)
    ]
    drawn = np.concatenate([draw(key, 8) for key in keys])
    assert len(np.unique(drawn)) == len(drawn)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 2**20))
def test_below_scales_the_upper_half_of_a_word(raw: list[int], bound: int) -> None:
    assert below(np.array(raw, np.uint64), bound).tolist() == [(word >> 32) * bound >> 32 for word in raw]


def test_below_reaches_every_number_equally_often() -> None:
    found = np.bincount(below(words(5, Purpose.PLACE, 60_000), 6), minlength=6)
    assert found.sum() == 60_000
    # Six deviations of a binomial count.
    assert np.abs(found - 10_000).max() < 6 * sqrt(60_000 * 5 / 36)


def test_normal_levels_are_symmetric_with_mean_0_and_deviation_1() -> None:
    levels = normal_levels().astype(np.float64)
    assert levels.shape == (LEVELS,)
    assert np.array_equal(levels, -levels[::-1])
    assert (np.diff(levels) > 0).all()
    assert abs(levels.std() - 1) < 1e-7


@pytest.mark.parametrize("bound", [-2.0, -0.5, 0.0, 1.0, 3.0])
def test_draws_follow_the_normal_distribution(bound: float) -> None:
    expected = (1 + erf(bound / sqrt(2))) / 2
    levels = normal_levels()
    assert abs(float((levels < bound).mean()) - expected) < 1e-4
    draws = normal(9, Purpose.COLOUR, 40_000)
    assert draws.dtype == np.float32
    assert abs(float((draws < bound).mean()) - expected) < 6 * sqrt(expected * (1 - expected) / 40_000)

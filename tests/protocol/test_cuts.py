"""The even cut against every cut there is."""

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.placement.cuts import cut_evenly


@given(st.lists(st.floats(0, 9), min_size=4, max_size=8), st.integers(1, 4))
def test_no_cut_is_more_even(cost: list[float], runs: int) -> None:
    places = range(len(cost))
    found = cut_evenly(places, cost, runs)
    assert [place for run in found for place in run] == list(places)
    assert len(found) == runs
    assert all(found)

    def most(cuts: tuple[int, ...]) -> float:
        return max(sum(cost[start:end]) for start, end in pairwise((0, *cuts, len(cost))))

    least = min(map(most, combinations(places[1:], runs - 1)))
    assert abs(max(sum(cost[place] for place in run) for run in found) - least) < 1e-9

"""Falls of the learning rate that no plan knows beforehand: when the test error stalls, or by hand (section 5).

rate of a step = the case's * 10^-falls
"""

from collections.abc import Mapping, Sequence
from typing import Any

MOST = 3  # times that the rate falls by itself, as in the paper
BY_HAND = "fallen"  # in an entry of a run's history: how often by hand, from there on


def stalls(errors: Sequence[float], patience: int) -> int:
    """How often ``patience`` epochs in a row had no lower test error than all before; ``errors``: of each epoch."""
    lowest, waited, found = float("inf"), 0, 0
    for error in errors:
        lowest, waited = (error, 0) if error < lowest else (lowest, waited + 1)
        if waited == patience and found < MOST:
            found, waited = found + 1, 0
    return found


def falls(patience: int, epochs: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> int:
    """How often the rate has fallen besides where the case says; ``epochs`` and ``history``: a run's rows."""
    by_itself = stalls([row["top1_error"] for row in epochs if row["views"] == 1], patience) if patience else 0
    return by_itself + (history[-1].get(BY_HAND, 0) if history else 0)

"""Where the columns meet, what that costs and what it brings (section 3.2): error against bytes that cross.

Errors are of the narrow networks that were trained; bytes are those of the paper's full-size network with the same
layers crossing, there and back for one image; their share of a step is modelled, at the cards' link and the paper's
pace.
"""

from typing import Any

from compare.claims.arms import ARMS
from compare.claims.comparisons import CONNECTIVITY, measure
from compare.claims.evidence import Evidence
from compare.statistics import LEAST_SEEDS, effect_of
from paper.architecture import network
from paper.cards import CARDS
from paper.cost import crossing_floats, forward_macs, parameters
from paper.days import PAPER_DAYS, needed_speed
from paper.recipe import preset
from protocol.backends import BACKENDS

FLOAT_BYTES = 4
COLUMNS = (
    *("arm", "layers_crossing", "columns", "backend", "seeds", "test_error", "low", "high"),
    *("bytes_crossing", "share_of_step_modelled", "parameters", "products"),
)


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """The rows of ``connectivity.csv``: of each arm that has ended, mean test error, interval, and what crosses."""
    arms = {arm.name: arm for arm in ARMS}
    found = []
    for name in CONNECTIVITY:
        full = network(arms[name].variant or "two_column", preset("paper"))
        crossing = crossing_floats(full)
        # Forward the maps, backward their gradients.
        sent = 2 * FLOAT_BYTES * sum(crossing.values())
        for backend in BACKENDS:
            runs, _ = evidence.arm(backend, name)
            if len(runs) < LEAST_SEEDS or not evidence.is_whole(backend, name):
                continue
            errors = effect_of(measure(run, "test_error") for run in runs.values())
            found.append(
                {
                    "arm": name,
                    "layers_crossing": " ".join(crossing) or "none",
                    "columns": full.columns,
                    "backend": backend,
                    "seeds": len(runs),
                    "test_error": errors.mean,
                    "low": errors.low,
                    "high": errors.high,
                    "bytes_crossing": sent,
                    "share_of_step_modelled": sent / CARDS[0].link * needed_speed(PAPER_DAYS[0]),
                    "parameters": parameters(full),
                    "products": forward_macs(full),
                }
            )
    return found

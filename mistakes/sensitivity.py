"""How small a mistake the ladder finds.

A dial (:mod:`mistakes.dials`) is turned so far that its effect is plain. How many tolerances that comes to tells
at which size it would be one: three times as far it must be found, a third as far it should not be.
"""

from typing import Any

PLAIN = 1e-10  # relative, of what the dial changes; little enough that no choice of a maximum or a ReLU tips over
LARGER, SMALLER = 3.0, 1 / 3  # times the size that comes to one tolerance


def sensitivity(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a dial and backend, from those of ``power.csv``: the smallest size that was found, and the largest that was
    not."""
    found = []
    for key in dict.fromkeys((row["mistake"], row["backend"]) for row in rows):
        own = [row for row in rows if (row["mistake"], row["backend"]) == key]
        seen, unseen = ([row for row in own if row["found"] is is_found] for is_found in (True, False))
        smallest = min(seen, key=lambda row: row["size"], default=None)
        found.append(
            {
                "mistake": key[0],
                "backend": key[1],
                "smallest_found": smallest["size"] if smallest else "",
                "tolerances": smallest["share"] if smallest else "",
                "rung": smallest["rung"] if smallest else "",
                "quantity": smallest["quantity"] if smallest else "",
                "largest_missed": max((row["size"] for row in unseen), default=""),
            }
        )
    return found

"""Placements as users write them: ``single``, ``columns``, ``stages``, ``replicas``, or ``columns=2,stages=2``."""

import re
from dataclasses import dataclass
from math import prod

from paper.names import unknown
from protocol.base.errors import Misuse

AXES = ("columns", "stages", "replicas")
MOST = 64  # of an axis


@dataclass(frozen=True)
class Grid:
    """How many columns, pipeline stages and replicas the network lies in."""

    columns: int = 1
    stages: int = 1
    replicas: int = 1

    @classmethod
    def parse(cls, placement: str) -> "Grid":
        """The grid that ``placement`` names; an axis without a number has two.

        Raises:
            Misuse: it names none.
        """
        counts: dict[str, int] = {}
        for part in placement.split(",") if placement != "single" else ():
            found = re.fullmatch(rf"({'|'.join(AXES)})(?:=(\d{{1,2}}))?", part)
            count = int((found and found[2]) or 2)
            if not found or found[1] in counts or not 1 <= count <= MOST:
                known = ("single", *AXES, "products such as columns=2,stages=2")
                raise Misuse(unknown("placement", placement, known))
            counts[found[1]] = count
        return cls(**counts)

    @property
    def devices(self) -> int:
        return prod(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def several(self) -> list[str]:
        """The axes along which there is more than one."""
        return [axis for axis, count in self.counts.items() if count > 1]

    @property
    def name(self) -> str:
        """The shortest way to write it."""
        if len(self.several) == 1 and self.devices == 2:
            return self.several[0]
        return ",".join(f"{axis}={self.counts[axis]}" for axis in self.several) or "single"

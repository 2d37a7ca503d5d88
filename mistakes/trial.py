"""One trial of the ladder: what is planted, in which backend, with which settings, and what came of it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compare import ladder
from compare.audit.power import ALONE, NOTHING, SMALL, WITH_ORACLE
from compare.load import RunFolder, Runs
from mistakes.catalogue import CRASH, CRASH_NOTE, Mistake
from mistakes.shared import MICRO_BATCH
from protocol.backends import BACKENDS
from protocol.runs.record import read_record

POWER = Path("results/power")
RUNS = POWER / "runs"
STORES = Path("results/stores")


def slug(text: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


@dataclass(frozen=True)
class Trial:
    """``mistake`` None: nothing is planted, and the placement alternates with the seed.

    ``size`` turns the mistake's dial so far; ``sought``: it is large enough that it must be found.
    """

    backend: str
    mistake: Mistake | None
    seed: int = 0
    size: float = 0.0
    sought: bool = True

    @property
    def chosen(self) -> Mistake:
        return self.mistake or Mistake(NOTHING, ())

    @property
    def placement(self) -> str:
        if self.mistake is None:
            return BACKENDS[self.backend].split if self.seed % 2 else "single"
        return self.mistake.placement or (BACKENDS[self.backend].split if self.mistake.split else "single")

    @property
    def oracle(self) -> Path:
        chosen = self.chosen
        fooled = slug(chosen.name) if chosen.fools_oracle else ""
        return RUNS / "oracle" / fooled / f"{chosen.case}-{chosen.preset}" / f"seed{self.seed}"

    @property
    def out(self) -> Path:
        name = slug(self.mistake.name) if self.mistake else NOTHING
        return RUNS / self.backend / (f"{name}-{self.size:.3g}" if self.size else name) / f"seed{self.seed}"

    @property
    def group(self) -> tuple[int, bool]:
        """Trials that one process can carry out: on so many devices, with operators compiled or not."""
        return 1 if self.placement == "single" else 2, bool(self.mistake and self.mistake.compiled)

    def planned(self) -> dict[str, Any]:
        """The trial as :mod:`mistakes.climb` reads it."""
        chosen = self.chosen
        settings: dict[str, Any] = {"preset": chosen.preset, "seed": self.seed, "placement": self.placement}
        if chosen.resumes:
            settings["precision"] = "fp64"
        else:
            settings["readings"] = self._readings()
        if BACKENDS[self.backend].cuts_always:
            settings["micro_batch"] = MICRO_BATCH
        return {
            "plant": "" if self.mistake is None or chosen.dial else chosen.plant or chosen.name,
            "dial": chosen.dial,
            "size": self.size,
            "resumes": chosen.resumes,
            "case": chosen.case,
            "settings": settings,
            "data": str(STORES),
            "oracle": str(self.oracle),
            "out": str(self.out),
        }

    def _readings(self) -> str:
        if self.mistake is None:
            return "fp64,imposed,free"
        # Float64 sees the others with more digits, on the same rung.
        return "fp64,free" if self.mistake.in_float32 else "fp64"

    def judged(self) -> dict[str, Any]:
        """A row of ``power.csv``."""
        row = {"mistake": NOTHING, "backend": self.backend, "kind": "", "size": "", "share": "", "seed": self.seed}
        if self.mistake:
            row |= {"mistake": self.mistake.name, "kind": self.kind, "expected": " or ".join(self.mistake.named)}
        if self.size:
            row["size"] = self.size
        if (self.out / CRASH_NOTE).is_file():
            note = (self.out / CRASH_NOTE).read_text()
            found = {"rung": CRASH, "quantity": "", "named": note}
        else:
            table = self.table()
            row["share"] = farthest(table)
            first = ladder.first_divergence(table)
            found = {"rung": "", "quantity": "", "named": ""}
            if first:
                apart = f"{first['difference']:.1e} against {first['tolerance']:.1e}"
                named = f"{first['quantity']} {first['reading']}: {apart}, {first['where']}"
                found = {"rung": first["rung"], "quantity": first["quantity"], "named": named}
        seen = bool(found["rung"])
        if self.mistake is None or not self.sought:
            right = not seen
        else:
            right = seen and f"{found['rung']}: {found['named']}".startswith(self.mistake.named or "")
        return {**row, **found, "found": seen, "as_expected": right}

    @property
    def kind(self) -> str:
        if self.mistake and self.mistake.fools_oracle:
            return WITH_ORACLE
        return SMALL if self.size else ALONE

    def table(self) -> Any:
        """The rows of ``ladder.csv`` of this trial and the oracle that it was compared with."""
        pair = (RunFolder(path, RUNS, read_record(path)) for path in (self.oracle, self.out))
        return ladder.table(ladder.rows(Runs(tuple(pair))))

    def turned(self, size: float, *, sought: bool) -> "Trial":
        return dataclasses.replace(self, size=size, sought=sought)

    def share(self) -> float:
        """How many tolerances the farthest quantity of the float64 reading is off, of those that have one."""
        return farthest(self.table())


def farthest(table: Any) -> float:
    """How many tolerances the farthest quantity of the float64 reading in a ``ladder.csv`` is off."""
    rows = table[table["reading"].isin(("fp64", "resumed")) & (table["tolerance"] > 0)]
    return float((rows["difference"] / rows["tolerance"]).max())

"""What the audit says of a claim, and what it is said from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from compare.audit.arithmetic import Arithmetic
from compare.ladder import Row
from compare.load import RunFolder, Runs
from paper.claims import Claim
from protocol.backends import DEEPSPEED
from protocol.experiment.cases import find_case, what


class Verdict(StrEnum):
    REPRODUCED = "reproduced"
    CONSISTENT = "consistent at small scale"
    OPPOSITE = "opposite at small scale"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested here"


@dataclass(frozen=True)
class Finding:
    """What the audit says of one claim. ``measured``: by backend, as a reader sees it; empty for pure arithmetic."""

    verdict: Verdict
    measured: dict[str, str] = field(default_factory=dict)
    interval_low: float | None = None
    interval_high: float | None = None
    seeds: int | None = None
    evidence: str = ""
    reason: str = ""
    test_further: str = ""
    source: str = ""  # whose runs it comes from, where they are not this audit's own


@dataclass(frozen=True)
class Evidence:
    """All that verdicts are made from."""

    runs: Runs
    parity: list[Row]
    claims: dict[str, Claim]
    numbers: Arithmetic

    def bench(self, backend: str, placement: str, variant: str = "two_column") -> RunFolder | None:
        """The bench run of the audit's own batch; one at another batch is no match for it."""
        asked = what(find_case("full", variant=variant).content())
        found = [
            run
            for run in self.runs.of("bench", backend=backend)
            if run.record.placement == placement and what(run.record.case) == asked
        ]
        return found[0] if found else None

    def told(self, name: str) -> dict[str, list[object]]:
        """What the parity runs of each backend found out under ``name``, besides their distances from the oracle."""
        found: dict[str, list[object]] = {}
        for run in self.runs.of("parity"):
            if name in run.record.result:
                found.setdefault(run.record.backend, []).append(run.record.result[name])
        return found


Rule = Callable[[Evidence, Claim], Finding | None]  # None: there is nothing to decide it by
RULES: dict[str, Rule] = {}


def at_full_scale(claim: Claim) -> str:
    """The commands that train the paper's network on the images of a claim: those of 2012, but where it says 2010."""
    year, store = "", ""
    if "ILSVRC-2010" in claim.statement:
        year = " --year 2010"
        store = f" --store imagenet-2010 --out results/runs/{DEEPSPEED.name}/imagenet-2010"
    return (
        f"nox -s prepare -- imagenet FOLDER{year}, then nox -s {DEEPSPEED.name} -- train --case imagenet{store} "
        "--placement stages --devices gpu:0,gpu:1"
    )


def rule(name: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


def untested(claim: Claim, needs: str = "") -> Finding:
    """What is missing, and the command, or the work, that would bring it."""
    reasons = {
        "T": "its runs over seeds (nox -s claims) are not all in",
        "F": "needs ImageNet and accelerators",
        "shown": "shown, not scored",
        "measured": "needs a bench run of each backend",
        "E": "needs a parity run of each backend",
    }
    kind = next(letter for letter in reasons if letter in claim.tests)
    scale = "" if "nox -s" in claim.how else f" {at_full_scale(claim)}"
    further = {"T": claim.how, "shown": claim.how, "F": f"{claim.how}{scale}"}.get(kind, "nox -s audit")
    return Finding(Verdict.NOT_TESTED, reason=needs or reasons[kind], test_further=further)

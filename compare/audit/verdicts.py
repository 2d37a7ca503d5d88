"""One verdict a claim: from this run's records, the layer table, and what the claims' own runs came to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

# Their rules register themselves.
from compare.audit import cifar_claims, exact_claims, imagenet_claims, measured_claims
from compare.audit.arithmetic import computed
from compare.audit.findings import RULES, Evidence, Finding, Verdict, untested
from compare.audit.trained_claims import Trained
from compare.ladder import Row
from compare.load import Runs
from paper.claims import Claim, load_claims
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse

__all__ = [
    "RULES",
    "Evidence",
    "Finding",
    "Verdict",
    "cifar_claims",
    "exact_claims",
    "gather",
    "imagenet_claims",
    "judge",
    "measured_claims",
    "rows",
]


def judge(evidence: Evidence, trained: Trained) -> dict[str, Finding]:
    """A finding for every claim, in the order of ``claims.toml``.

    Raises:
        Misuse: a rule is for no claim, or a claim that needs a rule has none.
    """
    check_rules(evidence.claims)
    return {name: _judge(evidence, trained, claim) for name, claim in evidence.claims.items()}


def check_rules(claims: Mapping[str, Claim]) -> None:
    """See that rules and claims are for each other: a misspelt one would be left out in silence.

    Raises:
        Misuse: one is not.
    """
    for name in RULES:
        if name not in claims:
            raise Misuse(f'@rule("{name}") is for no claim: {unknown("claim", name, claims)}')
    for name, claim in claims.items():
        decided = {"E", "measured"} & set(claim.tests)
        if decided and name not in RULES:
            raise Misuse(
                f"claim {name} is decided by {' and '.join(sorted(decided))}, but has no rule: write one in "
                f'compare/audit/, decorated @rule("{name}")'
            )


def _judge(evidence: Evidence, trained: Trained, claim: Claim) -> Finding:
    found = RULES[claim.id](evidence, claim) if claim.id in RULES else None
    if claim.id in trained.rows and (found is None or found.verdict is Verdict.INCONCLUSIVE):
        own, found = found, trained.finding(claim)
        if own:  # measured as the claim is, though it settles nothing
            measured = ", ".join(f"{backend} {text}" for backend, text in own.measured.items())
            found = replace(found, reason=f"{found.reason}; on the claim's own data: {measured} ({own.reason})")
    return found or untested(claim)


def rows(evidence: Evidence, trained: Trained) -> list[dict[str, Any]]:
    """The rows of ``verdicts.csv``."""
    found = []
    for name, finding in judge(evidence, trained).items():
        claim = evidence.claims[name]
        found.append(
            {
                "claim": name,
                "section": claim.section,
                "statement": claim.statement,
                "paper": claim.paper,
                "record_2012": claim.record_2012,
                "retrained": claim.retrained,
                **{backend: finding.measured.get(backend, "") for backend in BACKENDS},
                "unit": claim.unit,
                "interval_low": finding.interval_low,
                "interval_high": finding.interval_high,
                "seeds": finding.seeds,
                "verdict": finding.verdict.value,
                "evidence": finding.evidence,
                "test_further": finding.test_further,
                "reason": finding.reason,
                "caveat": claim.caveat,
                "primary": claim.primary,
                "source": finding.source,
            }
        )
    return found


def gather(runs: Runs, parity: list[Row]) -> Evidence:
    return Evidence(runs, parity, load_claims(), computed())

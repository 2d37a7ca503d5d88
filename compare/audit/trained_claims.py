"""Claims that training at small scale tests: a direction, at the 5 % level over seeds, in both backends."""

from compare.audit.effects import LEAST_SEEDS, LEVEL, Effect, censored, effect_of, holm, left_out, paired_effect
from compare.audit.findings import AT_FULL_SCALE, Evidence, Finding, Verdict, rule, untested
from compare.load import RunFolder, Runs
from paper.claims import Claim
from protocol.backends import BACKENDS
from protocol.experiment.cases import ACCURACY_MARGIN, what


def effects_of(evidence: Evidence, claim: Claim) -> dict[str, Effect]:
    """By backend, of those with enough seeds."""
    found = {backend: paired_effect(evidence.runs, backend, claim) for backend in BACKENDS}
    return {backend: effect for backend, effect in found.items() if effect}


def adjusted(evidence: Evidence) -> dict[str, float]:
    """Holm's p-values over the primary claims that both backends tested.

    A claim's own is the larger of its backends': both have to show it.
    """
    values = {}
    for name, claim in evidence.claims.items():
        if claim.primary and claim.expects:
            effects = effects_of(evidence, claim)
            if len(effects) == len(BACKENDS):
                values[name] = max(effect.p for effect in effects.values())
    return holm(values)


def direction(effects: dict[str, Effect], claim: Claim, primary: dict[str, float]) -> Verdict:
    """What both backends say together; a primary claim must hold after Holm's correction, too."""
    if claim.primary and primary.get(claim.id, 1.0) > LEVEL:
        return Verdict.INCONCLUSIVE
    return together(effects)


def together(effects: dict[str, Effect]) -> Verdict:
    """The direction that both backends show; where one does not, nothing is decided."""
    directions = {effect.direction for effect in effects.values()}
    if directions == {1}:
        return Verdict.CONSISTENT
    return Verdict.OPPOSITE if directions == {-1} else Verdict.INCONCLUSIVE


def trained(evidence: Evidence, claim: Claim) -> Finding:
    """The verdict of a claim that names what it compares."""
    effects = effects_of(evidence, claim)
    flag = f"--case {claim.case}" if claim.case else f"--variant {claim.variant}"
    first, *others = BACKENDS.values()
    further = (
        f"nox -s {first.name} -- train --case photos --seed K and nox -s {first.name} -- train {flag} --seed K, for "
        f"K = {first.accuracy_seeds[0]} to {first.accuracy_seeds[11]}"
    )
    for other in others:
        further += f"; likewise {other.name}, for K = {other.accuracy_seeds[0]} to {other.accuracy_seeds[11]}"
    if "F" in claim.tests:
        further += f"; at the paper's scale: {AT_FULL_SCALE}"
    if len(effects) < len(BACKENDS):
        needs = "needs paired runs of three seeds or more in both backends, which this profile does not make"
        return Finding(Verdict.NOT_TESTED, reason=needs, test_further=further)
    verdict = direction(effects, claim, adjusted(evidence))
    return Finding(
        verdict,
        {backend: effect.text for backend, effect in effects.items()},
        interval_low=min(effect.low for effect in effects.values()),
        interval_high=max(effect.high for effect in effects.values()),
        seeds=min(effect.seeds for effect in effects.values()),
        evidence="accuracy.csv",
        reason="; ".join(_remarks(evidence, claim, effects, verdict)),
        test_further=further,
    )


def _detectable(effects: dict[str, Effect]) -> str:
    smallest = max(effect.detectable for effect in effects.values())
    if not smallest:
        return "all seeds differ by the same, so their spread tells nothing of what they could have shown"
    return f"the smallest effect that these seeds would show with power .8 is {smallest:.3g}"


def _remarks(evidence: Evidence, claim: Claim, effects: dict[str, Effect], verdict: Verdict) -> list[str]:
    found = []
    never = {backend: censored(evidence.runs, backend, claim) for backend in effects}
    nobody = any(count and count == of for count, of in never.values())
    if nobody:
        found.append("no run of a backend got there in its epochs, so nothing can be told of how long it takes")
    if verdict is Verdict.INCONCLUSIVE and not nobody:
        found.append(_detectable(effects))
        if len({effect.direction for effect in effects.values()} - {0}) > 1:
            found.append("the backends differ, which is a finding of its own")
    if claim.expects == "top1_error":
        margin = max(effect.equivalence for effect in effects.values())
        alike = "equivalent" if margin <= ACCURACY_MARGIN else "not shown to be equivalent"
        allowed, shown = f"{100 * ACCURACY_MARGIN:.0f}", f"{100 * margin:.1f}"
        found.append(f"{alike} within {allowed} points (within {shown}, two one-sided tests)")
    if any(count for count, _ in never.values()):
        runs = ", ".join(f"{count} of {of} in {backend}" for backend, (count, of) in never.items())
        found.append(f"runs that never got there, and count as if they had at their end: {runs}")
    lost = {backend: left_out(evidence.runs, backend, claim) for backend in effects}
    if any(lost.values()):
        runs = ", ".join(f"{count} in {backend}" for backend, count in lost.items() if count)
        found.append(f"runs that diverged, and have no figure to compare: {runs}")
    if claim.primary:
        found.append(f"p = {adjusted(evidence).get(claim.id, 1.0):.2g} after Holm, over the primary claims")
    else:
        found.append("exploratory")
    return found


@rule("one-patch")
def _one_patch(evidence: Evidence, claim: Claim) -> Finding:
    """Ten views against one, of the same weights: every training run that was tested with both is a pair by itself."""
    found: dict[str, Effect] = {}
    for backend in BACKENDS:
        gains = _gains(evidence.runs, backend)
        if len(gains) >= LEAST_SEEDS:
            found[backend] = effect_of(gains.values())
    if len(found) < len(BACKENDS):
        needs = (
            f"at small scale: needs {LEAST_SEEDS} seeds or more of one case in both backends, which nox -s ladder -- "
            "--rung accuracy makes"
        )
        return untested(claim, needs)
    verdict = together(found)
    reason = "test error of one view less that of ten, as a share, of the same weights"
    if verdict is Verdict.INCONCLUSIVE:
        reason += f"; {_detectable(found)}"
    return Finding(
        verdict,
        {backend: effect.text for backend, effect in found.items()},
        interval_low=min(effect.low for effect in found.values()),
        interval_high=max(effect.high for effect in found.values()),
        seeds=min(effect.seeds for effect in found.values()),
        evidence="accuracy.csv",
        reason=reason,
        test_further=f"{claim.how} {AT_FULL_SCALE}",
    )


def _gains(runs: Runs, backend: str) -> dict[int, float]:
    """By seed, what ten views gain in the case of which there are most seeds."""
    cases: list[tuple[dict[str, object], dict[int, list[RunFolder]]]] = []
    for run in runs.of("train", backend=backend):
        if 10 not in run.table("epochs")["views"].to_numpy():
            continue
        own = what(run.record.case)
        known = next((seeds for case, seeds in cases if case == own), None)
        if known is None:
            known = {}
            cases.append((own, known))
        known.setdefault(run.record.seed, []).append(run)
    seeds = max((seeds for _, seeds in cases), key=len, default={})

    def error(run: RunFolder, views: int) -> float:
        epochs = run.table("epochs")
        return float(epochs.loc[epochs["views"] == views, "top1_error"].iloc[-1])

    return {seed: sum(error(run, 1) - error(run, 10) for run in own) / len(own) for seed, own in seeds.items()}

"""One verdict a claim, from this run's records and the layer table alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from math import log2
from typing import Any

import numpy as np

from compare import memory, scaling
from compare.load import RunFolder, Runs
from compare.parity import Row
from compare.trained import Effect, paired_effect
from paper.architecture import Activation, network
from paper.claims import Claim, load_claims
from paper.cost import busiest_column_train_flops, crossing_bytes, neurons, parameters, train_flops, weights
from paper.recipe import PRESETS
from protocol.reference import Pass, carry_out


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


@dataclass(frozen=True)
class Evidence:
    """All that verdicts are made from."""

    runs: Runs
    parity: list[Row]
    claims: dict[str, Claim]

    def bench(self, backend: str, placement: str, variant: str = "two_column") -> RunFolder | None:
        found = [
            run
            for run in self.runs.of("bench", backend=backend)
            if run.record.placement == placement and run.variant == variant
        ]
        return found[0] if found else None


Rule = Callable[[Evidence, Claim], Finding]
RULES: dict[str, Rule] = {}
PAPER = PRESETS["paper"]
AT_FULL_SCALE = (
    "nox -s prepare -- imagenet --train FOLDER --validation FOLDER, then "
    "nox -s deepspeed -- train --case imagenet --placement stages --devices gpu:0,gpu:1"
)
TWO_COLUMN, HALF, MERGED = (network(name, PAPER) for name in ("two_column", "half", "merged"))


def rule(name: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


def judge(evidence: Evidence) -> dict[str, Finding]:
    """A finding for every claim, in the order of ``claims.toml``."""
    return {name: _judge(evidence, claim) for name, claim in evidence.claims.items()}


def _judge(evidence: Evidence, claim: Claim) -> Finding:
    if claim.id in RULES:
        return RULES[claim.id](evidence, claim)
    if claim.expects:
        return _trained(evidence, claim)
    return _untested(claim)


def _exact(holds: bool, text: str, where: str = "paper/cost.py") -> Finding:
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, evidence=where, reason=text)


def _within(claim: Claim, value: float, stated: float) -> bool:
    assert claim.tolerance is not None
    return abs(value - stated) <= claim.tolerance * stated


def _untested(claim: Claim) -> Finding:
    reasons = {
        "T": "needs runs over many seeds that this profile does not make",
        "F": "needs ImageNet and accelerators",
        "shown": "shown, not scored",
        "measured": "needs a bench run of each backend",
    }
    kind = next(letter for letter in reasons if letter in claim.tests)
    further = {"F": f"{claim.how} {AT_FULL_SCALE}", "measured": "nox -s audit"}.get(kind, claim.how)
    return Finding(Verdict.NOT_TESTED, reason=reasons[kind], test_further=further)


# --- exact claims ---------------------------------------------------------------------------------------------------


@rule("params")
def _params(evidence: Evidence, claim: Claim) -> Finding:
    exact = parameters(TWO_COLUMN)
    counted: dict[str, str] = {}
    agree = _within(claim, exact, 60e6)
    for backend in evidence.runs.backends():
        run = evidence.bench(backend, "single")
        if run:
            total = sum(run.record.parameters.values())
            counted[backend] = f"{total:,}"
            agree = agree and total == exact
    verdict = Verdict.REPRODUCED if agree else Verdict.CONTRADICTED
    return Finding(verdict, counted, evidence="parity.csv, rung counts", reason=f"layer table: {exact:,}")


@rule("neurons")
def _neurons(evidence: Evidence, claim: Claim) -> Finding:
    total = sum(neurons(TWO_COLUMN).values())
    return _exact(_within(claim, total, 650_000), f"{total:,}")


@rule("neurons-layers")
def _neurons_layers(evidence: Evidence, claim: Claim) -> Finding:
    stated = [253_440, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    found = list(neurons(TWO_COLUMN).values())
    differ = [
        f"conv{i}: {ours:,}" for i, (ours, theirs) in enumerate(zip(found, stated, strict=True), 1) if ours != theirs
    ]
    return _exact(not differ, "; ".join(differ) or "all equal")


@rule("conv-share")
def _conv_share(evidence: Evidence, claim: Claim) -> Finding:
    total = parameters(TWO_COLUMN)
    shares = {
        layer.name: (weights(layer) + layer.bias_shape[0]) / total
        for layer in TWO_COLUMN.weighted()
        if layer.name.startswith("conv")
    }
    over = [f"{name} {share:.3%}" for name, share in shares.items() if share > 0.01]
    return _exact(not over, ", ".join(over) or "all within 1 %")


@rule("geometry")
def _geometry(evidence: Evidence, claim: Claim) -> Finding:
    by_floor = {size: (size - 11) // 4 + 1 for size in (224, 227)}
    by_ceil = network("two_column", PRESETS["chm-145"]).layers[0].shape_out[1]
    text = f"224 gives {by_floor[224]} by floor, {by_ceil} by ceil; 227 gives {by_floor[227]}"
    return _exact(by_floor[224] == 55, text, "paper/architecture.py")


@rule("crops")
def _crops(evidence: Evidence, claim: Claim) -> Finding:
    places = (256 - 224 + 1) ** 2 * 2
    return _exact(places == 2048, f"{places}", "arithmetic: 33 x 33 places x 2")


@rule("bits")
def _bits(evidence: Evidence, claim: Claim) -> Finding:
    return _exact(_within(claim, log2(1000), 10), f"{log2(1000):.3f}", "arithmetic: log2 1000")


@rule("half-net")
def _half_net(evidence: Evidence, claim: Claim) -> Finding:
    half, whole = parameters(HALF), parameters(TWO_COLUMN)
    return _exact(_within(claim, half, whole), f"{half:,} against {whole:,} ({half / whole - 1:+.1%})")


@rule("pool-dims")
def _pool_dims(evidence: Evidence, claim: Claim) -> Finding:
    rows = (55, 27, 13)
    overlapping = [(size - 3) // 2 + 1 for size in rows]
    by_floor = [(size - 2) // 2 + 1 for size in rows]
    by_ceil = [-(-(size - 2) // 2) + 1 for size in rows]
    text = f"z=3: {overlapping}; z=2: {by_floor} by floor, {by_ceil} by ceil"
    return _exact(by_floor == overlapping, f"{text}; it holds only where partial windows are dropped", "arithmetic")


@rule("fits-3gb")
def _fits(evidence: Evidence, claim: Claim) -> Finding:
    table = memory.fits()
    ours = table[table["variant"] == "two_column"]
    one, two = (ours[ours["devices"] == count].set_index("policy") for count in (1, 2))
    says = {policy: not one.loc[policy, "fits_3_gib"] and two.loc[policy, "fits_3_gib"] for policy in one.index}
    text = "; ".join(
        f"{policy} policy: {one.loc[policy, 'modelled_bytes'] / 2**30:.2f} GiB on one, "
        f"{two.loc[policy, 'modelled_bytes'] / 2**30:.2f} on each of two"
        for policy in one.index
    )
    if all(says.values()):
        verdict = Verdict.REPRODUCED
    else:
        verdict = Verdict.INCONCLUSIVE if any(says.values()) else Verdict.CONTRADICTED
    reason = f"modelled at batch 128: {text}"
    return Finding(verdict, evidence="fits_3gb.csv; memory.csv (measured at batch 32)", reason=reason)


@rule("comm-fraction")
def _comm_fraction(evidence: Evidence, claim: Claim) -> Finding:
    sent = {name: crossing_bytes(network(name, PAPER)) for name in ("no_crossing", "two_column", "cross_everywhere")}
    rises = sent["no_crossing"] < sent["two_column"] < sent["cross_everywhere"]
    text = ", ".join(f"{name} {size:,} bytes" for name, size in sent.items())
    # Modelled: there and back over PCIe 2.0 at 8 GB/s, against five to six days' pace on two cards.
    share = [2 * sent["two_column"] / 8e9 * scaling.CYCLES * scaling.IMAGES / (d * 86_400) for d in scaling.PAPER_DAYS]
    reason = f"{text} an image; of the paper's step {min(share):.1%} to {max(share):.1%} at 8 GB/s (modelled)"
    verdict = Verdict.REPRODUCED if rises else Verdict.CONTRADICTED
    return Finding(verdict, evidence="paper/cost.py", reason=reason)


@rule("val-test")
def _val_test(evidence: Evidence, claim: Claim) -> Finding:
    worst = max(abs(validation - test) for validation, test in ((16.4, 16.4), (15.4, 15.3)))
    return _exact(round(worst, 3) <= 0.1, f"{worst:.1f}", "Table 2's pairs")


@rule("notes-relu-grad")
def _relu_gradient(evidence: Evidence, claim: Claim) -> Finding:
    values = _relu_gradients(np.array([-100.0, -1.0, -1e-9, 1e-9, 1.0, 100.0]))
    return _exact(set(values) == {0.0, 1.0}, "0 or 1", "protocol/reference.py")


@rule("notes-relu-large")
def _relu_large(evidence: Evidence, claim: Claim) -> Finding:
    values = _relu_gradients(np.array([1.0, 10.0, 100.0]))
    grows = bool((np.diff(values) > 0).all())
    return _exact(grows, f"{values.tolist()} at 1, 10, 100", "protocol/reference.py")


def _relu_gradients(at: np.ndarray) -> np.ndarray:
    shape = (len(at), 1, 1)
    _, backward = carry_out(Activation("relu", shape, shape, 1), at.reshape(1, *shape), Pass({}))
    return backward(np.ones((1, *shape))).ravel()


@rule("notes-channels")
def _notes_channels(evidence: Evidence, claim: Claim) -> Finding:
    split, doubled = parameters(TWO_COLUMN), parameters(MERGED)
    return _exact(split == doubled, f"{split:,} against {doubled:,} parameters")


# Rungs whose quantities the network computes, none of them given to it.
COMPUTED = ("forward", "loss", "gradients", "update", "test")


# --- measured claims ------------------------------------------------------------------------------------------------


@rule("notes-one-gpu")
def _notes_one_gpu(evidence: Evidence, claim: Claim) -> Finding:
    """Grouped on one device and split over two, each against the oracle in float64, five updates included."""
    split = {"gluon": "columns", "deepspeed": "stages"}
    text: dict[str, str] = {}
    holds = True
    for backend in evidence.runs.backends():
        rows = [r for r in evidence.parity if r["left"].split()[0] == backend and r["reading"] == "fp64"]
        rows = [r for r in rows if r["rung"] in COMPUTED]
        seen = {row["left"].split()[1] for row in rows}
        if not {"single", split[backend]} <= seen:
            continue
        holds = holds and all(row["agrees"] for row in rows)
        text[backend] = f"{max(row['difference'] for row in rows):.0e} at most, one device or two"
    if "gluon" not in text:
        return Finding(Verdict.NOT_TESTED, reason="needs the gluon backend's columns", test_further="nox -s audit")
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, text, evidence="parity.csv, reading fp64")


@rule("days")
def _days(evidence: Evidence, claim: Claim) -> Finding:
    shares = [scaling.needed_share_of_peak(days) for days in scaling.PAPER_DAYS]
    text: dict[str, str] = {}
    for backend in evidence.runs.backends():
        speeds = [
            scaling.speed(run)[0] for run in evidence.runs.of("bench", backend=backend) if run.variant == "two_column"
        ]
        if speeds:
            text[backend] = f"{scaling.days(max(speeds)):.0f} days on this machine's processor"
    reason = f"no GTX 580 here; five to six days need {shares[1]:.1%} to {shares[0]:.1%} of two cards' peak: plausible"
    further = "nox -s gluon -- bench --case full --batch 128 --placement columns --devices gpu:0,gpu:1"
    return Finding(Verdict.NOT_TESTED, text, evidence="scaling.csv", reason=reason, test_further=further)


@rule("two-gpu-time")
def _two_gpu_time(evidence: Evidence, claim: Claim) -> Finding:
    """A core stands for a GPU: the two columns on two of them beside the half net on one.

    Where columns take turns, as MXNet's do on a processor, each has all cores, which comes close to the same.
    """
    text: dict[str, str] = {}
    faster: dict[str, bool | None] = {}
    for backend in evidence.runs.backends():
        two, one = evidence.bench(backend, "columns"), evidence.bench(backend, "single", "half")
        if two and one:
            (mid, low, high), (mid_half, low_half, high_half) = scaling.speed(two), scaling.speed(one)
            text[backend] = f"{mid_half / mid:.2f} of the half net's time"
            faster[backend] = True if low > high_half else False if high < low_half else None
    busier, half = busiest_column_train_flops(TWO_COLUMN) / 1e9, train_flops(HALF) / 1e9
    reason = f"operations an image: {busier:.3f} GFLOP in the busier column, {half:.3f} in the half net"
    if "gluon" in faster:
        reason += "; MXNet's columns take turns on a processor, so each has all cores"
    if len(faster) < 2:
        reason += "; only one backend carries out columns"
    if len(faster) < 2 or None in faster.values():
        verdict = Verdict.INCONCLUSIVE if faster else Verdict.NOT_TESTED
    elif all(faster.values()):
        verdict = Verdict.CONSISTENT
    else:
        verdict = Verdict.OPPOSITE if not any(faster.values()) else Verdict.INCONCLUSIVE
    further = "nox -s gluon -- bench --case full --variant half --devices gpu:0"
    return Finding(verdict, text, evidence="scaling.csv", reason=reason, test_further=further)


@rule("aug-free")
def _aug_free(evidence: Evidence, claim: Claim) -> Finding:
    """How long a step waits for its augmented images, which another thread makes meanwhile."""
    text: dict[str, str] = {}
    for backend in evidence.runs.backends():
        run = evidence.bench(backend, "single")
        if run:
            seconds = run.table("timings").groupby("phase")["seconds"].sum()
            text[backend] = f"{seconds['data'] / seconds['step']:.2%} of a step"
    if not text:
        return _untested(claim)
    reason = (
        "waiting for images, batch 32, full size; here the same cores augment and train, which the wait does not show"
    )
    return Finding(
        Verdict.INCONCLUSIVE, text, evidence="timings.csv of the bench runs", reason=reason, test_further=claim.how
    )


# --- claims tested by training --------------------------------------------------------------------------------------


def _trained(evidence: Evidence, claim: Claim) -> Finding:
    """The direction of an effect, at the 5 % level over seeds, in both backends."""
    assert claim.expects
    effects: dict[str, Effect] = {}
    for backend in ("gluon", "deepspeed"):
        effect = paired_effect(evidence.runs, backend, claim)
        if effect:
            effects[backend] = effect
    flag = f"--case {claim.case}" if claim.case else f"--variant {claim.variant}"
    further = (
        f"nox -s gluon -- train --case photos --seed K and nox -s gluon -- train {flag} --seed K, "
        "likewise deepspeed, for K = 1 to 10"
    )
    if "F" in claim.tests:
        further += f"; at the paper's scale: {AT_FULL_SCALE}"
    if len(effects) < 2:
        reason = "needs paired runs of three seeds or more in both backends, which this profile does not make"
        return Finding(Verdict.NOT_TESTED, reason=reason, test_further=further)
    directions = {effect.direction for effect in effects.values()}
    if directions == {1}:
        verdict = Verdict.CONSISTENT
    elif directions == {-1}:
        verdict = Verdict.OPPOSITE
    else:
        verdict = Verdict.INCONCLUSIVE
    smallest = max(effect.detectable for effect in effects.values())
    return Finding(
        verdict,
        {backend: effect.text for backend, effect in effects.items()},
        interval_low=min(effect.low for effect in effects.values()),
        interval_high=max(effect.high for effect in effects.values()),
        seeds=min(effect.seeds for effect in effects.values()),
        evidence="accuracy.csv",
        reason=f"smallest effect these seeds could have shown: {smallest:.3g}"
        if verdict is Verdict.INCONCLUSIVE
        else "",
        test_further=further,
    )


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    """The rows of ``verdicts.csv``."""
    found = []
    for name, finding in judge(evidence).items():
        claim = evidence.claims[name]
        found.append(
            {
                "claim": name,
                "section": claim.section,
                "statement": claim.statement,
                "paper": claim.paper,
                "record_2012": claim.record_2012,
                "gluon": finding.measured.get("gluon", ""),
                "deepspeed": finding.measured.get("deepspeed", ""),
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
            }
        )
    return found


def gather(runs: Runs, parity: list[Row]) -> Evidence:
    return Evidence(runs, parity, load_claims())

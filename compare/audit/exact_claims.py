"""Claims that arithmetic, a recorded 2012 run or a computation decides: each rule can come out both ways."""

import numpy as np

from compare.audit.findings import Evidence, Finding, Verdict, rule, untested
from paper.cards import CARDS, GIB
from paper.claims import Claim, figures
from paper.days import PAPER_DAYS, needed_speed
from protocol.backends import BACKENDS
from protocol.oracle.quantities import RELU_AT

COST = "paper/cost.py"
CARD_BYTES = CARDS[0].bytes  # of a GTX 580
# What a CUDA context and fragments of freed memory take of a card, at the least and at the most: assumed, since no
# record of the 2012 runs says.
RESERVED = (64 * 2**20, 320 * 2**20)


def exact(holds: bool, text: str, where: str = COST) -> Finding:
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, evidence=where, reason=text)


def rounds_to(value: float, stated: float, digits: int) -> bool:
    """Whether ``value``, rounded to so many significant digits, is what is stated."""
    return float(f"{value:.{digits - 1}e}") == stated


@rule("params")
def _params(evidence: Evidence, claim: Claim) -> Finding:
    exactly = evidence.numbers.parameters["two_column"]
    (stated,) = figures(claim.paper)
    counted = {}
    for backend in BACKENDS:
        if run := evidence.bench(backend, "single"):
            counted[backend] = sum(run.record.parameters.values())
    holds = rounds_to(exactly, stated, claim.digits or 1) and all(count == exactly for count in counted.values())
    reason = f"layer table: {exactly:,}, {exactly / stated - 1:+.1%}"
    if others := [backend for backend, count in counted.items() if count != exactly]:
        reason += f"; counted otherwise by {', '.join(others)}"
    measured = {backend: f"{count:,}" for backend, count in counted.items()}
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, measured, evidence="parity.csv, rung counts", reason=reason)


def _outputs(evidence: Evidence) -> dict[str, dict[str, int]]:
    """By backend, how many outputs each weighted layer of the full-size network gave it."""
    found: dict[str, dict[str, int]] = {}
    for run in evidence.runs.of("parity"):
        outputs = run.record.result.get("outputs")
        if outputs and run.record.case["size"] == "full" and run.variant == "two_column":
            found.setdefault(run.record.backend, outputs)
    return found


@rule("neurons")
def _neurons(evidence: Evidence, claim: Claim) -> Finding:
    total = sum(evidence.numbers.neurons.values())
    (stated,) = figures(claim.paper)
    counted = {backend: sum(outputs.values()) for backend, outputs in _outputs(evidence).items()}
    holds = rounds_to(total, stated, claim.digits or 1) and all(count == total for count in counted.values())
    measured = {backend: f"{count:,}" for backend, count in counted.items()}
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, measured, evidence=COST, reason=f"layer table: {total:,}, {total / stated - 1:+.1%}")


@rule("neurons-layers")
def _neurons_layers(evidence: Evidence, claim: Claim) -> Finding:
    stated = [int(number) for number in figures(claim.paper)]
    ours = {"input": evidence.numbers.input_neurons, **evidence.numbers.neurons}
    differ = [f"{name}: {own:,}" for (name, own), other in zip(ours.items(), stated, strict=True) if own != other]
    neurons = evidence.numbers.neurons
    for backend, outputs in _outputs(evidence).items():
        differ += [f"{name} in {backend}: {count:,}" for name, count in outputs.items() if count != neurons[name]]
    return exact(not differ, "; ".join(differ) or "all equal")


@rule("conv-share")
def _conv_share(evidence: Evidence, claim: Claim) -> Finding:
    (most,) = figures(claim.paper)
    over = [f"{name} {share:.3%}" for name, share in evidence.numbers.conv_shares.items() if share > most / 100]
    return exact(not over, ", ".join(over) or f"all within {most:g} %")


@rule("geometry")
def _geometry(evidence: Evidence, claim: Claim) -> Finding:
    """The text states no rounding: it holds if the code's, which is up, or the usual one gives the rows it states."""
    edge, stated = (int(number) for number in figures(claim.paper))
    rows = evidence.numbers.conv1_rows
    text = ", ".join(f"{size} gives {count} rounded {rounding}" for (size, rounding), count in rows.items())
    return exact(stated in (rows[edge, "up"], rows[edge, "down"]), text, "paper/architecture.py")


@rule("crops")
def _crops(evidence: Evidence, claim: Claim) -> Finding:
    places = evidence.numbers.crops
    return exact([places] == figures(claim.paper), f"{places}", "arithmetic: places of a crop, each reflected")


@rule("bits")
def _bits(evidence: Evidence, claim: Claim) -> Finding:
    (stated,) = figures(claim.paper)
    bits = evidence.numbers.label_bits
    return exact(rounds_to(bits, stated, claim.digits or 1), f"{bits:.3f}", "arithmetic: log2 of the classes")


@rule("half-net")
def _half_net(evidence: Evidence, claim: Claim) -> Finding:
    half, whole = (evidence.numbers.parameters[name] for name in ("half", "two_column"))
    assert claim.tolerance is not None
    return exact(abs(half / whole - 1) <= claim.tolerance, f"{half:,} against {whole:,} ({half / whole - 1:+.1%})")


@rule("pool-dims")
def _pool_dims(evidence: Evidence, claim: Claim) -> Finding:
    rows = evidence.numbers.pooled
    same = {rounding: rows[2, rounding] == rows[3, rounding] for rounding in ("down", "up")}
    text = "; ".join(
        f"rounded {rounding}, z=3: {rows[3, rounding]}, z=2: {rows[2, rounding]}" for rounding in ("down", "up")
    )
    if len(set(same.values())) == 1:
        return exact(same["up"], text, "arithmetic")
    holds = next(rounding for rounding, alike in same.items() if alike)
    reason = f"{text}; it holds where sizes are rounded {holds}, and the 2012 code rounds up"
    return Finding(Verdict.INCONCLUSIVE, evidence="arithmetic", reason=reason, test_further=claim.how)


@rule("fits-3gb")
def _fits(evidence: Evidence, claim: Claim) -> Finding:
    """By the policy of the code that the claim was made with; what else took memory on the card is only bounded."""
    held = evidence.numbers.held
    one, two = held["2012", 1], held["2012", 2]
    text = "; ".join(
        f"{policy} policy: {held[policy, 1] / GIB:.2f} GiB on one, {held[policy, 2] / GIB:.2f} on each of two"
        for policy in ("2012", "today")
    )
    reason = f"modelled at batch 128: {text}"
    where = "fits_3gb.csv; memory.csv (measured at batch 32)"
    least, most = RESERVED
    if two + least > CARD_BYTES or one + most <= CARD_BYTES:
        return Finding(Verdict.CONTRADICTED, evidence=where, reason=reason)
    if one + least > CARD_BYTES and two + most <= CARD_BYTES:
        return Finding(Verdict.REPRODUCED, evidence=where, reason=reason)
    alone = one + least <= CARD_BYTES  # whether the edge is that of one card, and not of each of two
    left, card = (CARD_BYTES - (one if alone else two)) / 2**20, "one card" if alone else "each of two cards"
    return Finding(
        Verdict.INCONCLUSIVE,
        evidence=where,
        reason=f"{reason}; a knife's edge: {left:.0f} MiB of {card} would be left for its context and fragments, which "
        f"take {least >> 20} to {most >> 20} (assumed)",
        test_further="the 2012 source on a card of 3 GiB",
    )


@rule("comm-fraction")
def _comm_fraction(evidence: Evidence, claim: Claim) -> Finding:
    sent = evidence.numbers.crossing
    # Modelled: there and back over the cards' link, against the pace of the paper's days.
    share = {
        name: [2 * size / CARDS[0].link * needed_speed(count) for count in PAPER_DAYS] for name, size in sent.items()
    }
    own, every = max(share["two_column"]), max(share["cross_everywhere"])
    assert claim.tolerance is not None
    text = ", ".join(f"{name} {size:,} bytes" for name, size in sent.items())
    reason = (
        f"{text} an image; crossing everywhere would take {every:.1%} of a step, none but the dense layers "
        f"{max(share['no_crossing']):.1%}; of the paper's step {min(share['two_column']):.1%} to {own:.1%} at "
        f"{CARDS[0].link / 1e9:.0f} GB/s (modelled)"
    )
    return exact(own <= claim.tolerance and every >= 2 * own, reason)


@rule("val-test")
def _val_test(evidence: Evidence, claim: Claim) -> Finding:
    """A recorded pair that is further apart contradicts; printed pairs alone are too coarse to reproduce it."""
    (most,) = figures(claim.paper)
    recorded = figures(claim.record_2012.partition("(")[0].replace("top-1", "").replace("top-5", ""))
    apart = [abs(validation - test) for validation, test in zip(recorded[0::2], recorded[1::2], strict=True)]
    if not apart:
        reason = "the printed pairs are rounded to what the claim promises"
        return Finding(Verdict.INCONCLUSIVE, evidence="Table 2", reason=reason, test_further=claim.how)
    text = f"recorded: {', '.join(f'{each:.3f}' for each in apart)} points apart (top-1, top-5)"
    return exact(max(apart) <= most, text, f"{claim.record_at}; Table 2's pairs")


def _gradients(evidence: Evidence) -> dict[str, list[float]] | None:
    """ReLU's gradients at ``RELU_AT`` in each backend; None without both."""
    told = evidence.told("relu_gradients")
    if not all(backend in told for backend in BACKENDS):
        return None
    return {backend: [float(value) for value in told[backend][0]] for backend in BACKENDS}  # type: ignore[attr-defined]


@rule("notes-relu-grad")
def _relu_gradient(evidence: Evidence, claim: Claim) -> Finding:
    found = _gradients(evidence)
    if found is None:
        return untested(claim)
    text = {backend: " or ".join(f"{value:g}" for value in sorted(set(values))) for backend, values in found.items()}
    holds = all(set(values) == {0.0, 1.0} for values in found.values())
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, text, evidence="records of the parity runs", reason=f"at {', '.join(map(str, RELU_AT))}")


@rule("notes-relu-large")
def _relu_large(evidence: Evidence, claim: Claim) -> Finding:
    found = _gradients(evidence)
    if found is None:
        return untested(claim)
    positive = [place for place, value in enumerate(RELU_AT) if value > 0]
    grows = {backend: bool((np.diff([values[p] for p in positive]) > 0).all()) for backend, values in found.items()}
    text = {backend: ", ".join(f"{values[place]:g}" for place in positive) for backend, values in found.items()}
    if len(set(grows.values())) > 1:
        return Finding(Verdict.INCONCLUSIVE, text, evidence="records of the parity runs", reason="the backends differ")
    verdict = Verdict.REPRODUCED if all(grows.values()) else Verdict.CONTRADICTED
    reason = f"at {', '.join(str(RELU_AT[place]) for place in positive)}"
    return Finding(verdict, text, evidence="records of the parity runs", reason=reason)


@rule("notes-channels")
def _notes_channels(evidence: Evidence, claim: Claim) -> Finding:
    split, doubled = (evidence.numbers.parameters[name] for name in ("two_column", "merged"))
    apart = evidence.numbers.outputs_apart
    text = (
        f"{split:,} against {doubled:,} parameters; with the same weights, and some between the columns, the logits "
        f"of an image differ by {apart:.0%} (computed at a sixteenth of the width)"
    )
    return exact(split == doubled and apart == 0, text, "compare/audit/arithmetic.py")

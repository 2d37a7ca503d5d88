"""Claims that a backend's own runs decide without training over seeds: parity, bytes, seconds."""

from compare.audit import scaling
from compare.audit.findings import Evidence, Finding, Verdict, rule, untested
from compare.load import RunFolder
from paper import days as pace
from paper.claims import Claim
from protocol.backends import BACKENDS

# Rungs whose quantities the network computes, none of them given to it.
COMPUTED = ("forward", "loss", "gradients", "update", "test")


@rule("notes-one-gpu")
def _notes_one_gpu(evidence: Evidence, claim: Claim) -> Finding:
    """Grouped on one device and split over two, each against the oracle in float64, five updates included."""
    text: dict[str, str] = {}
    holds = True
    for backend in BACKENDS:
        rows = [r for r in evidence.parity if r["left"].split()[0] == backend and r["reading"] == "fp64"]
        rows = [r for r in rows if r["rung"] in COMPUTED and r["left"].split()[1] in ("single", "columns")]
        if {row["left"].split()[1] for row in rows} == {"single", "columns"}:
            holds = holds and all(row["agrees"] for row in rows)
            text[backend] = f"{max(row['difference'] for row in rows):.0e} at most, one device or two"
    if len(text) < len(BACKENDS) and holds:
        return untested(claim, "needs both backends' parity in placements single and columns")
    verdict = Verdict.REPRODUCED if holds else Verdict.CONTRADICTED
    return Finding(verdict, text, evidence="parity.csv, reading fp64")


@rule("days")
def _days(evidence: Evidence, claim: Claim) -> Finding:
    shares = [pace.needed_share_of_peak(count) for count in pace.PAPER_DAYS]
    text: dict[str, str] = {}
    for backend in evidence.runs.backends():
        speeds = [
            scaling.speed(run)[0] for run in evidence.runs.of("bench", backend=backend) if run.variant == "two_column"
        ]
        if speeds:
            text[backend] = f"{pace.days(max(speeds)):.0f} days on this machine's processor"
    if max(shares) > 1:
        reason = f"would need {shares[1]:.0%} to {shares[0]:.0%} of two cards' peak, more than there is"
        return Finding(Verdict.CONTRADICTED, text, evidence="scaling.csv", reason=reason)
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
    for backend in BACKENDS:
        two, one = evidence.bench(backend, "columns"), evidence.bench(backend, "single", "half")
        if two and one:
            (mid, low, high), (mid_half, low_half, high_half) = scaling.speed(two), scaling.speed(one)
            text[backend] = f"{mid_half / mid:.2f} of the half net's time"
            faster[backend] = True if low > high_half else False if high < low_half else None
    busier, half = evidence.numbers.busiest_gflop, evidence.numbers.half_gflop
    reason = f"operations an image: {busier:.3f} GFLOP in the busier column, {half:.3f} in the half net"
    for backend in faster:
        if BACKENDS[backend].takes_turns:
            reason += f"; {BACKENDS[backend].framework}'s columns take turns on a processor, so each has all cores"
    if len(faster) < len(BACKENDS):
        reason += "; not both backends were timed"
    if len(faster) < len(BACKENDS) or None in faster.values():
        verdict = Verdict.INCONCLUSIVE if faster else Verdict.NOT_TESTED
    elif all(faster.values()):
        verdict = Verdict.CONSISTENT
    else:
        verdict = Verdict.OPPOSITE if not any(faster.values()) else Verdict.INCONCLUSIVE
    further = "nox -s gluon -- bench --case full --variant half --devices gpu:0"
    return Finding(verdict, text, evidence="scaling.csv", reason=reason, test_further=further)


def waited(run: RunFolder) -> float:
    """The share of all steps' time in which a device waited for images."""
    seconds = run.table("timings").groupby("phase")["seconds"].sum()
    return float(seconds["data"] / seconds["step"])


NOTHING, MUCH = 0.01, 0.1  # shares of a step: a wait below the first is none, one above the second is a cost


@rule("aug-free")
def _aug_free(evidence: Evidence, claim: Claim) -> Finding:
    """How long a step waits for its augmented images, which another thread makes meanwhile."""
    shares = {backend: waited(run) for backend in BACKENDS if (run := evidence.bench(backend, "single"))}
    if not shares:
        return untested(claim)
    text = {backend: f"{share:.2%} of a step" for backend, share in shares.items()}
    accelerated = all(
        run.record.devices[0].startswith("gpu") for backend in shares if (run := evidence.bench(backend, "single"))
    )
    where = "timings.csv of the bench runs"
    if min(shares.values()) > MUCH:
        reason = f"waiting for images takes more than {MUCH:.0%} of a step"
        return Finding(Verdict.OPPOSITE, text, evidence=where, reason=reason, test_further=claim.how)
    if accelerated and max(shares.values()) < NOTHING:
        return Finding(Verdict.CONSISTENT, text, evidence=where, reason="the processor augments while a GPU trains")
    reason = "waiting for images, batch 32, full size"
    if not accelerated:
        reason += "; here the same cores augment and train, which the wait does not show"
    return Finding(Verdict.INCONCLUSIVE, text, evidence=where, reason=reason, test_further=claim.how)

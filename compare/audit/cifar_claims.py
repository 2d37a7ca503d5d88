"""Claims about CIFAR-10, of whoever has trained the paper's four-layer network on it."""

import numpy as np

from compare.audit.findings import Evidence, Finding, Verdict, rule, untested
from compare.load import RunFolder
from compare.statistics import MARK, first_at_most
from paper.claims import Claim, figures
from protocol.backends import BACKENDS
from protocol.experiment.cases import find_case, what

TESTED_ON = 10_000  # images
NEAR = 1.0  # points of test error
AS_FAST = (4.0, 9.0)  # times that is near to six times
RATES = 3  # that must have been tried of each nonlinearity, for one of them to be called the best


def _runs(evidence: Evidence, backend: str, case: str) -> list[RunFolder]:
    """Runs of a case, to their last test, that differ from it in nothing but rate, passes, batch and seed."""
    free = ("rate", "epochs", "drops", "patience", "batch")

    def fixed(content: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in what(content).items() if name not in free}

    asked = fixed(find_case(case).content())
    return [
        run
        for run in evidence.runs.of("train", backend=backend, case=case)
        if fixed(run.record.case) == asked and run.has("predictions.safetensors")
    ]


def _last_error(run: RunFolder) -> float:
    """Its test error in per cent at the end, with ten views."""
    epochs = run.table("epochs")
    return 100 * float(epochs.loc[epochs["views"] == 10, "top1_error"].iloc[-1])


@rule("lrn-cifar")
def _lrn_cifar(evidence: Evidence, claim: Claim) -> Finding:
    """The least error with response norms and without them, beside the paper's 11 % and 13 %."""
    found: dict[str, tuple[float, float]] = {}
    whole = True
    for backend in BACKENDS:
        without, normed = (_runs(evidence, backend, case) for case in ("cifar-no-norm", "cifar"))
        if without and normed:
            found[backend] = (min(map(_last_error, without)), min(map(_last_error, normed)))
            whole &= all(len(run.tensors("predictions")["labels"]) == TESTED_ON for run in (*without, *normed))
    if not found:
        return untested(claim, "needs CIFAR-10, and runs of the cases cifar and cifar-no-norm in one backend")
    text = {backend: f"{without:.1f} to {normed:.1f} %" for backend, (without, normed) in found.items()}
    paper = figures(claim.paper)
    off = max(abs(mine - its) for pair in found.values() for mine, its in zip(pair, paper, strict=True))
    if not whole:
        verdict, reason = Verdict.INCONCLUSIVE, f"not CIFAR-10's {TESTED_ON:,} test images"
    elif off <= NEAR and all(normed < without for without, normed in found.values()):
        verdict, reason = Verdict.REPRODUCED, f"both errors within {NEAR:g} point of the paper's"
    else:
        verdict, reason = Verdict.INCONCLUSIVE, f"up to {off:.1f} points from the paper's; one run proves nothing"
    return Finding(verdict, text, evidence="accuracy.csv", reason=reason, test_further=claim.how)


def passes(run: RunFolder) -> float | None:
    """Passes over the images until the training error, as met in training, was 25 %; None if it never was.

    Of an epoch it is the mean over its steps, taken to be that of the epoch's middle; between two in proportion.
    """
    errors = run.table("epochs").query("views == 1")["train_error"].to_numpy()
    return first_at_most(MARK, np.arange(len(errors)) + 0.5, errors)


@rule("relu-6x")
def _relu_6x(evidence: Evidence, claim: Claim) -> Finding | None:
    """The fewest passes with ReLU and with tanh, each at the best of the rates that were tried."""
    times: dict[str, float] = {}
    text: dict[str, str] = {}
    tried: list[int] = []
    whole = True
    for backend in BACKENDS:
        of_each = [_runs(evidence, backend, case) for case in ("cifar-relu", "cifar-tanh")]
        relu, tanh = ([took for run in runs if (took := passes(run)) is not None] for runs in of_each)
        if relu and tanh:
            tried += [len({run.record.case["rate"] for run in runs}) for runs in of_each]
            whole &= all(len(run.tensors("predictions")["labels"]) == TESTED_ON for runs in of_each for run in runs)
            times[backend] = min(tanh) / min(relu)
            text[backend] = f"{times[backend]:.1f} times ({min(relu):.1f} and {min(tanh):.1f} passes)"
    if not times:
        return None
    least, most = AS_FAST
    holds = whole and min(tried) >= RATES and all(least <= value <= most for value in times.values())
    reason = f"on CIFAR-10, each at the best of {min(tried)} rates or more; {least:g} to {most:g} times counts as six"
    if not whole:
        reason = f"not CIFAR-10's {TESTED_ON:,} test images"
    elif min(tried) < RATES:
        reason += f", and {RATES} rates must have been tried"
    verdict = Verdict.REPRODUCED if holds else Verdict.INCONCLUSIVE
    return Finding(verdict, text, evidence="accuracy.csv", reason=reason, test_further=claim.how)

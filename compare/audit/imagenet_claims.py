"""Claims about ImageNet, of whoever has trained on it: the errors of Tables 1 and 2, with ten views and with one."""

from compare.audit.findings import Evidence, Finding, Verdict, rule
from compare.load import RunFolder
from paper.claims import Claim, figures
from protocol.backends import BACKENDS

TESTED_ON = {"imagenet": 50_000, "imagenet-2010": 150_000}  # images, by the store
CLASSES = 1000
NEAR = 0.5  # points of error: more than networks differ from seed to seed


@rule("top-2012")
def _top_2012(evidence: Evidence, claim: Claim) -> Finding | None:
    return _errors(evidence, claim, "imagenet", views=10)


@rule("top-2010")
def _top_2010(evidence: Evidence, claim: Claim) -> Finding | None:
    return _errors(evidence, claim, "imagenet-2010", views=10)


@rule("one-patch")
def _one_patch(evidence: Evidence, claim: Claim) -> Finding | None:
    return _errors(evidence, claim, "imagenet-2010", views=1)


def _errors(evidence: Evidence, claim: Claim, store: str, views: int) -> Finding | None:
    """The last errors of the paper's network on ``store``, of each backend the run that errs least; None without any.

    One training run that is near the paper's figures reproduces them; one that is not contradicts nothing, since
    what it lacks may be the recipe.
    """
    runs = [
        run
        for run in evidence.runs.of("train")
        if run.record.case["store"] == store
        and run.variant == "two_column"
        and not run.record.case.get("start")
        and run.has("predictions.safetensors")  # not ended before its last test
    ]
    # A trial on a part of it says nothing where the paper's own measurement is there.
    runs = [run for run in runs if not _falls_short(run, store)] or runs
    best: dict[str, tuple[float, float]] = {}
    for run in runs:
        table = run.table("epochs")
        last = table[table["views"] == views].iloc[-1]
        errors = (100 * float(last["top1_error"]), 100 * float(last["top5_error"]))
        best[run.record.backend] = min(errors, best.get(run.record.backend, errors))
    if not best:
        return None
    text = {backend: f"{best[backend][0]:.1f} / {best[backend][1]:.1f} %" for backend in BACKENDS if backend in best}
    small = [said for run in runs if (said := _falls_short(run, store))]
    paper = figures(claim.paper)
    further = max(mine - its for errors in best.values() for mine, its in zip(errors, paper, strict=True))
    if small:
        verdict, reason = Verdict.INCONCLUSIVE, f"not the paper's measurement: {small[0]}"
    elif further <= NEAR:
        verdict, reason = Verdict.REPRODUCED, f"no more than {NEAR:g} points above the paper's"
    else:
        verdict, reason = (
            Verdict.INCONCLUSIVE,
            f"{further:.1f} points above the paper's; one run proves nothing",
        )
    return Finding(verdict, text, evidence="accuracy.csv", reason=reason, seeds=len(runs), test_further=claim.how)


def _falls_short(run: RunFolder, store: str) -> str:
    """What a run lacks of being the paper's experiment, in words; nothing where it is."""
    classes, images = int(run.record.case["classes"]), len(run.tensors("predictions")["labels"])
    if run.record.case["size"] != "full":
        return f"a network of size {run.record.case['size']}"
    if classes != CLASSES or images != TESTED_ON[store]:
        return f"{classes} classes and {images:,} test images, where ImageNet has {CLASSES:,} and {TESTED_ON[store]:,}"
    return ""

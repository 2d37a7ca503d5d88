"""Verdicts are pure functions of records: planted evidence gives the verdict it must."""

from pathlib import Path

import pandas as pd
import pytest

from compare.load import RunFolder, Runs
from compare.trained import paired_effect
from compare.verdicts import Evidence, Verdict, judge
from paper.claims import load_claims
from protocol.record import Record, write_record

CLAIMS = load_claims()


def train_run(root: Path, backend: str, case: str, seed: int, error: float, variant: str = "two_column") -> RunFolder:
    folder = root / backend / f"{case}-{variant}" / "single" / f"seed{seed}"
    record = Record(
        kind="train",
        status="finished",
        backend=backend,
        placement="single",
        devices=["cpu:0"],
        case={"name": case, "variant": variant, "preset": "paper", "deviations": None, "batch": 128},
        seed=seed,
        precision="fp32",
        threads=1,
        plan_hash=f"{case}{seed}",
    )
    write_record(folder, record)
    row = {"epoch": 0, "train_loss": 1.0, "train_error": 0.2, "validation_loss": 1.0, "top5_error": 0.0, "views": 1}
    pd.DataFrame([{**row, "top1_error": error}]).to_csv(folder / "epochs.csv", index=False)
    return RunFolder(folder, root, record)


def evidence(runs: list[RunFolder]) -> Evidence:
    return Evidence(Runs(tuple(runs)), [], CLAIMS)


def ablation(root: Path, effects: dict[str, list[float]]) -> Evidence:
    """Baseline errors of 0.2 to 0.3 by seed, and those of case no-norm higher by ``effects`` of each backend."""
    runs = []
    for backend, differences in effects.items():
        for seed, difference in enumerate(differences):
            base = 0.2 + 0.1 * seed / len(differences)
            runs.append(train_run(root, backend, "photos", seed, base))
            runs.append(train_run(root, backend, "no-norm", seed, base + difference))
    return evidence(runs)


UP, DOWN, MIXED = [0.02, 0.021, 0.019, 0.02], [-0.02, -0.021, -0.019, -0.02], [0.02, -0.02, 0.01, -0.01]


@pytest.mark.parametrize(
    ("gluon", "deepspeed", "verdict"),
    [
        (UP, UP, Verdict.CONSISTENT),
        (DOWN, DOWN, Verdict.OPPOSITE),
        (MIXED, MIXED, Verdict.INCONCLUSIVE),
        (UP, DOWN, Verdict.INCONCLUSIVE),
        (UP, MIXED, Verdict.INCONCLUSIVE),
        (UP[:2], UP[:2], Verdict.NOT_TESTED),
        (UP, [], Verdict.NOT_TESTED),
    ],
)
def test_a_trained_claim(tmp_path: Path, gluon: list[float], deepspeed: list[float], verdict: Verdict) -> None:
    found = judge(ablation(tmp_path, {"gluon": gluon, "deepspeed": deepspeed}))["lrn"]
    assert found.verdict is verdict
    if verdict is Verdict.NOT_TESTED:
        assert "--case no-norm" in found.test_further
    else:
        assert found.seeds == 4


def test_the_effect_is_paired_by_seed(tmp_path: Path) -> None:
    """The seeds' own spread is five times the effect and must not count."""
    effect = paired_effect(ablation(tmp_path, {"gluon": UP}).runs, "gluon", CLAIMS["lrn"])
    assert effect is not None
    assert effect.mean == pytest.approx(0.02)
    assert effect.high - effect.low < 0.005


def test_arithmetic_needs_no_runs() -> None:
    found = judge(evidence([]))
    expected = {
        "neurons": Verdict.REPRODUCED,
        "neurons-layers": Verdict.CONTRADICTED,
        "conv-share": Verdict.CONTRADICTED,
        "geometry": Verdict.CONTRADICTED,
        "crops": Verdict.CONTRADICTED,
        "bits": Verdict.REPRODUCED,
        "half-net": Verdict.REPRODUCED,
        "val-test": Verdict.REPRODUCED,
        "notes-relu-grad": Verdict.REPRODUCED,
        "notes-relu-large": Verdict.CONTRADICTED,
        "notes-channels": Verdict.CONTRADICTED,
    }
    assert {name: found[name].verdict for name in expected} == expected
    assert "1.452%" in found["conv-share"].reason
    assert "2178" in found["crops"].reason


def test_every_claim_gets_a_verdict_with_a_reason_where_untested() -> None:
    found = judge(evidence([]))
    assert len(found) == 46
    for name, finding in found.items():
        if finding.verdict is Verdict.NOT_TESTED:
            assert finding.reason, name
            assert finding.test_further, name


def test_one_gpu_claim_follows_parity() -> None:
    row = {"rung": "forward", "reading": "fp64", "difference": 1e-14, "agrees": True}
    rows = [dict(row, left=f"{backend} {placement}") for backend, placement in
            (("gluon", "single"), ("gluon", "columns"), ("deepspeed", "single"), ("deepspeed", "stages"))]  # fmt: skip

    class Both(Runs):
        def backends(self) -> list[str]:
            return ["gluon", "deepspeed"]

    assert judge(Evidence(Both(()), rows, CLAIMS))["notes-one-gpu"].verdict is Verdict.REPRODUCED
    rows[1]["agrees"] = False
    assert judge(Evidence(Both(()), rows, CLAIMS))["notes-one-gpu"].verdict is Verdict.CONTRADICTED

"""Verdicts are pure functions of records: planted evidence gives the verdict it must, and every rule has two."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from compare.audit.arithmetic import Arithmetic, computed
from compare.audit.exact_claims import CARD_BYTES, RESERVED
from compare.audit.findings import RULES, Finding
from compare.audit.trained_claims import Trained
from compare.audit.verdicts import Evidence, Verdict
from compare.audit.verdicts import judge as judge_with
from compare.load import RunFolder, Runs
from paper.claims import Claim, load_claims
from protocol.experiment.cases import find_case
from protocol.oracle.quantities import RELU_AT
from protocol.runs.record import Record, kept_files, write_record

CLAIMS = load_claims()
NUMBERS = computed()
NOTHING = Trained({})


def judge(evidence: Evidence) -> dict[str, Finding]:
    """As an audit does where no claim has been trained for."""
    return judge_with(evidence, NOTHING)


def run_folder(
    root: Path, backend: str, kind: Any, name: str, tables: dict[str, pd.DataFrame], **more: Any
) -> RunFolder:
    """A finished run with these tables, as its own code would have left it."""
    folder = root / backend / name
    folder.mkdir(parents=True, exist_ok=True)
    for table, content in tables.items():
        content.to_csv(folder / f"{table}.csv", index=False)
    settings: dict[str, Any] = {"placement": "single", "devices": ["cpu:0"], "seed": 0, "precision": "fp32"}
    settings |= {
        "threads": 1,
        "plan_hash": name,
        "case": find_case("photos").content(),
        "files": kept_files(folder),
    } | more
    record = Record(kind=kind, status="finished", backend=backend, **settings)
    write_record(folder, record)
    return RunFolder(folder, root, record)


def evidence(runs: list[RunFolder], **numbers: Any) -> Evidence:
    return Evidence(Runs(tuple(runs)), [], CLAIMS, replace(NUMBERS, **numbers))


def test_arithmetic_needs_no_runs() -> None:
    found = judge(evidence([]))
    expected = {
        "params": Verdict.CONTRADICTED,
        "neurons": Verdict.CONTRADICTED,
        "neurons-layers": Verdict.CONTRADICTED,
        "conv-share": Verdict.CONTRADICTED,
        "geometry": Verdict.REPRODUCED,
        "crops": Verdict.CONTRADICTED,
        "bits": Verdict.REPRODUCED,
        "half-net": Verdict.REPRODUCED,
        "pool-dims": Verdict.INCONCLUSIVE,
        "fits-3gb": Verdict.INCONCLUSIVE,
        "comm-fraction": Verdict.REPRODUCED,
        "val-test": Verdict.CONTRADICTED,
        "notes-channels": Verdict.CONTRADICTED,
    }
    assert {name: found[name].verdict for name in expected} == expected
    assert "1.452%" in found["conv-share"].reason
    assert "2178" in found["crops"].reason
    assert "2.88 GiB on one" in found["fits-3gb"].reason
    assert "119 MiB of one card" in found["fits-3gb"].reason
    assert "0.179" in found["val-test"].reason


def changed(**numbers: Any) -> Callable[[Path], Evidence]:
    return lambda root: evidence([], **numbers)


def with_claim(name: str, **fields: Any) -> Callable[[Path], Evidence]:
    claim: Claim = replace(CLAIMS[name], **fields)
    return lambda root: replace(evidence([]), claims={**CLAIMS, name: claim})


def held(one: float, two: float) -> dict[tuple[str, int], int]:
    """Bytes by policy and devices, as shares of a card."""
    return {
        (policy, devices): int(share * CARD_BYTES)
        for policy in ("2012", "today")
        for devices, share in ((1, one), (2, two))
    }


def told(**results: list[Any]) -> Callable[[Path], Evidence]:
    """Parity runs of both backends, each of which found out ``results``: by name, of gluon and of deepspeed."""

    def make(root: Path) -> Evidence:
        return evidence(
            [
                run_folder(
                    root, backend, "parity", "ladder", {}, result={name: own[place] for name, own in results.items()}
                )
                for place, backend in enumerate(("gluon", "deepspeed"))
            ]
        )

    return make


def parity_rows(**far: bool) -> Callable[[Path], Evidence]:
    """Float64 rows of both backends, on one device and two; ``far``: those that do not agree."""

    def make(root: Path) -> Evidence:
        row = {"rung": "forward", "reading": "fp64", "difference": 1e-14}
        rows = [
            {**row, "left": f"{backend} {placement}", "agrees": not far.get(f"{backend}_{placement}", False)}
            for backend in ("gluon", "deepspeed")
            for placement in ("single", "columns", "stages")
        ]
        return Evidence(Runs(()), rows, CLAIMS, NUMBERS)

    return make


def benched(
    seconds: dict[tuple[str, str], float], device: str = "cpu:0", data: float = 0.0
) -> Callable[[Path], Evidence]:
    """Bench runs of both backends: seconds of a step by (placement, variant), of which so many wait for images."""

    def make(root: Path) -> Evidence:
        runs = []
        for backend in ("gluon", "deepspeed"):
            for (placement, variant), took in seconds.items():
                rows: list[dict[str, Any]] = [
                    {"step": step, "device": "all", "phase": "step", "seconds": took * (1 + step / 1e4)}
                    for step in range(5)
                ]
                rows += [{**row, "phase": "data", "seconds": data * row["seconds"]} for row in rows]
                content = find_case("full", variant=variant).content()
                where = {"placement": placement, "devices": [device], "case": content}
                runs.append(
                    run_folder(
                        root, backend, "bench", f"{placement}-{variant}", {"timings": pd.DataFrame(rows)}, **where
                    )
                )
        return evidence(runs)

    return make


def on_imagenet(
    store: str, one: tuple[float, float], ten: tuple[float, float], images: int, **case: Any
) -> Callable[[Path], Evidence]:
    """A run of a backend that was trained on a store, and its last errors, top-1 and top-5, with one view and ten."""

    def make(root: Path) -> Evidence:
        epochs = pd.DataFrame(
            [{"views": 1, "top1_error": 0.9, "top5_error": 0.8}]
            + [
                {"views": views, "top1_error": top1, "top5_error": top5}
                for views, (top1, top5) in ((1, one), (10, ten))
            ]
        )
        folder = root / "gluon" / "imagenet"
        folder.mkdir(parents=True)
        save_file({"labels": np.zeros(images, np.int16)}, folder / "predictions.safetensors")
        content = replace(find_case("imagenet"), store=store, **case).content()
        return evidence([run_folder(root, "gluon", "train", "imagenet", {"epochs": epochs}, case=content)])

    return make


RATES = (0.001, 0.002, 0.004)


def on_cifar(
    images: int = 10_000, rates: tuple[float, ...] = RATES, **by_case: list[float]
) -> Callable[[Path], Evidence]:
    """Runs of both backends; by case, with _ for -, the training error of each epoch, the test error the last."""

    def make(root: Path) -> Evidence:
        runs = []
        for backend in ("gluon", "deepspeed"):
            for (name, errors), rate in product(by_case.items(), rates):
                case = name.replace("_", "-")
                where = f"{case}-{rate}"
                rows = [{"views": 1, "train_error": error, "top1_error": 0.9} for error in errors]
                rows.append({"views": 10, "train_error": errors[-1], "top1_error": errors[-1]})
                (root / backend / where).mkdir(parents=True)
                save_file({"labels": np.zeros(images, np.int16)}, root / backend / where / "predictions.safetensors")
                content = replace(find_case(case), rate=rate).content()
                runs.append(run_folder(root, backend, "train", where, {"epochs": pd.DataFrame(rows)}, case=content))
        return evidence(runs)

    return make


SLOW, QUICK = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.2], [0.7, 0.1]
PROBED = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
assert len(PROBED) == len(RELU_AT)
LEAKY, GROWING = [0.1, *PROBED[1:]], [0, 0, 0, 1, 2, 3, 4]
STATED = dict(zip(NUMBERS.neurons, (253_440, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000), strict=True))
NARROW, WIDE = {"two_column": 100, "half": 99, "merged": 100}, {"two_column": 100, "half": 90, "merged": 110}
ALIKE = {(window, rounding): [27, 13, 6] for window in (2, 3) for rounding in ("down", "up")}
UNLIKE = {**ALIKE, (2, "down"): [28, 14, 7], (2, "up"): [28, 14, 7]}
ONE, TWO = ("single", "half"), ("columns", "two_column")
SINGLE = ("single", "two_column")
R, C, I = Verdict.REPRODUCED, Verdict.CONTRADICTED, Verdict.INCONCLUSIVE  # noqa: E741

# By claim, evidence for each verdict that its rule can come to.
BOTH_WAYS: dict[str, list[tuple[Verdict, Callable[[Path], Evidence]]]] = {
    "params": [(C, changed()), (R, changed(parameters={"two_column": 60_400_000, "half": 1, "merged": 1}))],
    "neurons": [(C, changed()), (R, changed(neurons={**NUMBERS.neurons, "conv1": 290_400 - 8_272}))],
    "neurons-layers": [(C, changed()), (R, changed(neurons=STATED))],
    "conv-share": [(C, changed()), (R, changed(conv_shares={"conv1": 0.009}))],
    "geometry": [
        (R, changed()),
        (C, changed(conv1_rows={(224, "up"): 56, (224, "down"): 54, (227, "up"): 55, (227, "down"): 55})),
    ],
    "crops": [(C, changed()), (R, changed(crops=2048))],
    "bits": [(R, changed()), (C, changed(label_bits=8.9))],
    "half-net": [(R, changed(parameters=NARROW)), (C, changed(parameters=WIDE))],
    "pool-dims": [(I, changed()), (R, changed(pooled=ALIKE)), (C, changed(pooled=UNLIKE))],
    "fits-3gb": [
        (I, changed()),
        (R, changed(held=held(1.1, 0.6))),
        (R, changed(held=held(1 - (RESERVED[0] - 1) / CARD_BYTES, 0.6))),
        (C, changed(held=held(0.5, 0.3))),
        (C, changed(held=held(2.2, 1.1))),
        # Neither of two cards that are all but full is called full, nor called a fit.
        (I, changed(held=held(1.1, 1 - (RESERVED[0] + 1) / CARD_BYTES))),
    ],
    "comm-fraction": [
        (R, changed()),
        (C, changed(crossing={"no_crossing": 1, "two_column": 2, "cross_everywhere": 3})),
        (C, changed(crossing={"no_crossing": 1, "two_column": 10**8, "cross_everywhere": 10**9})),
    ],
    "val-test": [
        (C, changed()),
        (R, with_claim("val-test", record_2012="top-1 37.7 and 37.65 %")),
        (I, with_claim("val-test", record_2012="")),
    ],
    "notes-channels": [
        (C, changed()),
        (C, changed(parameters=NARROW)),
        (R, changed(parameters=NARROW, outputs_apart=0.0)),
    ],
    "notes-relu-grad": [
        (R, told(relu_gradients=[PROBED, PROBED])),
        (C, told(relu_gradients=[PROBED, LEAKY])),
        (Verdict.NOT_TESTED, changed()),
    ],
    "notes-relu-large": [
        (C, told(relu_gradients=[PROBED, PROBED])),
        (R, told(relu_gradients=[GROWING, GROWING])),
        (I, told(relu_gradients=[PROBED, GROWING])),
    ],
    "notes-one-gpu": [
        (R, parity_rows()),
        (C, parity_rows(gluon_columns=True)),
        (C, parity_rows(deepspeed_columns=True)),
        (C, parity_rows(deepspeed_single=True)),
        # Stages are no columns.
        (R, parity_rows(deepspeed_stages=True)),
        (Verdict.NOT_TESTED, changed()),
    ],
    "two-gpu-time": [
        (Verdict.CONSISTENT, benched({TWO: 1.0, ONE: 1.2})),
        (Verdict.OPPOSITE, benched({TWO: 1.2, ONE: 1.0})),
        (I, benched({TWO: 1.0, ONE: 1.00001})),
        (Verdict.NOT_TESTED, changed()),
    ],
    "aug-free": [
        (I, benched({SINGLE: 1.0}, data=0.001)),
        (Verdict.CONSISTENT, benched({SINGLE: 1.0}, device="gpu:0", data=0.001)),
        (Verdict.OPPOSITE, benched({SINGLE: 1.0}, data=0.2)),
        (Verdict.NOT_TESTED, changed()),
    ],
    "lrn-cifar": [
        (R, on_cifar(cifar=[0.3, 0.112], cifar_no_norm=[0.3, 0.129])),
        (I, on_cifar(cifar=[0.3, 0.112], cifar_no_norm=[0.3, 0.145])),
        (I, on_cifar(100, cifar=[0.3, 0.112], cifar_no_norm=[0.3, 0.129])),
        (Verdict.NOT_TESTED, on_cifar(cifar=[0.3, 0.112])),
    ],
    "relu-6x": [
        (R, on_cifar(cifar_relu=QUICK, cifar_tanh=SLOW)),  # 1.25 and 8 passes
        (I, on_cifar(cifar_relu=SLOW, cifar_tanh=SLOW)),
        (I, on_cifar(cifar_relu=QUICK, cifar_tanh=SLOW, rates=RATES[:2])),  # of two rates neither need be the best
        (I, on_cifar(100, cifar_relu=QUICK, cifar_tanh=SLOW)),
        (Verdict.NOT_TESTED, on_cifar(cifar_relu=QUICK, cifar_tanh=[0.9, 0.3])),
    ],
    "top-2012": [
        (R, on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 50_000)),
        (I, on_imagenet("imagenet", (0.42, 0.2), (0.413, 0.184), 50_000)),
        (I, on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 500)),
        (I, on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 50_000, size="small")),
        (I, on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 50_000, classes=20)),
        (Verdict.NOT_TESTED, on_imagenet("imagenet", (0.4, 0.2), (0.4, 0.18), 50_000, variant="merged")),
        (Verdict.NOT_TESTED, on_imagenet("imagenet-2010", (0.4, 0.2), (0.4, 0.18), 150_000)),
    ],
    "top-2010": [
        (R, on_imagenet("imagenet-2010", (0.5, 0.2), (0.375, 0.17), 150_000)),
        (I, on_imagenet("imagenet-2010", (0.39, 0.18), (0.375, 0.18), 150_000)),
    ],
    "one-patch": [
        (R, on_imagenet("imagenet-2010", (0.39, 0.183), (0.375, 0.17), 150_000)),
        (I, on_imagenet("imagenet-2010", (0.4, 0.183), (0.375, 0.17), 150_000)),
    ],
}
BY_OTHER_TESTS = {"days"}


@pytest.mark.parametrize(
    ("name", "verdict", "make"),
    [(name, verdict, make) for name, trials in BOTH_WAYS.items() for verdict, make in trials],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_rule_can_come_out_both_ways(
    name: str, verdict: Verdict, make: Callable[[Path], Evidence], tmp_path: Path
) -> None:
    found = judge(make(tmp_path))[name]
    assert found.verdict is verdict, found.reason


def test_a_bench_at_another_batch_is_no_match(tmp_path: Path) -> None:
    timed = benched({TWO: 1.0, ONE: 1.2})(tmp_path)
    assert judge(timed)["two-gpu-time"].verdict is Verdict.CONSISTENT
    runs = [
        replace(run, record=run.record.model_copy(update={"case": {**run.record.case, "batch": 128}}))
        if run.record.placement == "columns" and run.record.backend == "gluon"
        else run
        for run in timed.runs.finished
    ]
    assert judge(evidence(runs))["two-gpu-time"].verdict is not Verdict.CONSISTENT


def test_what_runs_over_seeds_say_gives_way_only_to_the_papers_own_measurement(tmp_path: Path) -> None:
    row = {"verdict": "consistent at small scale", "gluon": "+1", "deepspeed": "+1", "low": 0.1, "high": 2.0}
    trained = Trained({"one-patch": {**row, "seeds": 12, "reason": "ten views err less", "source": ""}})

    def found(root: str, images: int) -> Verdict:
        make = on_imagenet("imagenet-2010", (0.39, 0.183), (0.375, 0.17), images)
        return judge_with(make(tmp_path / root), trained)["one-patch"].verdict

    assert judge_with(evidence([]), trained)["one-patch"].verdict is Verdict.CONSISTENT
    assert found("few", 100) is Verdict.CONSISTENT
    few = on_imagenet("imagenet-2010", (0.39, 0.183), (0.375, 0.17), 100)(tmp_path / "told")
    assert "on the claim's own data: gluon 39.0 / 18.3 %" in judge_with(few, trained)["one-patch"].reason
    assert found("all", 150_000) is R


def test_a_run_that_was_ended_early_or_began_with_a_model_answers_for_no_claim(tmp_path: Path) -> None:
    (run,) = on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 50_000)(tmp_path).runs.finished
    assert judge(evidence([run]))["top-2012"].verdict is R
    ended = run.record.model_copy(update={"files": {}})
    tuned = run.record.model_copy(update={"case": {**run.record.case, "start": "0" * 64}})
    for record in (ended, tuned):
        assert judge(evidence([replace(run, record=record)]))["top-2012"].verdict is Verdict.NOT_TESTED


def test_a_trial_beside_the_papers_own_measurement_takes_nothing_from_it(tmp_path: Path) -> None:
    whole = on_imagenet("imagenet", (0.42, 0.2), (0.41, 0.184), 50_000)(tmp_path / "whole").runs.finished
    trial = on_imagenet("imagenet", (0.1, 0.1), (0.1, 0.1), 50, size="small")(tmp_path / "trial").runs.finished
    found = judge(evidence([*trial, *whole]))["top-2012"]
    assert found.verdict is R
    assert found.measured == {"gluon": "41.0 / 18.4 %"}


def test_no_rule_is_left_out() -> None:
    assert set(RULES) == set(BOTH_WAYS) | BY_OTHER_TESTS
    for name, trials in BOTH_WAYS.items():
        assert len({verdict for verdict, _ in trials} - {Verdict.NOT_TESTED}) >= 2, name


def test_a_pace_beyond_the_cards_peak_contradicts_the_days(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge(evidence([]))["days"].verdict is Verdict.NOT_TESTED
    monkeypatch.setattr("paper.days.PAPER_DAYS", (0.5, 1))
    assert judge(evidence([]))["days"].verdict is Verdict.CONTRADICTED


def test_a_backend_that_counts_otherwise_is_named(tmp_path: Path) -> None:
    content = find_case("full").content()
    timings = pd.DataFrame(
        [{"step": step, "phase": phase, "seconds": 1.0} for step in (0, 1) for phase in ("data", "step")]
    )
    counted = {"parameters": {"cpu:0": 60_965_225}, "case": content}
    run = run_folder(tmp_path, "gluon", "bench", "full", {"timings": timings}, **counted)
    found = judge(evidence([run]))["params"]
    assert found.measured == {"gluon": "60,965,225"}
    assert "counted otherwise by gluon" in found.reason
    outputs: dict[str, int] = {**NUMBERS.neurons, "conv3": 1}
    run = run_folder(
        tmp_path, "deepspeed", "parity", "full", {}, case=find_case("parity").content(), result={"outputs": outputs}
    )
    assert "conv3 in deepspeed: 1" in judge(evidence([run]))["neurons-layers"].reason


def test_every_claim_gets_a_verdict_with_a_reason_where_untested() -> None:
    found = judge(evidence([]))
    assert len(found) == 46
    for name, finding in found.items():
        if finding.verdict is Verdict.NOT_TESTED:
            assert finding.reason, name
            assert finding.test_further, name
            assert "nox -s" in f"{finding.reason} {finding.test_further}", name
    assert "--store imagenet-2010" in found["top-2010"].test_further
    assert "--store" not in found["top-2012"].test_further


def test_the_arithmetic_is_of_the_papers_own_network() -> None:
    assert isinstance(NUMBERS, Arithmetic)
    assert NUMBERS.parameters == {"two_column": 60_965_224, "half": 59_798_312, "merged": 62_378_344}
    assert NUMBERS.crossing["two_column"] == 4 * 60_672
    assert 0.05 < NUMBERS.outputs_apart < 1

"""The ladder's rows: the first divergence is the lowest rung's, and equivalence needs both bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from compare.ladder import RUNGS, first_divergence, rows, rung_of, table
from compare.load import RunFolder, Runs
from paper.cost import column_parameters
from protocol.experiment.cases import find_case
from protocol.runs.record import Record, kept_files, write_record
from tests.support.refusals import refused

CASE = find_case("ladder")
QUANTITIES = (
    "weight.conv1.weight",
    "gradient.conv2.bias",
    "gradient.fc8.bias",
    "forward.norm1",
    "forward.conv1",
    "loss.0",
)


def run(root: Path, backend: str, kind: Any, placement: str = "single", **more: Any) -> RunFolder:
    folder = root / backend / placement / str(more.get("seed", 0))
    counts = column_parameters(CASE.network())
    held = {f"cpu:{n}": count for n, count in enumerate(counts)} if placement == "columns" else {"cpu:0": sum(counts)}
    settings: dict[str, Any] = {"case": CASE.content(), "seed": 0, "plan_hash": "one", "precision": "fp32"}
    settings |= {"parameters": held} | more
    record = Record(
        kind=kind,
        status="finished",
        backend=backend,
        placement=placement,
        devices=list(held),
        threads=1,
        **settings,
    )
    write_record(folder, record)
    return RunFolder(folder, root, record)


def ended(found: RunFolder) -> RunFolder:
    """The run with its record as it is once its files are there."""
    record = found.record.model_copy(update={"files": kept_files(found.folder)})
    write_record(found.folder, record)
    return RunFolder(found.folder, found.root, record)


def oracle_run(root: Path) -> RunFolder:
    found = run(root, "oracle", "oracle")
    bounds = [
        {"reading": reading, "quantity": name, "tolerance": 1e-6} for reading in ("fp64", "free") for name in QUANTITIES
    ]
    bounds.append(
        {"reading": "draws", "quantity": "draws.flips", "tolerance": 0.02, "difference": 0.01, "where": "share"}
    )
    pd.DataFrame(bounds).to_csv(found.folder / "tolerances.csv", index=False)
    return ended(found)


def parity_run(root: Path, backend: str, placement: str, far: dict[str, float]) -> RunFolder:
    found = run(root, backend, "parity", placement)
    measured = [
        {"reading": reading, "precision": "fp64", "quantity": name, "difference": far.get(name, 1e-7), "where": "[0]"}
        for reading in ("fp64", "free")
        for name in QUANTITIES
    ]
    pd.DataFrame(measured).to_csv(found.folder / "ladder.csv", index=False)
    save_file({"free.gradient.fc8.bias": np.ones(4)}, found.folder / "probe.safetensors")
    return ended(found)


def climbed(root: Path, far: dict[str, float]) -> pd.DataFrame:
    return table(rows(Runs((oracle_run(root), parity_run(root, "gluon", "columns", far)))))


def test_all_rungs_are_known_and_a_loss_belongs_to_two() -> None:
    assert [rung_of(name) for name in QUANTITIES] == ["update", "gradients", "gradients", "forward", "forward", "loss"]
    assert rung_of("loss.3") == "update"
    assert {rung_of(name) for name in QUANTITIES} <= set(RUNGS)


def test_nothing_far_is_no_divergence(tmp_path: Path) -> None:
    found = climbed(tmp_path, {})
    assert first_divergence(found) is None
    assert set(found["rung"]) == {"counts", "draws", "forward", "loss", "gradients", "update"}


@pytest.mark.parametrize(
    ("far", "first"),
    [
        ({"weight.conv1.weight": 1e-3, "forward.norm1": 2e-6, "gradient.fc8.bias": 1.0}, "forward.norm1"),
        ({"forward.norm1": 1.0, "forward.conv1": 2e-6}, "forward.conv1"),
        # A gradient rests on those of the layers above.
        ({"gradient.conv2.bias": 1.0, "gradient.fc8.bias": 2e-6}, "gradient.fc8.bias"),
        ({"loss.0": float("inf")}, "loss.0"),
        ({"loss.0": float("nan")}, "loss.0"),
    ],
)
def test_the_first_divergence_is_the_lowest(tmp_path: Path, far: dict[str, float], first: str) -> None:
    found = first_divergence(climbed(tmp_path, far))
    assert found is not None
    assert (found["quantity"], found["left"], found["case"]) == (first, "gluon columns", "ladder")


def test_a_column_with_another_columns_share_is_noticed(tmp_path: Path) -> None:
    runs = Runs((oracle_run(tmp_path), parity_run(tmp_path, "gluon", "columns", {})))
    record = runs.finished[1].record
    record.parameters = {"cpu:0": sum(record.parameters.values()), "cpu:1": 0}
    found = first_divergence(table(rows(runs)))
    assert found is not None
    assert (found["rung"], found["quantity"]) == ("counts", "parameters, cpu:0")


def test_what_the_oracle_bounds_and_a_run_does_not_tell_is_as_far_as_can_be(tmp_path: Path) -> None:
    oracle, run_ = oracle_run(tmp_path), parity_run(tmp_path, "gluon", "columns", {})
    kept = pd.read_csv(run_.folder / "ladder.csv")
    kept[kept["quantity"] != "forward.norm1"].to_csv(run_.folder / "ladder.csv", index=False)
    found = table(rows(Runs((oracle, ended(run_)))))
    first = first_divergence(found)
    assert first is not None
    assert (first["quantity"], first["difference"], first["where"]) == ("forward.norm1", np.inf, "not measured")
    # Nor does a whole reading go missing.
    record = run_.record.model_copy(update={"result": {"readings": ["fp64", "free"]}})
    kept[kept["reading"] == "fp64"].to_csv(run_.folder / "ladder.csv", index=False)
    cut = ended(RunFolder(run_.folder, run_.root, record))
    assert (table(rows(Runs((oracle, cut))))["where"] == "not measured").sum() == len(QUANTITIES)


def test_a_table_that_was_cut_is_refused(tmp_path: Path) -> None:
    oracle, run_ = oracle_run(tmp_path), parity_run(tmp_path, "gluon", "columns", {})
    path = run_.folder / "ladder.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    with refused("ladder.csv", "damaged"):
        rows(Runs((oracle, run_)))


def test_a_resumed_run_has_a_rung_of_its_own(tmp_path: Path) -> None:
    oracle = oracle_run(tmp_path)
    bounds = pd.read_csv(oracle.folder / "tolerances.csv")
    own = pd.DataFrame([{"reading": "resumed", "quantity": name, "tolerance": 1e-9} for name in ("loss.1", "error.1")])
    pd.concat([bounds, own]).to_csv(oracle.folder / "tolerances.csv", index=False)
    moved = run(tmp_path, "gluon", "train", "stages", result={"readings": ["resumed"]})
    told = [
        {"reading": "resumed", "precision": "fp64", "quantity": name, "difference": difference, "where": ""}
        for name, difference in (("loss.1", 1e-12), ("error.1", 0.5))
    ]
    pd.DataFrame(told).to_csv(moved.folder / "ladder.csv", index=False)
    found = table(rows(Runs((ended(oracle), ended(moved)))))
    resumed = found[found["rung"] == "resume"]
    assert dict(zip(resumed["quantity"], resumed["agrees"], strict=True)) == {"loss.1": True, "error.1": False}


def test_two_runs_are_compared_without_the_oracle_between(tmp_path: Path) -> None:
    left, right = (parity_run(tmp_path, name, "single", {}) for name in ("gluon", "deepspeed"))
    save_file({"free.gradient.fc8.bias": np.ones(4) * (1 + 1e-5)}, right.folder / "probe.safetensors")
    found = first_divergence(table(rows(Runs((oracle_run(tmp_path), left, ended(right))))))
    assert found is not None
    assert (found["rung"], found["left"], found["right"]) == ("pair", "gluon single", "deepspeed single")


def test_twins_are_runs_that_ended_as_their_case_says(tmp_path: Path) -> None:
    photos = find_case("photos").content()
    made = {}
    for name, history in (("whole", []), ("early", []), ("by hand", [{"step": 5, "fallen": 1}])):
        made[name] = run(tmp_path / name, "gluon", "train", case=photos, history=history, plan_hash=name)
        if name != "early":
            save_file({"labels": np.zeros(1, np.int16)}, made[name].folder / "predictions.safetensors")
        made[name] = ended(made[name])
    found = Runs((made["early"], made["by hand"], made["whole"])).twins()
    assert [twin.record.plan_hash for twin in found] == ["whole"]


def test_a_trajectory_that_was_ended_early_is_not_told(tmp_path: Path) -> None:
    oracle = oracle_run(tmp_path)
    pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.9], "high": [2.1, 2.0]}).to_csv(
        oracle.folder / "envelope.csv", index=False
    )
    whole = run(tmp_path / "whole", "gluon", "train")
    early = run(tmp_path / "early", "deepspeed", "train")
    for one, losses in ((whole, [2.01, 1.91]), (early, [2.01])):
        pd.DataFrame({"step": range(len(losses)), "loss": losses}).to_csv(one.folder / "steps.csv", index=False)
    save_file({"labels": np.zeros(1, np.int16)}, whole.folder / "predictions.safetensors")
    found = table(rows(Runs((ended(oracle), ended(whole), ended(early)))))
    told = found[found["rung"] == "trajectory"]
    assert (told["left"].tolist(), told["agrees"].tolist()) == (["gluon single"], [True])


def accuracies(root: Path, errors: dict[str, list[float]]) -> pd.DataFrame:
    runs = []
    for who, values in errors.items():
        backend, precision = who.split()
        for seed, error in enumerate(values):
            case, label = find_case("accuracy").content(), f"{who}{seed}"
            found = run(root / who, backend, "train", case=case, seed=seed, precision=precision, plan_hash=label)
            pd.DataFrame([{"views": 1, "top1_error": error}]).to_csv(found.folder / "epochs.csv", index=False)
            save_file({"labels": np.zeros(1, np.int16)}, found.folder / "predictions.safetensors")
            runs.append(ended(found))
    # Neither a run that was ended early nor one whose rate fell by hand is the case's.
    history = [{"step": 5, "fallen": 1}]
    by_hand = run(root, "deepspeed", "train", case=case, seed=90, precision="fp32", plan_hash="fell", history=history)
    save_file({"labels": np.zeros(1, np.int16)}, by_hand.folder / "predictions.safetensors")
    early = run(root, "deepspeed", "train", case=case, seed=91, precision="fp32", plan_hash="early")
    return table(rows(Runs((*runs, ended(by_hand), ended(early)))))


@pytest.mark.parametrize(
    ("other", "agrees"),
    [
        ([0.30, 0.31, 0.29, 0.30], True),
        ([0.38, 0.39, 0.37, 0.38], False),
        # As alike on average as the first, but with too few certain figures to say so.
        ([0.10, 0.50, 0.20, 0.40], False),
    ],
)
@pytest.mark.parametrize(("left", "precision"), [("gluon", "fp32"), ("deepspeed", "bf16")])
def test_accuracies_are_equivalent_only_when_the_interval_is_within_the_margin(
    tmp_path: Path, left: str, precision: str, other: list[float], agrees: bool
) -> None:
    found = accuracies(tmp_path, {f"{left} {precision}": [0.30, 0.30, 0.31, 0.29], "deepspeed fp32": other})
    assert found["agrees"].tolist() == [agrees]
    assert "4 and 4 seeds" in found["where"].iloc[0]
    assert found["rung"].tolist() == ["accuracy"]

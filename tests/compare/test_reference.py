"""The committed reference, and every figure in README.md, follow from the committed records."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from compare.audit import build as audit
from compare.audit.questions import answers
from compare.audit.trained_claims import read
from compare.bench.measure import MACHINE
from compare.claims import controls, judge, pack
from compare.claims.evidence import Evidence
from compare.lint import judge as linting
from compare.load import load_runs
from compare.reference.keep import BENCHES, LADDER_TABLE, LADDERS, by_machine, folder_of, keep
from compare.reference.readme import BEGIN, END, _ladders, block, pages, with_block
from compare.tables import COLUMNS
from protocol.base.errors import Misuse
from protocol.base.tables import write_table
from protocol.lint.record import read_lint
from protocol.runs.record import kept_files, read_record, write_record

PROJECT = Path(__file__).parents[2]
REFERENCE = PROJECT / "results" / "reference"
LARGEST = 24 * 2**20  # four of them for the shards of the claims


@pytest.fixture(scope="module")
def rebuilt() -> dict[str, pd.DataFrame]:
    return audit.build(
        load_runs(REFERENCE / "runs"),
        REFERENCE / "stores",
        REFERENCE / "power",
        read(REFERENCE / "claims", "the reference"),
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_follow_from_the_committed_records(name: str, rebuilt: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    from compare import tables

    table = rebuilt[name]
    tables.write(tmp_path, name, table.astype(object).where(table.notna(), None).to_dict("records"))
    committed, again = (pd.read_csv(path / f"{name}.csv") for path in (REFERENCE / "audit", tmp_path))
    assert_frame_equal(again, committed, check_exact=False, rtol=1e-9)


@pytest.mark.long
def test_what_the_claims_came_to_follows_from_the_committed_shards(tmp_path: Path) -> None:
    claims = REFERENCE / "claims"
    evidence = Evidence(pack.read(claims))
    judge.write(evidence, claims, tmp_path)
    write_table(tmp_path / "controls.csv", controls.COLUMNS, controls.rows(evidence))
    names = ("effects", "claims", "specialise", "specialise_seeds", "connectivity", "controls")
    for name in names:
        committed, again = (pd.read_csv(path / f"{name}.csv") for path in (claims, tmp_path))
        assert_frame_equal(again, committed, check_exact=False, rtol=1e-6)


@pytest.mark.parametrize("kept", sorted(REFERENCE.glob("lint/*/*")), ids=lambda folder: folder.name)
def test_lint_tables_follow_from_the_committed_records(kept: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "lint.csv", linting.COLUMNS, map(asdict, linting.judge(read_lint(kept))))
    assert (tmp_path / "lint.csv").read_text() == (kept / "lint.csv").read_text()


def test_readme_shows_what_the_reference_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    audit = Path("results/reference/audit")
    for name, text in pages(audit).items():
        page = name.read_text()
        assert page == with_block(page, text)
        for linked in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (name.parent / linked).exists(), linked


def bench_of(folder: Path, processor: str, started: str) -> Path:
    folder.mkdir(parents=True)
    machine = {"processor": processor, "cores": 2, "commit": "", "started": started}
    (folder / MACHINE).write_text(json.dumps(machine))
    (folder / "throughput.csv").write_text(started)
    return folder


def test_a_bench_is_kept_by_its_machine_and_the_newest_comes_first(tmp_path: Path) -> None:
    target, runs, data = tmp_path / "reference", tmp_path / "runs", REFERENCE / "stores"
    shutil.copytree(REFERENCE / "runs" / "gluon" / "photos", runs / "gluon" / "photos")
    for number, (processor, started) in enumerate(
        [("Old(R) Core", "2026-01-02"), ("AMD  EPYC 9", "2026-02-02"), ("AMD EPYC 9", "2026-03-02T03:04+00:00")]
    ):
        bench = bench_of(tmp_path / str(number), processor, started)
        (bench / f"of-{number}.csv").write_text("")
        none = tmp_path / "none"
        keep(runs, data, none, none, bench, none, none, target)
    assert [folder.name for folder in by_machine(target, BENCHES)] == ["amd-epyc-9-2-cores", "old-r-core-2-cores"]
    # One machine's newer bench replaces its older one, whole.
    assert {path.name for path in by_machine(target, BENCHES)[0].iterdir()} == {MACHINE, "throughput.csv", "of-2.csv"}


def test_a_bench_that_was_stopped_is_not_kept(tmp_path: Path) -> None:
    bench = bench_of(tmp_path / "bench", "AMD EPYC", "2026-01-02")
    (bench / "throughput.csv").unlink()
    with pytest.raises(Misuse, match="not complete"):
        folder_of(bench, "throughput.csv")


def test_a_ladder_is_kept_by_its_machine_and_readme_says_what_does_not_agree(tmp_path: Path) -> None:
    climbed, target = tmp_path / "ladder", tmp_path / "reference"
    bench_of(climbed, "AMD EPYC", "2026-01-02")
    table = pd.read_csv(REFERENCE / "audit" / "parity.csv").tail(50)
    table.iloc[7, table.columns.get_loc("agrees")] = False
    table.to_csv(climbed / "parity.csv", index=False)
    runs = tmp_path / "runs"
    shutil.copytree(REFERENCE / "runs" / "gluon" / "photos", runs / "gluon" / "photos")
    none = tmp_path / "none"
    keep(runs, REFERENCE / "stores", none, none, none, climbed, none, target)
    (folder,) = by_machine(target, LADDERS)
    assert {path.name for path in folder.iterdir()} == {MACHINE, LADDER_TABLE}
    (sentence,) = _ladders(target, table.head(30))
    assert "on 2 cores of AMD EPYC, 2026-01-02, commit " in sentence
    assert ": 1 of 50 quantities do not agree" in sentence
    assert sentence.endswith(f"{len(table.head(30))} of them are among the audit's too.")


def test_a_changed_figure_is_noticed(tmp_path: Path) -> None:
    for path in REFERENCE.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "audit").unlink()
    shutil.copytree(REFERENCE / "audit", tmp_path / "audit")

    def text(reference: Path) -> str:
        return block(reference / "audit").replace(reference.as_posix(), "")

    assert text(tmp_path) == text(REFERENCE)
    scaling = pd.read_csv(tmp_path / "audit" / "scaling.csv")
    scaling.loc[0, "images_per_second"] += 1
    scaling.to_csv(tmp_path / "audit" / "scaling.csv", index=False)
    assert text(tmp_path) != text(REFERENCE)


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(Misuse, match="markers"):
        with_block("no markers here", "text")
    assert with_block(f"a{BEGIN}old{END}b", "new\n") == f"a{BEGIN}\nnew\n{END}b"


def test_the_reference_is_small_and_holds_no_full_weights() -> None:
    files = [path for path in REFERENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert not [path for path in files if path.name in ("weights.safetensors", "tensors.safetensors")]


def test_every_parity_rung_of_the_reference_holds() -> None:
    parity = pd.read_csv(REFERENCE / "audit" / "parity.csv")
    assert parity["agrees"].all()
    for backend, placements in (("gluon", ("single", "columns")), ("deepspeed", ("single", "stages"))):
        for placement in placements:
            own = parity[parity["left"] == f"{backend} {placement}"]
            assert {"counts", "start", "data", "forward", "loss", "gradients", "update", "test"} <= set(own["rung"])
            assert {"fp64", "imposed", "free"} <= set(own["reading"])


def test_both_backends_of_the_reference_see_more_than_colour() -> None:
    bar = pd.read_csv(REFERENCE / "audit" / "colour_bar.csv")
    assert set(bar["backend"]) == {"gluon", "deepspeed"}
    assert (bar["accuracy"] >= bar["linear"] + 0.10).all()


def test_the_slower_stage_of_the_reference_does_at_most_57_per_cent() -> None:
    stages = pd.read_csv(REFERENCE / "audit" / "stages.csv")
    assert stages.loc[stages["batch"] == 128, "share"].max() <= 0.57


def audit_of(runs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compare", "audit", "--runs", str(runs), "--data", str(REFERENCE / "stores")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [*command, "--out", str(out)], cwd=out.parent, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_the_audit_says_which_quantity_disagrees(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE / "runs", tmp_path / "runs")
    good = audit_of(tmp_path / "runs", tmp_path / "audit")
    assert good.returncode == 0, good.stderr
    assert "agree within their tolerances" in good.stderr
    written = {path.name for path in (tmp_path / "audit").iterdir()}
    assert {
        "audit.md",
        "audit.html",
        "verdicts.csv",
        "training.png",
        "kernels.png",
        "days.png",
        "memory.png",
    } <= written
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert 'src="data:image/png;base64,' in page
    # A picture's own letters may spell anything.
    told = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "http" not in told.replace("http-equiv", "")

    path = tmp_path / "runs" / "gluon" / "parity" / "columns" / "seed0" / "ladder.csv"
    table = pd.read_csv(path)
    table.loc[(table["reading"] == "imposed") & (table["quantity"] == "gradient.conv3.weight"), "difference"] = 1e-3
    table.to_csv(path, index=False)
    bad = audit_of(tmp_path / "runs", tmp_path / "audit")
    assert bad.returncode == 1
    assert f"{path.name} is damaged" in bad.stderr
    record = read_record(path.parent)
    write_record(path.parent, record.model_copy(update={"files": kept_files(path.parent)}))
    bad = audit_of(tmp_path / "runs", tmp_path / "audit")
    assert bad.returncode == 1
    assert "gradient.conv3.weight of gluon columns, case parity, on rung gradients, reading imposed" in bad.stderr


def test_a_record_of_a_later_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "gluon" / "photos" / "columns" / "seed0"
    shutil.copytree(REFERENCE / "runs" / "gluon" / "photos" / "columns" / "seed0", folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "version": 99}))
    ended = audit_of(tmp_path / "runs", tmp_path / "audit")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "version 99" in ended.stderr
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (-3.5, -0.2, "inconclusive", "No, not here: both 95 % intervals of how much more it errs lie below 0, though"),
        (
            -3.5,
            -0.2,
            "opposite at small scale",
            "No, not here: both 95 % intervals of how much more it errs lie below 0.",
        ),
        (0.2, 3.5, "consistent at small scale", "Yes, here: both 95 % intervals of how much more it errs lie above 0."),
        (-1.0, 1.0, "inconclusive", "Not told yet."),
        (None, None, "not tested here", "Not told yet."),
    ],
)
def test_whether_one_level_falls_short_is_answered_by_the_intervals(
    rebuilt: dict[str, pd.DataFrame], low: float | None, high: float | None, verdict: str, words: str
) -> None:
    table = rebuilt["verdicts"].set_index("claim").astype(object)
    table.loc["notes-merged", ["interval_low", "interval_high", "verdict"]] = [low, high, verdict]
    found = {one.question: one.answer for one in answers(rebuilt | {"verdicts": table.reset_index()})}
    assert found["Does a one-level version fall short?"].startswith(words)


def test_that_the_columns_part_in_one_backend_alone_is_said(rebuilt: dict[str, pd.DataFrame]) -> None:
    table = rebuilt["verdicts"].set_index("claim").astype(object)
    question, said = "Do shape and colour really separate, or was it chance?", "the columns part in gluon alone"
    for reason, there in ((f"one; {said}, which is a finding; two", True), ("one; two", False)):
        table.loc["specialise", "reason"] = reason
        found = {one.question: one.answer for one in answers(rebuilt | {"verdicts": table.reset_index()})}
        assert (said in found[question]) == there

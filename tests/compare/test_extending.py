"""What docs/extending.md promises: a new one of each works, and one that is half there is named in a sentence."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compare import completeness, conductor
from compare.audit import findings, verdicts
from compare.audit.trained_claims import Trained
from compare.load import load_runs
from compare.profiles import Job, quick
from paper.claims import Claim, load_claims
from paper.recipe import PRESETS
from paper.sources import SOURCES
from protocol.backends import BACKENDS, DEEPSPEED
from protocol.runs.record import read_record
from protocol.runs.request import make_train
from tests.conftest import write
from tests.support.commands import environment
from tests.support.refusals import refused

PROJECT = Path(__file__).parents[2]
TOY_CLAIM = """
[[claim]]
id = "toy"
section = "9"
source = "paper"
statement = "A toy does what toys do."
paper = "12 toys"
record_2012 = ""
unit = ""
tests = ["E"]
primary = false
how = "nox -s audit"
"""
# A case of its own on a data set of its own, neither of them in the project's folders.
TOY_CASE = """
import runpy, sys
from dataclasses import replace
from protocol.experiment.cases import CASES
CASES["toy"] = replace(CASES["ladder"], name="toy", store="toys", size="tiny", classes=20, epochs=1, batch=8,
                       test_limit=4)
runpy.run_module("protocol", run_name="__main__")
"""
# A backend that says it has done what it was asked for.
TOY_BACKEND = """
import sys
from pathlib import Path
from protocol.runs.record import Record, kept_files, write_record
from protocol.base.provenance import surroundings
from protocol.experiment.cases import find_case

told = dict(zip(sys.argv[2::2], sys.argv[3::2]))
out = Path(told["--out"])
out.mkdir(parents=True)
(out / "timings.csv").write_text("step,device,phase,seconds\\n0,all,step,1\\n")
record = Record(
    kind="bench", status="finished", backend="toy", placement=told["--placement"], devices=["cpu:0"],
    case=find_case(told["--case"]).content(), seed=int(told["--seed"]), precision="fp32", threads=1, plan_hash="",
    **surroundings(("numpy",)),
)
write_record(out, record.model_copy(update={"files": kept_files(out)}))
"""


def test_a_data_set_and_a_case_of_ones_own(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    images, labels = generator.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40, dtype=np.int64) % 20
    write(tmp_path / "data" / "toys", (images[:32], labels[:32]), (images[32:], labels[32:]))
    arguments = ["oracle", "--case", "toy", "--readings", "fp64", "--data", "data", "--out", "run"]
    command = [sys.executable, "-c", TOY_CASE, *arguments]
    done = subprocess.run(command, cwd=tmp_path, env={**environment(), "MALLOC_TOP_PAD_": "0"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    record = read_record(tmp_path / "run")
    assert (record.status, record.case["name"]) == ("finished", "toy")


def test_a_claim_with_its_rule_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "claims.toml").write_text(TOY_CLAIM)
    claims = load_claims(tmp_path / "claims.toml")
    rules: dict[str, findings.Rule] = {}
    monkeypatch.setattr(findings, "RULES", rules)
    monkeypatch.setattr(verdicts, "RULES", rules)
    with refused("claim toy", "no rule", '@rule("toy")'):
        verdicts.check_rules(claims)

    @findings.rule("toy")
    def _toy(evidence: findings.Evidence, claim: Claim) -> findings.Finding:
        return findings.Finding(findings.Verdict.REPRODUCED)

    verdicts.check_rules(claims)
    found = verdicts.judge(findings.Evidence(None, [], claims, None), Trained({}))  # type: ignore[arg-type]
    assert found["toy"].verdict == "reproduced"


def test_a_misspelt_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(findings.RULES, "fits-4gb", findings.RULES["fits-3gb"])
    with refused("fits-4gb", "fits-3gb"):
        verdicts.check_rules(load_claims())


def test_a_preset_that_no_audit_tries_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "toy", replace(PRESETS["paper"], name="toy"))
    with refused("preset toy", "gluon", "protocol/backends.py"):
        quick(tuple(BACKENDS))
    for name, backend in BACKENDS.items():
        monkeypatch.setitem(BACKENDS, name, replace(backend, compared={**backend.compared, "toy": ("single",)}))
    tried = {(job.backend, job.preset) for job in quick(tuple(BACKENDS)) if job.verb == "parity"}
    assert {("gluon", "toy"), ("deepspeed", "toy")} <= tried
    # Its sources are asked for by tests/paper/test_sources.py.
    assert "toy" not in SOURCES


@pytest.mark.parametrize("name", BACKENDS)
def test_every_placement_that_a_backend_names_can_be_asked_for(name: str) -> None:
    own = BACKENDS[name]
    assert own.split in own.placements
    for placement in (*own.placements, *own.products):
        assert make_train(own.name, "tiny", placement=placement).placement == placement
    for places in own.compared.values():
        assert set(places) <= {*own.placements, *own.products}


def test_a_backend_is_run_as_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_impl.py").write_text(TOY_BACKEND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(PROJECT))))
    with refused("no backend 'toy'"):
        conductor.interpreters_of((f"toy={sys.executable}",))
    monkeypatch.setitem(BACKENDS, "toy", replace(DEEPSPEED, name="toy", module="toy_impl"))
    interpreters = conductor.interpreters_of((f"toy={sys.executable}",))
    jobs = [Job("toy", "bench", "full", 1)]
    failed, _ = conductor.run_jobs(jobs, interpreters, tmp_path)
    assert not failed
    assert completeness.missing(load_runs(tmp_path / "results" / "runs"), jobs) == []

"""The claims that train, judged from planted runs: what is there is found, what is not is not, and all runs count."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare.claims import again, clock, connectivity, controls, judge, pack, plan, specialise
from compare.claims.arms import ARMS, BASELINE, KERNELS_OF, STUDIES, STUDY_147, STUDY_SIDES, Arm, seeds_of, study_seeds
from compare.claims.clock import Clock
from compare.claims.comparisons import BESIDE, COMPARISONS, PRIMARY, QUANTITIES, log_ratio, measure, passes_to_mark
from compare.claims.evidence import Evidence
from compare.claims.pack import Packed
from compare.claims.shards import Place, Task
from compare.statistics import LEVEL, POWER, detectable, effect_of, equivalence_power, holm, jointly_detectable
from paper.claims import load_claims
from paper.cost import forward_macs, parameters, train_flops
from protocol.backends import BACKENDS, Backend
from protocol.base.provenance import sources_of
from protocol.experiment.cases import CASES, find_case, what
from protocol.runs.record import Kept, Record, write_record
from tests.support.refusals import refused

ARM = {arm.name: arm for arm in ARMS}
EVERY = ARM | {arm.name: arm for own in STUDIES.values() for arm in own}
UP, DOWN, MIXED = [0.02, 0.021, 0.019, 0.02], [-0.02, -0.021, -0.019, -0.02], [0.02, -0.02, 0.01, -0.01]
SOON, NEVER = (0.6, 0.2, 0.1), (0.9, 0.8, 0.7)


def run_of(
    backend: str,
    arm: str,
    seed: int,
    error: float = 0.2,
    *,
    training: Iterable[float] = (0.5, 0.1),
    views: float = 0.0,
    gradients: tuple[float, float] = (1.0, 1.0),
    neighbours: tuple[float, float] = (0.6, 0.4),
    status: Any = "finished",
    sources: str = "a",
    **changes: Any,
) -> Packed:
    """A run as it would be kept. ``training``: clean training errors, two an epoch; ``views``: what ten gain."""
    case = replace(EVERY[arm].as_case(), **changes).content()
    record = Record(
        kind="train",
        status=status,
        backend=backend,
        placement="single",
        devices=["cpu:0"],
        case=case,
        seed=seed,
        precision="fp32",
        threads=1,
        processor="a processor",
        plan_hash="",
        sources=sources,
    )
    checks = "".join(f"{at},{at / 2},{found},{found}\n" for at, found in enumerate(training, start=1))
    tables = {
        "epochs": f"epoch,top1_error,views\n5,{error},1\n5,{error - views},10\n",
        "checks": f"step,epochs,loss,error\n{checks}",
        "gradients": f"step,layer,norm\n1,conv1,{gradients[0]}\n1,fc8,{gradients[1]}\n",
        "neighbours": f"space,same_class\nfc7,{neighbours[0]}\npixels,{neighbours[1]}\n",
    }
    files = {f"{name}.csv": Kept(sha256=hashlib.sha256(text.encode()).hexdigest()) for name, text in tables.items()}
    return Packed(arm, record.model_copy(update={"files": files}), tables, "01")


def ablation(arm: str, **effects: list[float]) -> list[Packed]:
    """Baseline errors of .2 to .3 by seed, and those of ``arm`` higher by each backend's ``effects``."""
    found = []
    for backend, own in effects.items():
        for seed, difference in enumerate(own):
            found.append(run_of(backend, "baseline", seed, 0.2 + 0.01 * seed))
            found.append(run_of(backend, arm, seed, 0.2 + 0.01 * seed + difference))
    return found


def verdicts(runs: list[Packed]) -> dict[str, dict[str, Any]]:
    return {row["claim"]: row for row in judge.verdict_rows(judge.show_all(Evidence(runs)))}


@pytest.mark.parametrize(
    ("gluon", "deepspeed", "verdict"),
    [
        (UP, UP, judge.CONSISTENT),
        (DOWN, DOWN, judge.OPPOSITE),
        (UP, DOWN, judge.INCONCLUSIVE),
        (UP, MIXED, judge.INCONCLUSIVE),
        (MIXED, MIXED, judge.INCONCLUSIVE),
    ],
)
def test_both_backends_have_to_show_it(gluon: list[float], deepspeed: list[float], verdict: str) -> None:
    row = verdicts(ablation("no-colour", gluon=gluon, deepspeed=deepspeed))["pca"]
    assert row["verdict"] == verdict
    assert "exploratory" in row["reason"]
    assert row["seeds"] == 4
    if verdict == judge.INCONCLUSIVE:
        assert "with power .8 both backends would show" in row["reason"]
        assert ("told from no effect in gluon alone" in row["reason"]) == (gluon is UP and deepspeed is MIXED)
    assert ("opposite ways" in row["reason"]) == (gluon is UP and deepspeed is DOWN)


def test_one_backend_alone_or_too_few_seeds_decide_nothing() -> None:
    assert "pca" not in verdicts(ablation("no-colour", gluon=UP))
    assert "pca" not in verdicts(ablation("no-colour", gluon=UP[:2], deepspeed=UP[:2]))


def test_the_effect_is_paired_by_seed() -> None:
    """Seeds differ by ten points, the change by two: only a paired test can see that."""
    runs = ablation("no-colour", gluon=UP, deepspeed=UP)
    (comparison,) = (one for one in COMPARISONS if one.claim == "pca")
    shown = judge.show(Evidence(runs), comparison, "gluon")
    assert shown is not None
    assert shown.effect.mean == pytest.approx(0.02)
    assert shown.effect.p < 1e-4
    shifted = [
        replace(run, record=run.record.model_copy(update={"seed": run.record.seed + 9}))
        if run.arm != "baseline"
        else run
        for run in runs
    ]
    assert judge.show(Evidence(shifted), comparison, "gluon") is None


@pytest.mark.parametrize("changes", [{"epochs": 9}, {"preset": "caffe"}, {"rate": 0.02}, {"limit": 10}])
def test_runs_of_another_case_are_not_the_plans_whatever_they_are_called(changes: dict[str, Any]) -> None:
    runs = ablation("no-colour", gluon=UP, deepspeed=UP)
    others = [run_of("gluon", "no-colour", seed, 0.9, **changes) for seed in range(10, 14)]
    others += [run_of("gluon", "baseline", seed, 0.2, **changes) for seed in range(10, 14)]
    assert verdicts([*runs, *others])["pca"] == verdicts(runs)["pca"]


def test_runs_of_other_sources_are_no_replications() -> None:
    runs = ablation("no-colour", gluon=UP, deepspeed=UP)
    verdicts([*runs, run_of("gluon", "half", 0)])
    with refused("different sources", "gluon", "01"):
        verdicts([*runs, run_of("gluon", "half", 0, sources="b")])


def test_passes_to_the_mark_are_told_between_checks() -> None:
    run = run_of("gluon", "relu", 0, training=(0.5, 0.35, 0.15))
    assert passes_to_mark(run) == pytest.approx((1.25, True))
    assert measure(run, "log_passes_to_25") == pytest.approx(np.log(1.25))
    never = run_of("gluon", "relu", 0, training=NEVER)
    assert passes_to_mark(never) == (1.5, False)
    at_once = run_of("gluon", "relu", 0, training=(0.15, 0.1))
    assert passes_to_mark(at_once) == pytest.approx((0.5 * (0.95 - 0.25) / (0.95 - 0.15), True))


@pytest.mark.parametrize(
    ("relu", "tanh", "verdict"),
    [
        (SOON, NEVER, judge.CONSISTENT),
        (NEVER, SOON, judge.OPPOSITE),
        (NEVER, NEVER, judge.INCONCLUSIVE),
        (SOON, SOON, judge.INCONCLUSIVE),
    ],
)
def test_runs_that_never_reach_the_mark_count(relu: tuple[float, ...], tanh: tuple[float, ...], verdict: str) -> None:
    runs = []
    for backend in BACKENDS:
        for seed in range(10):
            for arm, errors in (("relu", relu), ("tanh", tanh)):
                # The arms' seeds differ in ways of their own.
                noise = 0.01 * ((seed * (3 if arm == "relu" else 7)) % 5)
                runs.append(run_of(backend, arm, seed, training=[error + noise for error in errors]))
    row = verdicts(runs)["relu-6x"]
    assert row["verdict"] == verdict
    never = 20 * ((relu is NEVER) + (tanh is NEVER))
    assert (f"{never} runs never got to 25 %" in row["reason"]) == (never > 0)
    assert "after Holm" in row["reason"]


def test_a_time_in_seconds_is_that_in_passes_by_the_clock(tmp_path: Path) -> None:
    runs = []
    for backend in BACKENDS:
        for seed in range(4):
            noise = 0.01 * ((7 * seed) % 4)
            runs.append(run_of(backend, "relu", seed, training=(0.5 + noise, 0.35, 0.15)))
            runs.append(run_of(backend, "tanh", seed, training=(0.9, 0.6 - noise, 0.4, 0.2)))
    assert Clock.read(tmp_path).pass_seconds == {}
    assert judge.show_seconds(Evidence(runs), Clock({("gluon", "relu"): 0.001})) == []
    # A pass with tanh takes half as long again in one backend, and half as long in the other.
    seconds = {("gluon", "relu"): 20, ("gluon", "tanh"): 30, ("deepspeed", "relu"): 40, ("deepspeed", "tanh"): 20}
    lines = [
        f"{backend},{arm},{repeat},500,{own * factor},0.5,a processor,a commit"
        for (backend, arm), own in seconds.items()
        for repeat, factor in enumerate((7, 1, 1.1))
    ]
    table = tmp_path / clock.TABLE
    table.write_text("\n".join([",".join(clock.COLUMNS), *lines]) + "\n")
    timed = judge.show_seconds(Evidence(runs), Clock.read(tmp_path))
    passes = [one for one in judge.show_all(Evidence(runs)) if one.comparison.claim == "relu-6x"]
    assert [one.backend for one in timed] == [one.backend for one in passes] == list(BACKENDS)
    for one, other, factor in zip(timed, passes, (1.5, 0.5), strict=True):
        assert one.effect.mean == pytest.approx(other.effect.mean + np.log(factor))
        assert one.effect.high - one.effect.low == pytest.approx(other.effect.high - other.effect.low)
        assert np.exp(one.means[0] - other.means[0]) == pytest.approx(seconds[one.backend, "relu"])
        assert not one.comparison.decides
    assert judge.decide([*passes, *timed]) == judge.decide(passes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("20,0.5", "slow,0.5"),
        ("20,0.5", "inf,0.5"),
        ("20,0.5", "-20,0.5"),
        ("20,0.5", ",0.5"),
        ("gluon", "glue"),
        ("gluon", ""),
        ("relu", "rely"),
        (",a processor,a commit", ""),
        ("a commit", "a commit,more"),
        ("pass_seconds", "seconds"),
        ("gluon,relu,0,500,20,0.5,a processor,a commit", ""),
    ],
)
def test_a_damaged_clock_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = f"{','.join(clock.COLUMNS)}\ngluon,relu,0,500,20,0.5,a processor,a commit\n"
    (tmp_path / clock.TABLE).write_text(text)
    assert Clock.read(tmp_path).pass_seconds == {("gluon", "relu"): 20}
    (tmp_path / clock.TABLE).write_text(text.replace(old, new))
    with refused(clock.TABLE, "--clock"):
        Clock.read(tmp_path)


def test_a_clock_is_measured_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long for tanh; the tenth step is a slow one."""
    started = []

    def printed(command: list[str], environment: dict[str, str]) -> str:
        told = dict(zip(command[4::2], command[5::2], strict=True))
        started.append((command[2], told["--case"], len(os.sched_getaffinity(0)), environment["OMP_NUM_THREADS"]))
        out = Path(told["--out"])
        out.mkdir()
        seconds = [0.064 if told["--case"] == "tanh" else 0.032] * 9 + [5.0]
        rows = "".join(f"{step},all,{phase},{own}\n" for step, own in enumerate(seconds) for phase in ("step", "data"))
        (out / "timings.csv").write_text(f"step,device,phase,seconds\n{rows}")
        return ""

    monkeypatch.setattr(clock, "printed", printed)
    monkeypatch.setattr(clock, "limit", lambda interpreters, threads: {"fp32": 1e12})
    before = os.sched_getaffinity(0)
    with refused("no interpreter", "deepspeed"):
        clock.measure({"gluon": "python"}, tmp_path, tmp_path)
    said = clock.measure(dict.fromkeys(BACKENDS, "python"), tmp_path, tmp_path)
    assert os.sched_getaffinity(0) == before
    arms = [arm.case for arm in clock.timed()]
    each = [(BACKENDS[name].module, case, 1, "1") for case in arms for name in BACKENDS]
    assert started == each * clock.REPEATS
    assert "tanh in gluon: 500 images/s on one core" in " ".join(said)
    seconds = Clock.read(tmp_path).pass_seconds
    assert seconds == pytest.approx({(name, arm): 10 + 10 * (arm == "tanh") for name, arm in seconds})
    table = clock.read(tmp_path)
    flops = train_flops(find_case("claims").network())
    assert table["of_peak"].max() == pytest.approx(1000 * flops / 1e12)


def test_runs_that_diverged_are_told_and_not_dropped_in_silence() -> None:
    runs = ablation("no-colour", gluon=MIXED, deepspeed=MIXED)
    lost = run_of("gluon", "no-colour", 40, status="diverged")
    row = verdicts([*runs, replace(lost, tables={})])["pca"]
    assert "1 runs diverged" in row["reason"]
    assert row["seeds"] == 4


def test_a_claim_whose_runs_all_diverged_is_inconclusive_and_says_so() -> None:
    def planned(arm: str, backend: str, status: str) -> list[Packed]:
        own = BACKENDS[backend]
        return [run_of(backend, arm, seed, 0.2, status=status) for seed in seeds_of(ARM[arm], own)]

    runs = [run for backend in BACKENDS for run in planned("baseline", backend, "finished")]
    runs += [run for backend in BACKENDS for run in planned("no-colour", backend, "diverged")]
    evidence = Evidence(runs)
    (row,) = (row for row in judge.lost_rows(evidence, judge.show_all(evidence)) if row["claim"] == "pca")
    assert row["verdict"] == judge.INCONCLUSIVE
    assert row["reason"].startswith(f"{len(BACKENDS) * ARM['no-colour'].seeds} runs diverged")
    # Not before all have ended.
    early = Evidence(runs[:-1])
    assert not [row for row in judge.lost_rows(early, judge.show_all(early)) if row["claim"] == "pca"]


def test_a_run_that_diverged_is_counted_once() -> None:
    runs = ablation("no-norm", gluon=UP, deepspeed=UP)
    runs += [run_of(backend, "baseline", 9, status="diverged") for backend in BACKENDS]
    assert "; 2 runs diverged" in verdicts(runs)["lrn"]["reason"]


def test_an_effect_is_told_in_its_claims_unit() -> None:
    assert QUANTITIES["test_error"].text(0.0113, 0.008, 0.0146) == "+1.13 (+0.8 to +1.46) points"
    assert QUANTITIES["log_passes_to_25"].text(np.log(6), np.log(4), np.log(9)) == "6 (4 to 9) times"
    row = verdicts(ablation("no-colour", gluon=UP, deepspeed=UP))["pca"]
    assert row["gluon"].endswith("points")
    assert 1.5 < row["low"] < 2 < row["high"] < 2.5


def test_runs_of_another_placement_or_precision_are_not_the_plans() -> None:
    runs = ablation("no-colour", gluon=UP, deepspeed=UP)
    for change in ({"placement": "columns"}, {"precision": "fp64"}):
        other = run_of("gluon", "no-colour", 20, 0.9)
        others = [replace(other, record=other.record.model_copy(update=change)), run_of("gluon", "baseline", 20)]
        assert verdicts([*runs, *others])["pca"]["gluon"] == verdicts(runs)["pca"]["gluon"]


def test_a_claim_of_several_comparisons_needs_them_all() -> None:
    def depth(**errors: float) -> str:
        runs = []
        for backend in BACKENDS:
            for seed in range(6):
                runs.append(run_of(backend, "baseline", seed, 0.2 + 0.001 * seed))
                for number in range(1, 6):
                    error = errors.get(f"conv{number}", 0.3) + 0.002 * (seed % 2)
                    runs.append(run_of(backend, f"without_conv{number}", seed, error))
        return str(verdicts(runs)["depth"]["verdict"])

    assert depth() == judge.CONSISTENT
    assert depth(conv3=0.2) == judge.INCONCLUSIVE
    assert depth(conv3=0.1) == judge.OPPOSITE


def test_a_primary_claim_must_hold_after_holms_correction() -> None:
    """Alone it would pass at 4 %; beside seven others, tested or still to come, it does not."""
    weak = [0.0] * 8
    generator = np.random.default_rng(3)
    while not 0.03 < effect_of(weak).p < 0.045 or effect_of(weak).mean < 0:
        weak = generator.normal(0.01, 0.02, 8).tolist()
    row = verdicts(ablation("no-norm", gluon=weak, deepspeed=weak))["lrn"]
    assert row["verdict"] == judge.INCONCLUSIVE
    assert row["p_holm"] == pytest.approx(len(PRIMARY) * effect_of(weak).p)
    strong = [0.02, 0.021, 0.019, 0.02, 0.018, 0.022, 0.02, 0.021]
    assert verdicts(ablation("no-norm", gluon=strong, deepspeed=strong))["lrn"]["verdict"] == judge.CONSISTENT


def test_what_was_watched_for_a_shorter_time_tells_nothing_of_what_came_after() -> None:
    short, long = run_of("gluon", "relu", 0, training=NEVER), run_of("gluon", "tanh", 0, training=(*NEVER, 0.6, 0.5))
    assert log_ratio(short, long) == 0
    late = run_of("gluon", "tanh", 0, training=(*NEVER, 0.6, 0.2))
    assert log_ratio(short, late) == 0
    soon = run_of("gluon", "relu", 0, training=SOON)
    assert log_ratio(soon, long) == pytest.approx(np.log(2.5) - measure(soon, "log_passes_to_25"))


def test_equivalence_needs_both_sides_within_the_margin() -> None:
    close = [(-1) ** seed * 0.005 for seed in range(6)]
    assert (
        "; equivalent within 2 points"
        in verdicts(ablation("merged", gluon=close, deepspeed=close))["notes-merged"]["reason"]
    )
    wide = [(-1) ** seed * 0.05 for seed in range(6)]
    reason = verdicts(ablation("merged", gluon=wide, deepspeed=wide))["notes-merged"]["reason"]
    assert "not shown to be equivalent within 2 points" in reason


@pytest.mark.parametrize(
    ("claim", "more", "less"),
    [
        ("one-patch", {"views": 0.01}, {"views": -0.01}),
        ("retrieval", {"neighbours": (0.7, 0.4)}, {"neighbours": (0.3, 0.4)}),
    ],
)
def test_claims_of_one_arm(claim: str, more: dict[str, Any], less: dict[str, Any]) -> None:
    for settings, verdict in ((more, judge.CONSISTENT), (less, judge.OPPOSITE)):
        runs = [run_of(backend, "baseline", seed, **settings) for backend in BACKENDS for seed in range(7)]
        assert verdicts(runs)[claim]["verdict"] == verdict


@pytest.mark.long
def test_with_arms_dealt_out_at_random_the_analysis_rejects_at_its_level() -> None:
    """Seeds whose two arms are the same but for chance: a backend alone rejects in one of twenty, both almost never."""
    generator = np.random.default_rng(5)
    alone, decided = 0, 0
    (comparison,) = (one for one in COMPARISONS if one.claim == "pca")
    for _ in range(200):
        runs = ablation("no-colour", **{backend: generator.normal(0, 0.01, 6).tolist() for backend in BACKENDS})
        shown = [judge.show(Evidence(runs), comparison, backend) for backend in BACKENDS]
        alone += sum(one is not None and one.effect.direction != 0 for one in shown)
        decided += judge.decide([one for one in shown if one])["pca"] != judge.INCONCLUSIVE
    assert 6 <= alone <= 40
    assert decided <= 3


def kernels(generator: np.random.Generator, chroma: float) -> np.ndarray:
    """24 kernels (24, 3, 5, 5), half of which have ``chroma`` more of what is no grey."""
    grey = np.repeat(generator.normal(size=(24, 1, 5, 5)), 3, axis=1)
    colour = generator.normal(size=(24, 3, 5, 5))
    share = np.where(np.arange(24) < 12, 0.3 + chroma, 0.3)[:, None, None, None]
    return np.asarray(grey + share * colour)


def test_columns_that_part_by_colour_are_found_and_others_are_not() -> None:
    generator = np.random.default_rng(1)

    def fisher(chroma: float) -> float:
        rows = []
        for seed in range(12):
            values = specialise.measures(kernels(generator, chroma))["chroma"]
            own = specialise.parted(values, 2, np.random.default_rng(seed))
            told = {"means": " ".join(map(str, own.means)), "gap": own.gap, "gap_by_chance": own.chance, "p": own.p}
            rows.append(
                {"arm": "baseline", "backend": "gluon", "seed": seed, "measure": "chroma", "columns": 2, **told}
            )
        (found,) = specialise.rows(rows)
        if chroma:
            assert found["first_column_ahead"] == 12
            assert found["p_side"] < 0.01
        return float(found["p_fisher"])

    assert fisher(0.6) < 1e-4
    assert fisher(0.0) > 0.05


def test_runs_on_the_other_backends_seeds_are_held_to_their_twins(tmp_path: Path) -> None:
    """Which column has more colour goes by the seed in gluon, and in deepspeed it is always the first."""
    generator = np.random.default_rng(3)
    for shard, arm, seeds in (("01", BASELINE, seeds_of), (STUDY_SIDES, STUDIES[STUDY_SIDES][0], study_seeds)):
        runs: list[Packed] = []
        tensors: dict[str, np.ndarray] = {}
        for backend in BACKENDS.values():
            for seed in seeds(arm, backend):
                runs.append(run_of(backend.name, arm.name, seed))
                found = kernels(generator, 0.8)
                first = backend.name == "deepspeed" or seed % 3 == 0
                tensors[f"{runs[-1].key}/kernels"] = np.stack([found if first else found[::-1]]).astype(np.float16)
        pack.write(tmp_path, shard, [(run, tensors if run is runs[0] else {}) for run in runs])
    evidences = Evidence(pack.read(tmp_path)), Evidence.of_study(STUDY_SIDES, tmp_path)
    rows = specialise.rows([row for one in evidences for row in specialise.seed_rows(one, pack.Kernels(tmp_path))])
    chroma = {(row["arm"], row["backend"]): row for row in rows if row["measure"] == "chroma"}
    threes = sum(seed % 3 == 0 for seed in seeds_of(BASELINE, BACKENDS["gluon"]))
    assert chroma["baseline", "deepspeed"]["first_column_ahead"] == 12
    assert chroma["baseline", "deepspeed"]["same_side"] is None
    assert chroma["baseline", "gluon"]["first_column_ahead"] == threes
    assert chroma["swapped", "deepspeed"]["same_side"] == threes
    assert chroma["baseline", "gluon"]["p_below_baseline"] is None
    reason = specialise.reason(rows, 1.0)
    # On their own seeds gluon's columns part; and then by the p of each on the other's seeds.
    alone, draw = (
        "; the columns part in gluon alone, which is a finding",
        "; the columns part on gluon's seeds alone, which",
    )
    for deepspeed, in_gluon, in_deepspeed, words in (
        (0.01, 0.5, 0.5, ""),
        (0.5, 0.5, 0.01, draw),
        (0.5, 0.01, 0.5, alone),
        (0.5, 0.5, 0.5, alone),
    ):
        ps = {("baseline", "gluon"): 0.01, ("baseline", "deepspeed"): deepspeed}
        ps |= {("swapped", "gluon"): in_gluon, ("swapped", "deepspeed"): in_deepspeed}
        told = specialise.reason([row | {"p_fisher": ps[row["arm"], row["backend"]]} for row in rows], 1.0)
        assert [said in told for said in (alone, draw)] == [said == words for said in (alone, draw)]
    assert (
        f"more colour is the same as the other backend's in {chroma['swapped', 'gluon']['same_side']} of 12 in gluon"
        in reason
    )


def test_what_is_measured_of_kernels() -> None:
    rows, columns = np.mgrid[:5, :5]
    grey = np.cos(np.pi * columns)[None, None].repeat(3, axis=1)
    red = np.zeros((1, 3, 5, 5))
    red[:, 0] = 1 + rows
    noise = np.random.default_rng(0).normal(size=(1, 3, 5, 5))
    found = specialise.measures(np.concatenate([grey, red, noise]))
    assert found["chroma"][0] == pytest.approx(0, abs=1e-12)
    assert found["chroma"][1] == pytest.approx(2 / 3)
    assert found["orientation"][0] > found["orientation"][2]
    assert found["frequency"][0] > found["frequency"][1]


def test_the_smallest_gap_that_would_be_seen_shrinks_with_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialise, "SIMULATED", 30)
    generator = np.random.default_rng(2)
    runs = [generator.normal(size=(24, 3, 5, 5)) for _ in range(12)]  # of which some have far more colour than others
    assert 0 < specialise.smallest_seen(runs) < specialise.smallest_seen(runs[:3]) < 1


def test_a_study_is_told_beside_the_plan_and_decides_nothing(tmp_path: Path) -> None:
    def planned(arm: Arm, seeds: Callable[[Arm, Backend], range], worse: float, sources: str) -> list[Packed]:
        return [
            run_of(backend.name, arm.name, seed, 0.2 + worse + 0.003 * (seed % 3), sources=sources)
            for backend in BACKENDS.values()
            for seed in seeds(arm, backend)
        ]

    def row() -> dict[str, Any]:
        shown = judge.show_ended(Evidence(pack.read(tmp_path)), tmp_path)
        return next(row for row in judge.verdict_rows(shown) if row["claim"] == "overlap")

    runs = [*planned(ARM["baseline"], seeds_of, 0, "a"), *planned(ARM["no-overlap"], seeds_of, 0.02, "a")]
    pack.write(tmp_path, "01", [(run, {}) for run in runs])
    alone = row()
    one, other = STUDIES[STUDY_147]
    beside = [*planned(one, study_seeds, 0, "b"), *planned(other, study_seeds, -0.05, "b")]
    pack.write(tmp_path, STUDY_147, [(run, {}) for run in beside])
    told = row()
    effects = ", ".join(f"{backend} -5 (-5 to -5) points" for backend in BACKENDS)
    words = f"; beside it, baseline-147 < no-overlap-147 in test error: {effects}"
    assert words in told["reason"]
    assert told | {"reason": told["reason"].replace(words, "")} == alone


def test_every_arm_and_comparison_can_be_run() -> None:
    assert len(ARM) == len(ARMS)
    assert {one.claim for one in COMPARISONS} | {"specialise"} >= set(PRIMARY)
    claims = load_claims()
    for one in (*COMPARISONS, *BESIDE):
        assert {one.left, one.right or one.left} <= set(EVERY if one in BESIDE else ARM)
        assert one.quantity in QUANTITIES
        assert "T" in claims[one.claim].tests
        assert isinstance(measure(run_of("gluon", one.left, 0), one.quantity), float)
    with pytest.raises(ValueError, match="no comparison is of beauty"):
        measure(run_of("gluon", "half", 0), "beauty")
    for arm in (*ARMS, *(arm for own in STUDIES.values() for arm in own)):
        assert arm.as_case().network().layers
        for backend in BACKENDS.values():
            assert len(seeds_of(arm, backend)) == arm.seeds
            assert not set(study_seeds(arm, backend)) & set(backend.accuracy_seeds)
    primary = {one for one in COMPARISONS if one.claim in PRIMARY and one.decides}
    assert all(ARM[name].seeds >= 12 for one in primary for name in (one.left, one.right) if name)
    assert not {seed for seed in BACKENDS["gluon"].accuracy_seeds} & set(BACKENDS["deepspeed"].accuracy_seeds)


def test_an_arm_changes_one_thing_against_what_it_is_compared_with() -> None:
    together = {"quarter-data", "half-data", "narrow-quarter-data", "narrow-half-data"}  # as many steps: three fields
    for one in COMPARISONS:
        if not one.right or one.right in together:
            continue
        left, right = what(ARM[one.left].as_case().content()), what(ARM[one.right].as_case().content())
        differ = {field for field in left if left[field] != right[field]}
        # Each nonlinearity has the rate that suits it and, its rate being constant, as many passes as show something.
        assert len(differ - {"rate", "epochs"}) == 1, one


@pytest.mark.parametrize("size", ["full", "small"])
def test_merged_nets_of_equal_parameters_and_products(size: str) -> None:
    def counts(variant: str) -> tuple[int, int]:
        classes = 1000 if size == "full" else 20
        table = replace(find_case("claims", variant=variant), size=size, classes=classes).network()
        return parameters(table), forward_macs(table)

    ours = counts("two_column")
    allowed = 0.025 if size == "full" else 0.01
    assert counts("merged_parameters")[0] == pytest.approx(ours[0], rel=allowed)
    assert counts("merged_products")[1] == pytest.approx(ours[1], rel=allowed)


def test_parts_of_the_data_are_trained_on_for_as_many_steps() -> None:
    def steps(name: str) -> int:
        case = CASES[name]
        return (case.limit or 10_000) * case.epochs

    parts = ("half-data", "quarter-data", "narrow", "narrow-half-data", "narrow-quarter-data")
    assert {steps(name) for name in parts} == {steps("claims")}


def studied() -> list[Packed]:
    """As the study leaves it: 4 runs a backend of the recipe that was chosen, 60 s each."""
    runs = []
    for backend in BACKENDS:
        for seed in range(4):
            run = run_of(backend, "baseline", seed, 0.2 + 0.01 * seed, training=(0.5, 0.2 - 0.01 * seed))
            runs.append(replace(run, arm=plan.STUDIED, record=run.record.model_copy(update={"seconds": 60.0})))
    return runs


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    with refused("no plan", "nox -s compare -- plan"):
        plan.read(tmp_path)
    with refused("no study", "--study"):
        plan.write([], tmp_path)
    said = plan.write(studied(), tmp_path)
    assert "1000 images/s" in said[0]
    tasks = plan.read(tmp_path)
    every = [task for shard in tasks.values() for task in shard]
    assert len(every) == sum(arm.seeds for arm in ARMS) * len(BACKENDS)
    assert len({(task.backend.name, task.arm.name, task.seed) for task in every}) == len(every)
    rows = plan.rows(studied())
    for backend in BACKENDS:
        for shard in tasks:
            own = [row["seconds_modelled"] for row in rows if (row["backend"], row["shard"]) == (backend, shard)]
            assert sum(own) <= 60 * plan.SHARD_MINUTES + max(own, default=0)
    # Arms are whole, one after the other.
    order = [row["arm"] for row in rows if row["backend"] == "gluon"]
    assert list(dict.fromkeys(order)) == list(ARM)
    assert order == sorted(order, key=list(ARM).index)
    (tmp_path / "plan.csv").write_text((tmp_path / "plan.csv").read_text().replace("no-norm", "no-form", 1))
    with refused("no arm 'no-form'"):
        plan.read(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("seed", "one", ("seed", "'one'")), ("seed", "", ("without seed",)), ("arm", "", ("without arm",))],
)
def test_a_damaged_plan_is_refused(tmp_path: Path, column: str, value: str, words: tuple[str, ...]) -> None:
    row = {"shard": "01", "backend": "gluon", "arm": "baseline", "seed": "1", "images": "9", "seconds_modelled": "9"}
    row[column] = value
    (tmp_path / "plan.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    with refused("plan.csv", *words):
        plan.read(tmp_path)


def test_power_is_told_from_the_spread_of_the_study() -> None:
    rows = [
        row for row in plan.power_rows(studied()) if row["claim"] == "lrn" and row["compared"] == "baseline < no-norm"
    ]
    spread = float(np.std([0.2, 0.21, 0.22, 0.23], ddof=1))
    assert [row["spread_in_study"] for row in rows] == pytest.approx([spread] * 2)
    assert rows[0]["smallest_effect"] == pytest.approx(detectable(spread * 2**0.5 / 12**0.5, 12))


def everything() -> tuple[list[Packed], dict[str, np.ndarray]]:
    """The planned seeds of every arm, in both backends, with kernels; each arm's error is its own."""
    generator, runs, tensors = np.random.default_rng(4), [], {}
    for number, arm in enumerate(ARM):
        for backend in BACKENDS.values():
            for seed in seeds_of(ARM[arm], backend):
                error = 0.2 + 0.004 * number + generator.normal(0, 0.005)
                curve = 0.6 / (1 + np.arange(1, 5)) + 0.01 * number * (arm != "relu")
                norms = (float(generator.lognormal(0, 0.1)), 1.0)
                run = run_of(backend.name, arm, seed, error, training=curve, views=0.01, gradients=norms)
                runs.append(run)
                if arm in KERNELS_OF:
                    grows = arm == BASELINE.name and seed == backend.accuracy_seeds[0]
                    own = [kernels(generator, 0.4 if arm == "baseline" else 0.0) for _ in range(7 if grows else 1)]
                    tensors[f"{run.key}/kernels"] = np.stack(own).astype(np.float16)
    return runs, tensors


def test_every_table_and_figure_is_written(tmp_path: Path) -> None:
    runs, tensors = everything()
    pack.write(tmp_path, "01", [(run, tensors if run is runs[0] else {}) for run in runs])
    found = judge.write(Evidence(pack.read(tmp_path)), tmp_path, tmp_path / "out")
    assert {row["claim"] for row in found} == {one.claim for one in COMPARISONS} | {"specialise"}
    (parted,) = (row for row in found if row["claim"] == "specialise")
    assert parted["verdict"] == judge.CONSISTENT
    assert "merged" in parted["reason"]
    # Before all of an arm's runs are in, nothing that it is part of is looked at.
    begun = [run for run in runs if run.key != "gluon/no-norm/3"]
    assert {row["claim"] for row in judge.write(Evidence(begun), tmp_path, tmp_path / "early")} == {
        row["claim"] for row in found
    } - {"lrn"}
    few = [run for run in runs if run.key != "gluon/merged/3"]
    assert len(connectivity.rows(Evidence(runs))) == 1 + len(connectivity.rows(Evidence(few)))
    names = "effects claims specialise specialise_seeds connectivity".split()
    assert all((tmp_path / "out" / f"{name}.csv").stat().st_size > 100 for name in names)
    for name in ("forest", "specialise", "connectivity", "growth", "kernels"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.long
def test_with_nothing_left_to_find_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """On runs that differ by arm: dealt out at random, what stood out before does so no more."""
    monkeypatch.setattr(controls, "DEALS", 200)
    runs, _ = everything()
    rows = controls.rows(Evidence(runs))
    dealt = [row for row in rows if row["control"] == "arms dealt out"]
    assert len({row["compared"] for row in dealt}) > 20
    noisy = [row for row in dealt if row["compared"].startswith(("pca: ", "lrn: baseline < no-norm"))]
    assert all(row["rejected"] <= 0.12 * row["tried"] for row in noisy)
    assert [row["tried"] for row in rows if row["control"] == "A/A"] == [20, 20]
    assert all(row["rejected"] <= 3 for row in rows if row["control"] == "A/A")
    permuted = {row["compared"]: row["rejected"] for row in rows if row["control"] == "names permuted"}
    assert set(permuted) == {"lrn", "pca", "two-gpu-acc"}
    assert max(permuted.values()) <= 1
    # Not for want of a difference.
    named = {row["compared"]: row["rejected"] for row in rows if row["control"] == "names kept"}
    assert named["pca"] == named["two-gpu-acc"] == 1


def test_runs_are_kept_whole_or_refused(tmp_path: Path) -> None:
    runs = ablation("no-colour", gluon=UP, deepspeed=UP)
    tensors: dict[str, np.ndarray] = {"gluon/baseline/0/ranks": np.arange(3, dtype=np.uint8)}
    pack.write(tmp_path, "01", [(run, tensors if run.key == "gluon/baseline/0" else {}) for run in runs])
    assert sorted(pack.read(tmp_path), key=lambda run: run.key) == sorted(runs, key=lambda run: run.key)
    assert pack.tensors(tmp_path, "01")["gluon/baseline/0/ranks"].tolist() == [0, 1, 2]
    before = (tmp_path / "01.json.gz").read_bytes()
    pack.write(tmp_path, "01", [(run, {}) for run in reversed(runs)])
    assert (tmp_path / "01.json.gz").read_bytes() == before
    pack.write(tmp_path, "02", [(runs[0], {})])
    with refused("both hold the run gluon/baseline/0"):
        pack.read(tmp_path)
    (tmp_path / "02.json.gz").unlink()
    for damage in (before[:-9], b"", b"\x1f\x8b\x08\x00", b"[]", before[:40] + b"\0\0\0" + before[43:]):
        (tmp_path / "01.json.gz").write_bytes(damage)
        with refused("no shard of runs"):
            pack.read(tmp_path)


def test_a_tasks_run_is_one_that_a_backend_reads() -> None:
    task = Task(BACKENDS["gluon"], Arm("half", variant="half"), 3)
    assert task.entry.model_dump() == {
        "case": "claims",
        "seed": 3,
        "out": "results/claims/runs/gluon/half/seed3",
        "variant": "half",
        "preset": None,
        "batch": None,
        "epochs": None,
        "rate": None,
        "store": None,
    }


def test_on_other_data_runs_stand_apart_and_are_judged_alike(tmp_path: Path) -> None:
    place = Place("cifar10")
    task = Task(BACKENDS["gluon"], ARM["quarter-data"], 3, place)
    assert task.entry.store == "cifar10"
    assert task.folder == Path("results/claims/on/cifar10/runs/gluon/quarter-data/seed3")
    plan.write(studied(), tmp_path)
    arms = {own.arm.name for shard in plan.read(tmp_path, place).values() for own in shard}
    # Without the grey photographs is a question about the photographs.
    assert arms == set(ARM) - {"colour"}
    other: dict[str, Any] = {"store": "cifar10", "classes": 10}
    runs = [run_of(backend, "baseline", seed, views=0.01, **other) for backend in BACKENDS for seed in range(7)]
    assert "one-patch" not in verdicts(runs)
    shown = judge.show_all(Evidence(runs, "cifar10"))
    assert {row["claim"]: row["verdict"] for row in judge.verdict_rows(shown)}["one-patch"] == judge.CONSISTENT


def test_holms_correction_takes_the_larger_of_what_it_has_come_to() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}


def test_equal_differences_tell_their_signs_and_no_more() -> None:
    assert effect_of([0.1, 0.1, 0.1]).p == 0.25
    assert effect_of([0.1, 0.1, 0.1]).direction == 0
    assert effect_of([0.1] * 6).direction == 1


@pytest.mark.long
def test_the_smallest_effect_that_would_be_seen_has_power_four_fifths() -> None:
    """By simulation: true effects of that size are found four times in five, those of its half far less often."""
    generator, seeds = np.random.default_rng(0), 8
    size = detectable(1 / seeds**0.5, seeds)

    def found(effect: float) -> float:
        draws = generator.normal(effect, 1, (4000, seeds))
        return float(np.mean([effect_of(row).direction == 1 for row in draws]))

    assert found(size) == pytest.approx(0.8, abs=0.03)
    assert found(size / 2) < 0.4
    assert found(0.0) < 0.04


def test_what_two_tests_show_together_is_larger_than_what_each_shows_alone() -> None:
    """By simulation, too: of trials with that effect, four in five are found in both."""
    alone = detectable(1.0, 12)
    both = jointly_detectable([(1.0, 12), (1.0, 12)])
    assert alone < both < jointly_detectable([(1.0, 12), (1.0, 12)], LEVEL / 8)
    assert jointly_detectable([(1.0, 12), (0.0, 12)]) == pytest.approx(alone, rel=1e-3)
    assert jointly_detectable([(0.0, 12)]) == 0
    # One backend that varies a hundred times less than the other adds nothing.
    assert jointly_detectable([(1.0, 12), (0.01, 12)]) == pytest.approx(alone, rel=1e-3)
    for count, level in ((12, LEVEL), (4, LEVEL / 8), (3, LEVEL / 8)):
        effect = jointly_detectable([(1.0, count), (1.0, count)], level)
        trials = np.random.default_rng(0).normal(effect, count**0.5, (1000, 2, count))
        found = [all(one.mean > 0 and one.p <= level for one in map(effect_of, trial)) for trial in trials]
        assert np.mean(found) == pytest.approx(POWER, abs=0.04)


def test_power_of_equivalence_is_that_of_trials() -> None:
    trials = np.random.default_rng(1).normal(0, 12**0.5, (1000, 12))
    for margin in (2.5, 3.5):
        found = np.mean([effect_of(own).equivalence <= margin for own in trials])
        assert equivalence_power(margin, 1.0, 12) == pytest.approx(found, abs=0.05)
    assert equivalence_power(1.0, 1.0, 12) == 0


def test_a_run_trained_anew_is_held_to_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What trains is planted: another checkout gives other weights, and records its own sources."""
    here, then = sources_of("gluon_impl"), tmp_path / "then"
    (then / "gluon_impl").mkdir(parents=True)
    (then / "gluon_impl" / "network.py").touch()
    before = sources_of("gluon_impl", then)
    kept = [run_of("gluon", "baseline", 1, sources=here), run_of("gluon", "half", 1, sources=before)]

    def train(name: str, tasks: list[Task], interpreters: Any, data: Path, place: Place, checkout: Path | None) -> None:
        (task,) = tasks
        assert data.is_absolute()
        assert task.folder.is_absolute()
        run = run_of("gluon", task.arm.name, task.seed, sources=before if checkout else here)
        files = run.record.files | {"weights.safetensors": Kept(sha256=weights)}
        write_record(task.folder, run.record.model_copy(update={"files": files}))

    weights = "one"
    kept[0].record.files["weights.safetensors"] = kept[1].record.files["weights.safetensors"] = Kept(sha256="one")
    monkeypatch.setattr(again, "AGAIN", Place(root=tmp_path / "again"))
    monkeypatch.setattr(again, "train", train)

    def anew(key: str, checkout: Path | None = None) -> list[str]:
        return again.train_anew(key, kept, {"gluon": "python"}, Path(), tmp_path, checkout)

    assert anew("gluon/baseline/1") == []
    with refused("gluon/half/1 comes from other sources", "--sources"):
        anew("gluon/half/1")
    weights = "another"
    assert anew("gluon/half/1", then) == ["weights.safetensors"]
    assert again.read(tmp_path)["differing"].tolist() == ["", "weights.safetensors"]
    weights = "one"
    assert anew("gluon/half/1", then) == []
    assert again.read(tmp_path)["run"].tolist() == ["gluon/baseline/1", "gluon/half/1"]
    with refused("other sources"):
        anew("gluon/baseline/1", then)
    with refused("no checkout"):
        anew("gluon/half/1", tmp_path)
    with refused("no kept run"):
        anew("gluon/half/2")
    whole = (tmp_path / again.TABLE).read_text()
    first = whole.splitlines()[1]
    for damaged in ("run,files\n", whole + first + "\n", whole.replace(first, "gluon/baseline/1,5")):
        (tmp_path / again.TABLE).write_text(damaged)
        with refused(again.TABLE, "delete it"):
            anew("gluon/baseline/1")

"""The table of claims: whole, well-formed, in agreement with itself and with the experiments it names."""

import re
from pathlib import Path

import pytest

from paper.claims import Claim, figures, load_claims

CLAIMS = load_claims()
NUMBER = re.compile(r"\d*\.?\d+")

IDS = """
    params neurons neurons-layers conv-share geometry crops bits half-net pool-dims fits-3gb comm-fraction days
    faster-gpus two-gpu-time two-gpu-acc relu-6x lrn lrn-cifar overlap overlap-overfit aug-overfit aug-free pca
    dropout-overfit dropout-2x decay-train bias-ones top-2010 one-patch top-2012 ensemble-5 pretrain-6 ensemble-7
    fall-2009 val-test depth specialise retrieval confident vanishing notes-relu-grad notes-relu-large notes-merged
    notes-channels notes-one-gpu notes-layers
""".split()

# The ways each claim can be tested, where training or a recorded run is among them.
TESTED = {
    "faster-gpus": "T",
    "two-gpu-acc": "T F R",
    "relu-6x": "T",
    "lrn": "T F R",
    "lrn-cifar": "T",
    "overlap": "T F R",
    "overlap-overfit": "T",
    "aug-overfit": "T F",
    "pca": "T F",
    "dropout-overfit": "T F",
    "dropout-2x": "T F",
    "decay-train": "T F",
    "bias-ones": "T",
    "top-2010": "F R",
    "one-patch": "F R T",
    "top-2012": "F R",
    "ensemble-5": "F",
    "pretrain-6": "F R",
    "ensemble-7": "F",
    "fall-2009": "F",
    "depth": "T F",
    "specialise": "T F",
    "retrieval": "T",
    "vanishing": "T",
    "notes-merged": "T",
    "notes-layers": "shown",
    "val-test": "E R",
}
OTHERWISE = {
    "fits-3gb": "E measured",
    "two-gpu-time": "E measured",
    "aug-free": "measured",
    "confident": "shown",
}


# What is compared with the baseline, and what of it the claim says is lower.
def numbers(text: str) -> list[float]:
    return [float(found) for found in NUMBER.findall(text.replace(",", ""))]


def test_there_are_46_claims_in_the_papers_order() -> None:
    assert len(IDS) == 46
    assert list(CLAIMS) == IDS
    assert all(claim.id == name for name, claim in CLAIMS.items())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_how_a_claim_is_tested(claim: Claim) -> None:
    assert claim.tests == tuple((TESTED | OTHERWISE).get(claim.id, "E").split())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_a_claim_says_where_it_stands_and_speaks_in_sentences(claim: Claim) -> None:
    is_note = claim.id.startswith("notes-") or claim.id == "vanishing"
    assert (claim.source, claim.section == "notes") == (("notes", True) if is_note else ("paper", False))
    assert re.match(r"abstract|Figure 2|notes|[1-7]", claim.section)
    for sentence in (claim.statement, claim.how):
        assert sentence.endswith(".")
        assert not re.search(r"\. [A-Z]", sentence), "one sentence"


def test_primary_claims_are_few() -> None:
    primary = {name for name, claim in CLAIMS.items() if claim.primary}
    decided_first = "relu-6x lrn overlap aug-overfit dropout-overfit two-gpu-acc notes-merged specialise"
    assert primary == set(decided_first.split())


@pytest.mark.parametrize(
    "claim",
    [claim for claim in CLAIMS.values() if "R" in claim.tests and claim.id != "val-test"],
    ids=lambda claim: claim.id,
)
def test_a_recorded_run_rounds_to_the_papers_figures(claim: Claim) -> None:
    assert [round(found, 1) for found in numbers(claim.record_2012)[:2]] == numbers(claim.paper)[:2]


def test_only_claims_with_a_recorded_run_state_one() -> None:
    assert all(bool(claim.record_2012) == ("R" in claim.tests) for claim in CLAIMS.values())
    assert all(bool(claim.record_2012) == bool(claim.record_at) for claim in CLAIMS.values())


def test_run_137s_two_errors_are_further_apart_than_the_paper_says() -> None:
    top_1, top_5 = (37.796, 37.617), (17.102, 17.125)
    assert [abs(a - b) for a, b in (top_1, top_5)] == pytest.approx([0.179, 0.023])
    assert {*top_1, *top_5} <= set(figures(CLAIMS["val-test"].record_2012))
    assert figures(CLAIMS["val-test"].paper) == [0.1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("60 million", [60e6]),
        ("at most 1 %", [1]),
        ("224, 55", [224, 55]),
        ("150,528; 253,440, 4096", [150_528, 253_440, 4096]),
        ("1.7 / .2 points", [1.7, 0.2]),
        ("", []),
    ],
)
def test_the_figures_of_a_field(text: str, found: list[float]) -> None:
    assert figures(text) == pytest.approx(found)


def test_the_split_gained_the_difference_of_its_two_recorded_runs() -> None:
    gain_1, gain_5, half_1, half_5, whole_1, whole_5 = numbers(CLAIMS["two-gpu-acc"].record_2012)
    assert (round(half_1 - whole_1, 3), round(half_5 - whole_5, 3)) == (gain_1, gain_5) == (1.695, 1.230)


def test_rounded_figures_promise_their_digits_and_two_claims_have_a_tolerance() -> None:
    tolerances = {name: claim.tolerance for name, claim in CLAIMS.items() if claim.tolerance is not None}
    assert tolerances == {"half-net": 0.02, "comm-fraction": 0.1}
    digits = {name: claim.digits for name, claim in CLAIMS.items() if claim.digits is not None}
    assert digits == dict.fromkeys(("params", "neurons", "bits"), 2)


def test_caveats_of_the_recorded_ablations_stand_beside_them() -> None:
    assert "1.3 sigma" in CLAIMS["overlap"].caveat
    assert "run 147 also changes two paddings" in CLAIMS["overlap"].caveat
    assert "run 148 also drops the extra rnorm" in CLAIMS["lrn"].caveat
    assert "(footnote 2)" in CLAIMS["two-gpu-acc"].caveat


@pytest.mark.parametrize("which", [0, 1], ids=["top-1", "top-5"])
def test_the_overlap_caveat_states_the_standard_error_right(which: int) -> None:
    # At the errors of the one network of Table 2, the 2012 validation set having 50,000 images.
    share = numbers(CLAIMS["top-2012"].record_2012)[which] / 100
    error = 100 * (2 * share * (1 - share) / 50_000) ** 0.5
    assert f"{error:.2f}".lstrip("0") == [".31", ".24"][which]
    assert f"{error:.2f}".lstrip("0") in CLAIMS["overlap"].caveat
    assert numbers(CLAIMS["overlap"].paper)[which] / error == pytest.approx(1.3, abs=0.1)


# Reading

GOOD = """
[[claim]]
id = "one"
section = "3"
source = "paper"
statement = "It works."
paper = ""
record_2012 = ""
unit = ""
tests = ["E", "measured"]
primary = false
how = "Try it."
"""


def read(folder: Path, text: str) -> dict[str, Claim]:
    path = folder / "claims.toml"
    path.write_text(text)
    return load_claims(path)


def test_optional_fields_may_be_absent(tmp_path: Path) -> None:
    claim = read(tmp_path, GOOD)["one"]
    assert claim.tests == ("E", "measured")
    assert (claim.tolerance, claim.caveat) == (None, "")
    assert read(tmp_path, GOOD + "tolerance = 0.5\n")["one"].tolerance == 0.5


@pytest.mark.parametrize(
    "field", ["section", "source", "statement", "paper", "record_2012", "unit", "tests", "primary", "how"]
)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    text = re.sub(rf"^{field} = .*\n", "", GOOD, flags=re.MULTILINE)
    with pytest.raises(ValueError, match=f"^claim one lacks the field '{field}'$"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("digits = 'two'", "claim one has a field 'digits' that is not a int: 'two'"),
        ("colour = 3", "claim one has an unknown field 'colour'"),
        ("tolerance = '0.02'", "claim one has a field 'tolerance' that is not a float: '0.02'"),
        ("caveat = 1", "claim one has a field 'caveat' that is not a str: 1"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read(tmp_path, GOOD + line + "\n")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"measured"', '"X"', "claim one has a field 'tests' with an unknown value 'X'"),
        ('"paper"', '"blog"', "claim one has a field 'source' with an unknown value 'blog'"),
        ("false", "0", "claim one has a field 'primary' that is not a bool: 0"),
        ('id = "one"\n', "", "claim number 1 lacks the field 'id'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read(tmp_path, GOOD.replace(old, new))


def test_an_id_is_its_claims_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^claim one occurs twice: its field 'id' must be its own$"):
        read(tmp_path, GOOD + GOOD)

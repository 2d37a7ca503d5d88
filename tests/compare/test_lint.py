"""What the comparison reads off a lint's record, without a framework: the oracle's own layers are the networks."""

import csv
import sys
from collections.abc import Collection
from dataclasses import replace
from math import tanh
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compare.__main__ import _print_findings, main
from compare.audit.report import _plain
from compare.lint import responses
from compare.lint.expected import FACTS, table_words
from compare.lint.judge import BROKEN, KEPT, NOT_SEEN, PAPER, Judgement, judge, known_words, likeness, summary
from compare.lint.layers import layers
from compare.lint.responses import Windows
from paper.architecture import Conv, Dropout, Layer, Network, Weighted, network
from paper.recipe import PRESETS, Preset
from protocol.lint.factory import sentence
from protocol.lint.observation import AMPLITUDES, CURVE, LEVEL, Traced, observe
from protocol.lint.record import Ending, LintRecord, Places, Reach, Response, make_lint_request, write_lint
from protocol.oracle.network import ForwardPass, apply_layer
from tests.support.long import long


class OracleSubject:
    """A layer table carried out by the oracle, in float32, as :class:`protocol.lint.observation.Subject`."""

    initialised = True

    def __init__(self, table: Network, preset: Preset) -> None:
        self.table, self.generator = table, np.random.default_rng(5)
        self.weighted = list(table.weighted())
        self.pass_ = ForwardPass(self._weights(preset))

    def _weights(self, preset: Preset) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(3)
        found = {}
        for layer in self.weighted:
            draws = generator.normal(0, preset.deviation[layer.name], 100_003)
            found[f"{layer.name}.weight"] = np.resize(draws, layer.weight_shape).astype(np.float32)
            start = preset.bias_start if layer.name in preset.ones else 0
            found[f"{layer.name}.bias"] = np.full(layer.bias_shape, start, np.float32)
        return found

    def trace(self, image: np.ndarray) -> list[Traced]:
        if image.shape[1:] != self.table.input_shape:
            raise ValueError("another image")
        found = []
        for layer in self.weighted:
            weight, bias = (self.pass_.weights[f"{layer.name}.{kind}"] for kind in ("weight", "bias"))
            found.append(Traced(weight, bias, self._shape_in(layer), self._shape_out(layer)))
        return found

    def _shape_in(self, layer: Weighted) -> tuple[int, ...]:
        if not isinstance(layer, Conv):
            return (int(np.prod(layer.shape_in)),)
        maps, rows, columns = layer.shape_in
        return (maps, rows + layer.pad_end, columns + layer.pad_end)

    def _shape_out(self, layer: Weighted) -> tuple[int, ...]:
        return layer.shape_out if isinstance(layer, Conv) else layer.shape_out[:1]

    def parameters(self) -> int:
        return sum(value.size for value in self.pass_.weights.values())

    def forward(
        self, images: np.ndarray, pinned: dict[int, np.ndarray], wanted: Collection[int], training: bool
    ) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        value, met = images, 0
        for layer in self.table:
            if isinstance(layer, Weighted):
                if met in wanted:
                    end = layer.pad_end if isinstance(layer, Conv) else 0
                    edges = ((0, 0), (0, 0), (0, end), (0, end))
                    found[met] = np.pad(value, edges) if end else value.reshape(len(value), *self._shape_in(layer))
                if met == max(wanted):
                    return found
                shape = (len(images), *self._shape_out(layer))
                value = pinned.get(met, np.zeros(shape, np.float32))
                met += 1
            else:
                value = self._follow(layer, value, training)
        return found | {met: value}

    def _follow(self, layer: Layer, value: np.ndarray, training: bool) -> np.ndarray:
        if not isinstance(layer, Dropout):
            return apply_layer(layer, value, self.pass_)[0]
        if not training:
            return value if layer.inverted else value / 2
        kept = self.generator.random(value.shape) < 0.5
        return value * kept * (2 if layer.inverted else 1)

    def apply(self, index: int, value: np.ndarray) -> np.ndarray:
        layer = self.weighted[index]
        assert isinstance(layer, Conv)
        # The oracle's maps are square; the strip is the first columns of one. The padding at its end stands in it.
        rows = value.shape[2]
        out = []
        for strip in value:
            square = np.zeros((1, len(strip), rows, rows), np.float32)
            square[0, :, :, : strip.shape[2]] = strip
            out.append(apply_layer(replace(layer, pad_end=0), square, self.pass_)[0][..., : 1 + layer.pad])
        return np.concatenate(out)


def linted(variant: str, preset: str) -> LintRecord:
    table = network(variant, PRESETS[preset])
    request = make_lint_request("oracle", f"{variant}:{preset}", None, None)
    return observe(request, "oracle", ("numpy",), lambda: OracleSubject(table, PRESETS[preset]))


@pytest.fixture(scope="module")
def paper() -> LintRecord:
    return linted("two_column", "paper")


def test_the_papers_network_keeps_every_fact(paper: LintRecord) -> None:
    findings = judge(paper)
    assert [finding.fact for finding in findings] == list(FACTS)
    assert {finding.verdict for finding in findings} == {KEPT}
    assert {finding.note for finding in findings} == {""}
    assert likeness(paper).differences == ()


@pytest.mark.parametrize(
    ("variant", "preset", "name"), [long("two_column", "chm-145", "chm-145"), ("owt", "paper", "owt")]
)
def test_another_reading_breaks_just_the_facts_whose_words_differ(variant: str, preset: str, name: str) -> None:
    record = linted(variant, preset)
    expected = table_words(network(variant, PRESETS[preset]), PRESETS[preset])
    papers = table_words(network("two_column", PRESETS["paper"]), PRESETS["paper"])
    for finding in judge(record):
        words = expected.get(finding.fact, "")
        if finding.found or finding.fact not in ("norm's alpha", "norm's beta", "norm's k"):
            # Where two norms follow each other, only the other layer shows the constants.
            assert finding.found == words, finding.fact
            same = KEPT if words == papers[finding.fact] else BROKEN
            assert finding.verdict == (same if words else NOT_SEEN)
            assert (name in finding.note) == (finding.verdict == BROKEN)
    assert likeness(record).name == name
    assert f"It is {name} in all that was seen." in summary(record, judge(record))


def test_another_number_of_classes_is_one_fact_and_not_two(paper: LintRecord) -> None:
    few = known_words({"classes": "10"})[PAPER]
    assert few["classes"] == "1000"
    assert few["parameters"] == f"{60_965_224 - 990 * 4097:,}"


def test_an_uninitialised_networks_weights_are_not_judged(paper: LintRecord) -> None:
    findings = judge(paper.model_copy(update={"initialised": False}))
    assert {finding.fact for finding in findings if finding.verdict == NOT_SEEN} == {"deviations", "biases"}


def test_parameters_outside_the_layers_are_told(paper: LintRecord) -> None:
    (found,) = (f for f in judge(paper.model_copy(update={"unseen": 7})) if f.fact == "parameters")
    assert (found.verdict, found.found) == (BROKEN, "60,965,224, 7 of them in none of the layers")


def test_a_passage_that_could_not_be_asked_leaves_what_depends_on_it_unseen(paper: LintRecord) -> None:
    links = [p.model_copy(update={"response": None}) if p.source == 0 else p for p in paper.links]
    unseen = {f.fact for f in judge(paper.model_copy(update={"links": links})) if f.verdict != KEPT}
    assert unseen == {
        "read one column",
        "read both columns",
        "norm after",
        "norm within a map",
        "pooling after",
        "dropout after",
    }


def test_layers_follow_from_the_passages_not_from_the_order(paper: LintRecord) -> None:
    assert [layer.name for layer in layers(paper)] == "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8".split()


def reach(rows: int, size: int, stride: int, pad: int, count: int) -> Reach:
    """Counted window by window, as no formula would."""
    found = []
    for row in range(rows):
        own = [index for index in range(count) if index * stride - pad <= row < index * stride - pad + size]
        found.append((row, own[0], own[-1]) if own else (row, -1, -1))
    return found


@pytest.mark.parametrize(
    ("rows", "expected", "count", "rounds"),
    [
        (227, Windows(11, 4, 0, 0), 55, "windows fit"),
        (224, Windows(11, 4, 0, 3), 55, "up"),
        (224, Windows(11, 4, 2, 1), 55, "down"),
        (27, Windows(5, 1, 2, 2), 27, "windows fit"),
        (55, Windows(3, 2, 0, 0), 27, "windows fit"),
        (54, Windows(3, 2, 0, 1), 27, "up"),
        (54, Windows(3, 2, 0, -1), 26, "down"),
        (55, Windows(2, 2, 0, -1), 27, "down"),
        (55, Windows(3, 2, 1, 1), 28, "windows fit"),
        (13, Windows(1, 1, 0, 0), 13, "windows fit"),
    ],
)
def test_windows_are_found_from_the_rows_that_respond(rows: int, expected: Windows, count: int, rounds: str) -> None:
    responds = reach(rows, expected.size, expected.stride, expected.pad, count)
    assert responses.windows(responds, rows, count, [expected.size]) == expected
    assert responses.windows(responds, rows, count, range(1, 16)) == expected
    assert expected.rounds == rounds


def test_uneven_windows_are_not_taken_for_even_ones() -> None:
    adaptive = [(row, row * 5 // 13, row * 5 // 13) for row in range(13)]
    assert responses.windows(adaptive, 13, 5, range(1, 16)) is None


def response(**changes: object) -> Response:
    """Of a link that leaves everything as it is."""
    fields: dict[str, object] = {
        "curve": [(value, value) for value in CURVE],
        "neighbours": [(step, LEVEL) for step in range(-6, 7)],
        "boundary": [(step, LEVEL) for step in range(5)],
        "opposed": LEVEL,
        "reach": [(row, row, row) for row in range(13)],
        "places": Places(lone=LEVEL, same=LEVEL, other=LEVEL, dim=100, half=50, beside=100),
        "lost": 0.0,
        "survivors": 1.0,
        "tested": 1.0,
        "lost_tested": 0.0,
    }
    return Response.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("none", lambda a: a),
        ("ReLU", lambda a: max(a, 0.0)),
        ("tanh", tanh),
        ("ReLU up to 6", lambda a: min(max(a, 0.0), 6.0)),
        ("another", lambda a: a if a > 0 else a / 100),
        ("another", lambda a: 1 / (1 + np.exp(-np.clip(a, -50, 50)))),
    ],
)
def test_a_nonlinearity_is_told_by_its_values(name: str, function: object) -> None:
    curve = [(value, float(function(value))) for value in CURVE]  # type: ignore[operator]
    assert responses.nonlinearity(response(curve=curve)) == name


@pytest.mark.parametrize(
    ("dim", "half", "beside", "largest"),
    [
        (100, 50, 100, True),
        # A strong norm before the pooling turns about which of the two is larger.
        (15.5, 16.2, 16.2, True),
        (11.1, 5.6, 16.7, False),
        # A norm within the map takes something off both.
        (50.8, 28.5, 49.7, True),
    ],
)
def test_pooling_takes_the_larger_of_what_two_places_give_alone(
    dim: float, half: float, beside: float, largest: bool
) -> None:
    places = Places(lone=LEVEL, same=LEVEL, other=LEVEL, dim=dim, half=half, beside=beside)
    assert responses.takes_largest(response(places=places)) is largest


def test_a_window_that_reaches_as_far_as_was_asked_may_reach_farther() -> None:
    everything = [(step, LEVEL if step == 0 else LEVEL / 2) for step in range(-6, 7)]
    assert responses.window_words(everything) == "13 or more"
    near = [(step, LEVEL / 2 if 0 < abs(step) <= 2 else LEVEL) for step in range(-6, 7)]
    assert responses.window_words(near) == "5"


@pytest.mark.parametrize("classes", [5, 7, 10, 1001])
def test_any_number_of_classes_can_be_judged(paper: LintRecord, classes: int) -> None:
    """Also one that two columns could not share."""
    *others, last = paper.operations
    fewer = last.model_copy(update={"weight": [classes, 4096], "shape_out": [classes]})
    total = 60_965_224 + (classes - 1000) * 4097
    record = paper.model_copy(update={"operations": [*others, fewer], "parameters": total})
    found = {finding.fact: finding for finding in judge(record)}
    assert {fact for fact, finding in found.items() if finding.verdict == BROKEN} == {"classes"}
    assert found["classes"].note == ""
    assert found["parameters"].note == f"the paper's network with {classes} classes"
    assert "images of 227 x 227" in summary(record, list(found.values()))


@pytest.mark.parametrize("alpha", [1e-4, 2e-5, 5e-4, 4e-6])
@pytest.mark.parametrize(("beta", "k"), [(0.75, 2.0), (0.75, 1.0), (0.5, 1.0), (1.0, 4.0)])
def test_a_norms_constants_are_recovered(alpha: float, beta: float, k: float) -> None:
    curve = [(a, float(np.float32(max(a, 0) / (k + alpha * a * a) ** beta))) for a in CURVE]
    found = responses.fit_norm(response(curve=curve))
    assert found is not None
    assert (found.alpha, found.beta, found.k) == pytest.approx((alpha, beta, k), rel=1e-3)


def test_two_norms_are_not_taken_for_one() -> None:
    def norm(a: float, alpha: float) -> float:
        return a / (2 + alpha * a * a) ** 0.75

    curve = [(a, norm(norm(max(a, 0), 2e-5), 1e-3)) for a in AMPLITUDES]
    assert responses.fit_norm(response(curve=curve)) is None


@pytest.mark.parametrize(
    ("survivors", "tested", "scale"),
    [
        (2.0, 1.0, "scaled in training"),
        (1.0, 0.5, "scaled at test"),
        (2.0, 0.5, "scaled twice"),
        (1.0, 1.0, "never scaled"),
    ],
)
def test_dropouts_scale_is_told_from_both_sides(survivors: float, tested: float, scale: str) -> None:
    assert responses.dropout(response(lost=0.503, survivors=survivors, tested=tested)) == (0.503, scale)


def test_dropout_that_never_ends_is_told_from_a_layer_that_gives_nothing() -> None:
    assert responses.dropout(response(lost=0.5, survivors=2.0, lost_tested=0.5)) == (0.5, "on at test too")
    assert responses.dropout(response(lost=1.0, survivors=0.0)) is None


def test_what_changes_nothing_is_no_norm_no_pooling_and_no_dropout() -> None:
    plain = response()
    assert not responses.norms(plain)
    assert not responses.pools(plain)
    assert responses.dropout(plain) is None
    assert responses.norm_precedes_pooling(plain) is None
    assert responses.norms_within_map(plain) is False


def test_an_output_is_told_by_its_sums() -> None:
    assert responses.output_of(Ending(total=0, log_total=7.5, change=0)) == "logits"
    assert responses.output_of(Ending(total=1, log_total=6.9, change=2)) == "probabilities"
    assert responses.output_of(Ending(total=-7000, log_total=0, change=7)) == "log-probabilities"
    assert responses.output_of(Ending(total=3, log_total=5, change=1)) == "another"


@pytest.mark.parametrize(("classes", "status"), [("paper", 0), ("uninitialised", 0), ("odd", 1)])
def test_the_command_writes_a_table_and_ends_with_the_verdicts_status(
    paper: LintRecord,
    classes: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes: dict[str, dict[str, Any]] = {"uninitialised": {"initialised": False}, "odd": {"unseen": 7}}
    write_lint(tmp_path, paper.model_copy(update=changes.get(classes, {})))
    monkeypatch.setattr(sys, "argv", ["compare", "lint", str(tmp_path)])
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    with (tmp_path / "lint.csv").open() as file:
        assert [row["fact"] for row in csv.DictReader(file)] == list(FACTS)
    assert "It is two_column" in capsys.readouterr().err


def test_what_a_network_is_called_tells_a_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = "[/x] \x1b[2J [red]"
    _print_findings([Judgement(foreign, "conv1", foreign, foreign, KEPT, foreign)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[/x]" in shown


def test_what_a_run_says_is_no_markup_of_the_report() -> None:
    assert _plain("a|b <script>\nc") == "a\\|b &lt;script> c"


def test_a_subjects_name_says_nothing_to_a_terminal(paper: LintRecord) -> None:
    foreign = paper.model_copy(update={"subject": "nets:\x1b[2Jevil\x07"})
    assert "\x1b" not in summary(foreign, judge(foreign))
    assert "\x07" not in summary(foreign, judge(foreign))
    assert "\x1b" not in sentence(RuntimeError("\x1b[2J gone"))

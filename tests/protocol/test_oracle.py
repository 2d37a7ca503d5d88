"""The oracle's bounds: every quantity has one, and near-ties widen those of the free reading."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.experiment.cases import find_case
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle import bounds as oracle
from protocol.oracle import quantities
from protocol.oracle.bounds import GIVEN, OracleRun
from protocol.oracle.network import ForwardPass, apply_layer
from protocol.oracle.quantities import FIGURES, READINGS, RESUMED, TAKEN, is_asked

STEPS = 4
CASE = replace(find_case("ladder"), size="tiny", epochs=2, batch=8, test_limit=5)


@pytest.fixture(scope="module")
def experiment(data: Path) -> Experiment:
    return open_experiment(CASE, data, 0)


@pytest.fixture(scope="module")
def truth(experiment: Experiment) -> OracleRun:
    return oracle.observe(experiment, np.float64)


@pytest.fixture(scope="module")
def bounds(experiment: Experiment, truth: OracleRun) -> dict[str, dict[str, float]]:
    return oracle.tolerances(experiment, truth)


def test_every_quantity_has_a_bound_in_every_reading(truth: OracleRun, bounds: dict[str, dict[str, float]]) -> None:
    assert set(bounds) == {*TAKEN, RESUMED.name}
    for name, own in bounds.items():
        reading = READINGS.get(name, RESUMED)
        seen = {quantity for quantity in truth.seen if is_asked(quantity, reading) or quantity.startswith("test.")}
        reported = {quantity for quantity in own if quantity.startswith("report.")}
        if reading == RESUMED:
            assert set(own) == {quantity for quantity in truth.seen if is_asked(quantity, RESUMED)}
            exact = {quantity for quantity in own if quantity.partition(".")[0] in FIGURES}
        else:
            gradients = {quantity for quantity in seen if quantity.startswith("gradient.") and name == "free"}
            explained = {quantity.replace("gradient", "backward") for quantity in gradients}
            assert set(own) == seen | reported | explained
            assert len(reported) == (STEPS if reading.imposed else STEPS + 4)  # each step's error; two of each view
            exact = {quantity for quantity in truth.seen if quantity.partition(".")[0] in GIVEN} | reported
        assert exact == {quantity for quantity, bound in own.items() if bound == 0}


def test_only_what_is_asked_for_is_bounded(experiment: Experiment, truth: OracleRun) -> None:
    assert set(oracle.tolerances(experiment, truth, ("imposed",))) == {"imposed"}


def test_lower_precisions_are_bounded_by_what_they_round(experiment: Experiment, truth: OracleRun) -> None:
    """TF32's operands have 2^13 units of float32, bfloat16's 2^16; weights, and in TF32 images, are whole."""
    found = oracle.tolerances(experiment, truth, ("imposed", "tf32", "bf16"))
    imposed = found["imposed"]
    for reading, unit in (("tf32", 2**13), ("bf16", 2**16)):
        own = found[reading]
        for quantity in ("forward.conv1", "gradient.conv1.weight", "logits"):
            assert own[quantity] == pytest.approx(imposed[quantity] * unit / oracle.SAFETY)
            assert own[quantity] < 0.2
        assert own["start.conv1.weight"] == own["labels.0"] == own["report.error.0"] == 0
        # Rounding of the weights themselves is float32's, however small the update.
        gradient, step = own["gradient.conv2.bias"], own["step.conv2.bias"]
        assert gradient < step < gradient + 2 * imposed["step.conv2.bias"]
    assert found["tf32"]["images.0"] == 0
    assert found["bf16"]["images.0"] == 1


def test_the_bounds_are_no_wider_than_they_have_to_be(
    experiment: Experiment, truth: OracleRun, bounds: dict[str, dict[str, float]]
) -> None:
    """Another float32 run takes up a good part of most bounds: ten times the safety would not pass this."""
    other = oracle.observe(experiment, np.float32, perturbation=77, imposed=truth.choices)
    found = quantities.distances(other.seen, truth.seen.items(), experiment.weights(), READINGS["imposed"])
    own = bounds["imposed"]
    shares = [found[name].difference / own[name] for name in found if own[name] > 0]
    assert max(shares) < 1
    assert float(np.median(shares)) > 1 / 20


def test_what_ties_add_to_the_free_reading_is_a_few_times_what_they_do(
    experiment: Experiment, truth: OracleRun, bounds: dict[str, dict[str, float]]
) -> None:
    """At most three times how far tipping them leads in the first step, and five times later on."""
    imposed, free = bounds["imposed"], bounds["free"]
    layers = [layer.name for layer in experiment.network]
    put_out = {name: truth.seen[f"forward.{name}"] for name in layers}
    margins = oracle.margins_of(experiment.network, put_out, {name: imposed[f"forward.{name}"] for name in layers})
    start = experiment.weights()
    tipped = []
    for coin in (None, *(np.random.default_rng(seed) for seed in range(oracle.TIPPED_HALVES))):
        seen = oracle.observe(experiment, np.float64, margins=margins, coin=coin).seen
        tipped.append(quantities.distances(seen, truth.seen.items(), start))
    early: list[float] = []
    late: list[float] = []
    for name, bound in free.items():
        far = max((other[name].difference for other in tipped if name in other), default=0.0)
        if far > 0 and not name.startswith("report."):
            first = name.partition(".")[0] in ("forward", "logits", "gradient", "step") or name == "loss.0"
            (early if first else late).append((bound - imposed[name]) / far)
    assert early
    assert late
    assert min(early) >= 1
    assert max(early) < 3
    assert max(late) < 5


def test_how_often_a_fifth_draw_leaves_four_times_the_largest_of_four() -> None:
    """What the envelope's safety promises, by simulation: some four in a thousand."""
    draws = np.abs(np.random.default_rng(0).normal(size=(400_000, oracle.PERTURBATIONS + 1)))
    share = float((draws[:, -1] > oracle.ENVELOPE_SAFETY * draws[:, :-1].max(axis=1)).mean())
    assert 0.002 < share < 0.006


def test_float64_is_held_tighter_than_float32_by_the_ratio_of_units(bounds: dict[str, dict[str, float]]) -> None:
    for name, bound in bounds["imposed"].items():
        if name.startswith("report."):
            continue
        assert bounds["fp64"][name] == pytest.approx(bound * 2.0**-29)
        assert bounds["free"][name] >= 0.1 * bound


def test_weights_at_the_start_and_momentum_lead_to_what_is_seen(truth: OracleRun, experiment: Experiment) -> None:
    start, rate = experiment.weights(), experiment.rate(0)
    for name, value in start.items():
        expected = -rate * (truth.seen[f"gradient.{name}"] + experiment.recipe.decay * value.astype(np.float64))
        assert truth.seen[f"step.{name}"] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_choices_within_the_margin_are_made_the_other_way(experiment: Experiment) -> None:
    relu = next(layer for layer in experiment.network if layer.name == "relu1")
    pool = next(layer for layer in experiment.network if layer.name == "pool1")
    x = np.array([-2.0, -0.1, 0.1, 2.0])
    run = ForwardPass({}, margins={"relu1": 0.5, "pool1": 0.5})
    apply_layer(relu, x, run)
    assert run.choices["relu1"].tolist() == [False, True, False, True]
    images = np.zeros((1, *pool.shape_in))
    images[0, 0, 0, :3] = 3.0, 2.8, 1.0
    images[0, 1, 0, :3] = 3.0, 2.0, 1.0
    images[0, 2, 0, :3] = 3.0, 2.8, np.nan
    out, _ = apply_layer(pool, images, run)
    assert run.choices["pool1"][0, :2, 0, 0].tolist() == [1, 0]
    assert out[0, :2, 0, 0].tolist() == [2.8, 3.0]
    # A network that diverges is seen to.
    assert np.isnan(out[0, 2, 0, 0])


def test_a_tipped_choice_widens_the_free_reading(
    experiment: Experiment, truth: OracleRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "PERTURBATIONS", 1)
    narrow = oracle.tolerances(experiment, truth)["free"]
    right = oracle.margins_of
    monkeypatch.setattr(
        oracle, "margins_of", lambda *arguments: {name: 1e4 * value for name, value in right(*arguments).items()}
    )
    wide = oracle.tolerances(experiment, truth)["free"]
    assert wide["gradient.conv1.weight"] > 3 * narrow["gradient.conv1.weight"]


def test_other_roundings_stay_in_the_envelope_and_another_rate_leaves_it(experiment: Experiment) -> None:
    bounds = list(oracle.envelope(experiment, STEPS))
    for seed in range(90, 94):
        others = oracle.losses(experiment, STEPS, np.float32, perturbation=seed)
        assert all(row["low"] <= loss <= row["high"] for row, loss in zip(bounds, others, strict=True))
    other = replace(experiment, case=replace(experiment.case, rate=1.01 * experiment.case.rate))
    wrong = oracle.losses(other, STEPS, np.float32)
    assert not all(row["low"] <= loss <= row["high"] for row, loss in zip(bounds, wrong, strict=True))


def test_a_tipped_choice_widens_the_envelope(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "PERTURBATIONS", 1)
    right = oracle.margins_of
    widths = []
    for factor in (0.0, 1e4):
        monkeypatch.setattr(
            oracle, "margins_of", lambda *a, by=factor: {name: by * value for name, value in right(*a).items()}
        )
        widths.append([row["high"] - row["low"] for row in oracle.envelope(experiment, STEPS)])
    assert widths[1][-1] > 3 * widths[0][-1]

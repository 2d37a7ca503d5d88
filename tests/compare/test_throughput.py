"""What the bench's samples come to."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from compare.bench import measure, throughput
from compare.bench.measure import Contender
from protocol.base.errors import Misuse
from protocol.base.tables import write_table


def sample(backend: str, placement: str, threads: int, repeat: int, seconds: float) -> dict[str, object]:
    where = {"backend": backend, "placement": placement, "variant": "two_column", "precision": "fp32", "batch": 128}
    cut = {"micro_batch": 32, "stages": "conv1 conv3"} if placement == "stages" else {"micro_batch": 128}
    return {
        "stages": "conv1" if placement else "",
        **where,
        **cut,
        "threads": threads,
        "repeat": repeat,
        "seconds": seconds,
    }


SAMPLES = [
    *(sample("deepspeed", "columns", 1, repeat, seconds) for repeat, seconds in ((0, 2.0), (1, 4.0), (2, 2.5))),
    *({**sample("deepspeed", "single", 2, repeat, 5.0), "precision": "bf16"} for repeat in range(3)),
    *(sample("torch-eager", "", 2, repeat, 5.0) for repeat in range(3)),
    sample("torch-eager", "", 1, 0, 9.0),
    *(sample("gluon", "columns", 1, repeat, 4.0) for repeat in range(3)),
    *(sample("mxnet-stock", "", 2, repeat, 10.0) for repeat in range(3)),
    # For the step model: other widths and threads, once.
    *(sample(name, "single", threads, 0, 3.0 + 3.0 / threads) for name in ("deepspeed", "gluon") for threads in (1, 2)),
    *(sample(name, placement, 1, 0, 4.0) for name in ("deepspeed", "gluon") for placement in ("stages", "replicas")),
]
WHO = {"placement": "stages", "variant": "two_column", "precision": "fp32"}
TIMELINE = [
    {"device": "cpu:0", "doing": "forward", "start": 0.0, "seconds": 1.0},
    {"device": "cpu:0", "doing": "receive", "start": 1.0, "seconds": 2.0},
    {"device": "cpu:0", "doing": "backward", "start": 3.0, "seconds": 1.0},
    {"device": "cpu:1", "doing": "receive", "start": 0.0, "seconds": 1.0},
    {"device": "cpu:1", "doing": "forward", "start": 1.0, "seconds": 2.0},
]
MEMORY = [
    {"device": "cpu:0", "kind": "total", "predicted_bytes": 104, "measured_bytes": 100, "method": ""},
    {"device": "cpu:1", "kind": "total", "predicted_bytes": 99, "measured_bytes": 100, "method": ""},
    {"device": "cpu:1", "kind": "activations", "predicted_bytes": 9, "measured_bytes": 90, "method": ""},
]
LAYERS = [
    {"backend": backend, **WHO, "placement": "single", "repeat": repeat, "layer": layer, "seconds": seconds}
    for backend in ("gluon", "deepspeed")
    for repeat, factor in enumerate((1.0, 3.0, 2.0))
    for layer, seconds in (
        ("conv1", 0.1 * factor),
        ("relu1", 0.0),
        ("norm1", 0.05 * factor),
        ("fc6", 0.1 * factor),
        ("pool5", 0.0),
    )
]
RATES = {"fp32": 300e9, "bf16": 1e12, "copy": 20e9, "link": 1e9}
LIMITS: list[dict[str, object]] = [{"repeat": repeat, **RATES} for repeat in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench's folder, which no test writes to."""
    return written(tmp_path_factory.mktemp("bench"), SAMPLES, LIMITS)


def written(tmp_path: Path, samples: list[dict[str, object]], limits: list[dict[str, object]]) -> Path:
    """A bench's folder."""
    write_table(tmp_path / "samples.csv", measure.SAMPLE_COLUMNS, samples)
    write_table(tmp_path / "limit.csv", measure.LIMIT_COLUMNS, limits)
    phases = {"backend": "gluon", **WHO, "placement": "columns", "repeat": 0, "device": "cpu:0", "phase": "data"}
    rows = [{**phases, "step": step, "seconds": seconds} for step, seconds in enumerate((0.01, 0.02, 9.0))]
    who = {"backend": "deepspeed", **WHO}
    write_table(
        tmp_path / "timeline.csv", measure.TIMELINE_COLUMNS, [{**who, "micro_batches": 4, **row} for row in TIMELINE]
    )
    kept = [{**who, "batch": 128, "micro_batch": 32, **row} for row in MEMORY]
    write_table(tmp_path / "layer_samples.csv", measure.LAYER_COLUMNS, LAYERS)
    write_table(tmp_path / "memory.csv", measure.MEMORY_COLUMNS, kept)
    feeds = [{"backend": "gluon", "repeat": 0, "images_per_second": 5000.0, "augmented_by": "numpy"}]
    write_table(tmp_path / "feed.csv", measure.FEED_COLUMNS, feeds)
    write_table(tmp_path / "phase_samples.csv", measure.PHASE_COLUMNS, rows)
    throughput.write(tmp_path)
    return tmp_path


def test_each_placement_is_held_against_each_peer_at_its_best(folder: Path) -> None:
    table = throughput.read(folder)[0]
    table = table[(table["precision"] == "fp32") & (table["placement"].isin(["columns", ""]))]
    table = table.set_index(["backend", "peer"])
    assert table.loc[("deepspeed", "torch-eager"), "ratio_to_peer"] == pytest.approx(2.0)
    assert table.loc[("gluon", "mxnet-stock"), "ratio_to_peer"] == pytest.approx(2.5)
    ours = table.loc[("deepspeed", "torch-eager")]
    assert (ours["low"], ours["images_per_second"], ours["high"]) == (32.0, pytest.approx(51.2), 64.0)
    # Forward, and both gradients but the image's, of 724,406,816 multiplications.
    assert ours["fraction_of_limit"] == pytest.approx(51.2 * 4.1356e9 / 300e9, rel=1e-3)


def test_the_roofline_is_bound_by_what_is_slower(folder: Path) -> None:
    roofs = throughput.read(folder)[1].set_index("layer")
    assert roofs.loc["norm1", "bound"] == "memory"
    assert roofs.loc["conv3", "bound"] == "arithmetic"
    assert roofs["flops"].sum() == pytest.approx(128 * 4.1356e9, rel=1e-3)
    # Forward and the gradient by the weights: the image twice, 55 x 55 x 96 outputs twice; 34,848 weights seven times.
    assert roofs.loc["conv1", "bytes"] == 4 * (128 * 2 * (3 * 227 * 227 + 290_400) + 7 * 34_848)


def test_a_layer_is_held_against_its_least_time(folder: Path) -> None:
    layers = pd.read_csv(folder / "layers.csv").set_index(["backend", "layer"])
    least = throughput.read(folder)[1].set_index("layer")["seconds"]
    conv1 = layers.loc[("gluon", "conv1")]
    assert conv1["seconds"] == pytest.approx(0.2)
    assert conv1["times_least"] == pytest.approx(0.2 / least["conv1"])
    # What is carried out in another layer's operator has no time of its own, nor a least one: that is the other's too.
    assert layers.loc[("gluon", "relu1"), ["least_seconds", "times_least"]].isna().all()
    assert layers.loc[("gluon", "norm1"), "least_seconds"] == pytest.approx(least["relu1"] + least["norm1"])
    assert pd.isna(layers.loc[("gluon", "pool5"), "times_least"])
    assert layers.loc[("gluon", "fc6"), "least_seconds"] == pytest.approx(least["fc6"])
    assert any(
        line.startswith("gluon, layer by layer") and "convolutions 40%" in line for line in throughput.sentences(folder)
    )


def test_phases_are_medians(folder: Path) -> None:
    assert pd.read_csv(folder / "phases.csv")["seconds"].tolist() == [0.02]


def test_bf16_is_held_against_its_own_limit_and_says_that_peers_are_fp32(folder: Path) -> None:
    found = throughput.sentences(folder)
    assert any("deepspeed in bf16" in line and "2.00 times mxnet-stock in fp32" in line for line in found)
    table = throughput.read(folder)[0]
    lowered = table[table["precision"] == "bf16"].iloc[0]
    assert lowered["fraction_of_limit"] == pytest.approx(25.6 * 4.1356e9 / 1e12, rel=1e-3)


def test_a_processor_without_bf16_is_not_timed_in_it(tmp_path: Path) -> None:
    samples = [row for row in SAMPLES if row["precision"] != "bf16"]
    limits = [{name: rate for name, rate in row.items() if name != "bf16"} for row in LIMITS]
    found = throughput.sentences(written(tmp_path, samples, limits))
    assert any("no bfloat16 of its own" in line for line in found)
    assert not any("in bf16 is fastest" in line for line in found)
    interpreters = {"gluon": "", "deepspeed": ""}
    both, fp32 = (measure.contenders(interpreters, lowered=lowered) for lowered in (True, False))
    assert {one.precision for one in both} == {"fp32", "bf16"}
    assert fp32 == [one for one in both if one.precision == "fp32"]


def test_stages_are_held_against_columns(folder: Path) -> None:
    assert "deepspeed stages reach 62% of its columns' speed in fp32." in throughput.sentences(folder)


def test_a_pipeline_is_idle_where_it_does_not_compute(folder: Path) -> None:
    (row,) = pd.read_csv(folder / "pipeline.csv").to_dict("records")
    # Each of two stages computes for two of four seconds.
    assert (row["idle"], row["idle_of_even_stages"], row["busiest"]) == (0.5, 1 / 5, 0.5)


def test_the_furthest_prediction_of_memory_and_the_longest_wait_are_told(folder: Path) -> None:
    found = throughput.sentences(folder)
    assert any(
        "within 4.0% of what its framework allocated beside the libraries' workspace, on 2 devices" in line
        for line in found
    )
    fed = next(line for line in found if "augments" in line)
    assert "augments 5,000 (in gluon's environment, by numpy)" in fed
    assert "more than 0.5% of its median step" in fed


def test_every_table_and_plot_is_written(folder: Path) -> None:
    tables = ("ledger", "largest_batch", "step_model", "rates", "forecast", "patterns")
    assert all(len(pd.read_csv(folder / f"{name}.csv")) for name in tables)
    assert all((folder / f"{name}.png").stat().st_size for name in ("throughput", "timeline", "forecast"))


def test_a_peer_goes_on_with_the_threads_that_served_it_best() -> None:
    left = [Contender("deepspeed", "columns"), Contender("torch-eager", threads=1), Contender("torch-eager", threads=2)]
    assert measure.best(left, SAMPLES) == [left[0], left[2]]


def test_a_contender_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misuse, match=r"peers/torch_eager.py 128 1 failed with status 2; it last said: .*can't open"):
        measure.peer(Contender("torch-eager", threads=1), {"deepspeed": sys.executable}, "cpu", 1)

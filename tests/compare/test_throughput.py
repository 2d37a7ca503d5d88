"""What the bench's samples come to."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from compare import bench, throughput
from compare.bench import Contender
from protocol.errors import Misuse
from protocol.record import write_table


def sample(backend: str, placement: str, threads: int, repeat: int, seconds: float) -> dict[str, object]:
    where = {"backend": backend, "placement": placement, "precision": "fp32", "batch": 128}
    return {**where, "threads": threads, "repeat": repeat, "seconds": seconds}


SAMPLES = [
    *(sample("deepspeed", "columns", 1, repeat, seconds) for repeat, seconds in ((0, 2.0), (1, 4.0), (2, 2.5))),
    *({**sample("deepspeed", "single", 2, repeat, 5.0), "precision": "bf16"} for repeat in range(3)),
    *(sample("torch-eager", "", 2, repeat, 5.0) for repeat in range(3)),
    sample("torch-eager", "", 1, 0, 9.0),
    *(sample("gluon", "columns", 1, repeat, 4.0) for repeat in range(3)),
    *(sample("mxnet-stock", "", 2, repeat, 10.0) for repeat in range(3)),
]
LIMITS = [{"repeat": repeat, "fp32": 300e9, "bf16": 1e12, "copy": 20e9} for repeat in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "samples.csv", bench.SAMPLE_COLUMNS, SAMPLES)
    write_table(tmp_path / "limit.csv", bench.LIMIT_COLUMNS, LIMITS)
    phases = {"backend": "gluon", "placement": "columns", "precision": "fp32", "device": "cpu:0", "phase": "compute"}
    rows = [{**phases, "repeat": 0, "step": step, "seconds": seconds} for step, seconds in enumerate((1.0, 2.0, 9.0))]
    write_table(tmp_path / "phase_samples.csv", bench.PHASE_COLUMNS, rows)
    throughput.write(tmp_path)
    return tmp_path


def test_each_placement_is_held_against_each_peer_at_its_best(folder: Path) -> None:
    table = throughput.read(folder)[0]
    table = table[table["precision"] == "fp32"].set_index(["backend", "peer"])
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
    # Forward and the gradient by the weights: the image twice, 55 x 55 x 96 outputs twice; 34,848 weights eight times.
    assert roofs.loc["conv1", "bytes"] == 4 * (128 * 2 * (3 * 227 * 227 + 290_400) + 8 * 34_848)


def test_phases_are_medians(folder: Path) -> None:
    assert pd.read_csv(folder / "phases.csv")["seconds"].tolist() == [2.0]


def test_bf16_is_held_against_its_own_limit_and_says_that_peers_are_fp32(folder: Path) -> None:
    found = throughput.sentences(*throughput.read(folder))
    assert any("deepspeed in bf16" in line and "2.00 times mxnet-stock in fp32" in line for line in found)
    table = throughput.read(folder)[0]
    lowered = table[table["precision"] == "bf16"].iloc[0]
    assert lowered["fraction_of_limit"] == pytest.approx(25.6 * 4.1356e9 / 1e12, rel=1e-3)


def test_a_peer_goes_on_with_the_threads_that_served_it_best() -> None:
    left = [Contender("deepspeed", "columns"), Contender("torch-eager", threads=1), Contender("torch-eager", threads=2)]
    assert bench.best(left, SAMPLES) == [left[0], left[2]]


def test_a_contender_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misuse, match=r"peers/torch_eager.py 128 3 failed with status 2; it last said: .*can't open"):
        bench.peer("torch-eager", {"deepspeed": sys.executable}, 1)

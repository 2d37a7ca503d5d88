"""The program for a machine with one GPU, tried on the processor: what it leaves, and what that comes to."""

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from compare import __main__
from compare.bench import gpu_report, measure, one_gpu
from protocol.base.errors import Misuse
from protocol.runs.record import read_record, write_record

INTERPRETER = os.environ.get("DEEPSPEED_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not INTERPRETER, reason="DEEPSPEED_PYTHON names no interpreter"),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def stores(data: Path, full_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    (folder / "photos-small").symlink_to(data / "photos-small")
    (folder / "photos-full").symlink_to(full_data / "photos-full")
    return folder


@pytest.fixture(scope="module")
def home(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a visit left: the small ladder, and one step of ours and of a peer."""
    out = tmp_path_factory.mktemp("visit") / "one-gpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_gpu, "STORES", stores)
        patch.setattr(one_gpu, "STEPS", 1)
        patch.setattr(one_gpu, "PEERS", ("torch-eager",))
        patch.setattr(measure, "BATCH", 8)
        patch.setattr(one_gpu.Visit, "train", lambda visit: visit.begins("photos"))
        hold = one_gpu.Visit.hold
        patch.setattr(one_gpu.Visit, "hold", lambda visit, case, asked: case == "parity" or hold(visit, case, asked))
        with pytest.raises(SystemExit) as ended:
            one_gpu.main(Path(INTERPRETER), "cpu:0", 10, out)
    assert ended.value.code == 0
    return out


def test_each_precision_that_the_device_has_is_held_to_the_oracle(home: Path) -> None:
    table, sentences, whole = gpu_report.judge(home)
    assert whole
    assert table["agrees"].all()
    counts = table[table["reading"] != ""].groupby("reading").size()
    assert set(counts.index) == {"fp64", "imposed", "free", "bf16"}
    assert counts["bf16"] == counts["imposed"] > 100
    bound = table[(table["reading"] == "bf16") & (table["quantity"] == "gradient.conv1.weight")].iloc[0]
    # bfloat16's rounding is seen, and takes up a good part of its bound.
    assert 0.1 < bound["difference"] / bound["tolerance"] < 1
    assert any("ladder, bf16" in sentence for sentence in sentences)


def test_speed_and_memory_stand_beside_peers_of_the_same_precision(home: Path) -> None:
    _, sentences, _ = gpu_report.judge(home)
    table = pd.read_csv(home / "throughput.csv")
    ours = table[table["backend"] == "deepspeed"].set_index("precision")
    peers = table[table["backend"] == "torch-eager"].set_index("precision")["images_per_second"]
    assert set(ours.index) == set(peers.index) == {"fp32", "bf16"}
    for precision, row in ours.iterrows():
        assert row["ratio_to_peer"] == pytest.approx(row["images_per_second"] / peers[precision])
    assert sum("GiB allocated" in sentence for sentence in sentences) == 2
    assert "gpu" not in json.loads((home / "bench" / "machine.json").read_text())


def test_what_was_altered_on_the_way_home_is_said(home: Path) -> None:
    folder = home / "runs" / "deepspeed" / "ladder"
    record = read_record(folder)
    table = folder / "ladder.csv"
    kept = table.read_bytes()
    try:
        table.write_bytes(kept.replace(b"bf16", b"fp16"))
        found, sentences, whole = gpu_report.judge(home)
        assert not whole
        assert any(sentence.startswith("damaged: ") and "ladder.csv" in sentence for sentence in sentences)
        assert not (found["reading"] != "").any()
        with pytest.raises(SystemExit) as ended:
            __main__.gpu(home)
        assert ended.value.code == 1
    finally:
        table.write_bytes(kept)
        write_record(folder, record)


def test_nothing_begins_after_the_time_is_up(stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_gpu, "STORES", stores)
    with pytest.raises(SystemExit):
        one_gpu.main(Path(sys.executable), "cpu:0", 0, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["logs"]


def test_what_it_did_not_write_is_kept(stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_gpu, "STORES", stores)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(Misuse, match=r"thesis\.txt"):
        one_gpu.main(Path(sys.executable), "cpu:0", 1, tmp_path)
    with pytest.raises(Misuse, match="gpu:0 or cpu:0"):
        one_gpu.main(Path(sys.executable), "tpu", 1, tmp_path)
    monkeypatch.setattr(one_gpu, "STORES", tmp_path)
    with pytest.raises(Misuse, match="photos"):
        one_gpu.main(Path(sys.executable), "cpu:0", 1, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"

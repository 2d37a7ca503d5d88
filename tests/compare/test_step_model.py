"""The step model finds the rates that made its points, and forecasts by them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from compare.bench import days_forecast, schedule, step_model
from compare.bench.step_model import Rates, Setting
from paper.architecture import network
from paper.cards import CARDS
from paper.cost import crossing_bytes, parameters, train_flops
from paper.recipe import PRESETS

TRUE = Rates(1 / 100e9, 1 / 8e9, 1 / 2e9, 1.8)
COPYING = replace(TRUE, per_crossing_byte=1 / 22e9)  # as gluon's arrays cross
LIMITS = pd.DataFrame({"repeat": [0], "fp32": [300e9], "bf16": [1e12], "copy": [22e9], "link": [2e9]})
NET = network("two_column", PRESETS["paper"])
POINTS = (
    *(("single", "two_column", 2, 128, "conv1"), ("single", "two_column", 1, 128, "conv1")),
    *(("single", "half", 2, 128, "conv1"), ("columns", "two_column", 1, 128, "conv1")),
    *(("single", "merged", 2, 128, "conv1"), ("stages", "two_column", 1, 32, "conv1 conv3")),
    ("replicas", "two_column", 1, 64, "conv1"),
)


def samples(backend: str) -> Iterator[dict[str, Any]]:
    for placement, variant, threads, micro_batch, stages in POINTS:
        where = {"backend": backend, "placement": placement, "variant": variant, "precision": "fp32", "batch": 128}
        setting = Setting(
            network(variant, PRESETS["paper"]),
            placement,
            128,
            micro_batch,
            threads,
            tuple(stages.split()),
            take_turns=backend == "gluon",
            added_up=backend == "gluon",
        )
        seconds = step_model.seconds(setting, COPYING if setting.take_turns else TRUE)
        yield {**where, "threads": threads, "micro_batch": micro_batch, "stages": stages, "seconds": seconds}


@pytest.mark.parametrize("backend", ["deepspeed", "gluon"])
def test_the_rates_behind_the_points_are_found_and_predict_what_was_held_out(backend: str) -> None:
    rows, fitted = step_model.rows(pd.DataFrame(samples(backend)), LIMITS)
    assert fitted[backend].per_flop == pytest.approx(TRUE.per_flop, rel=1e-3)
    assert fitted[backend].per_byte == pytest.approx(TRUE.per_byte, rel=1e-3)
    assert fitted[backend].threads_gain == pytest.approx(TRUE.threads_gain, rel=1e-3)
    assert {row["placement"] for row in rows if row["role"] == "held out"} == {"single", "stages", "replicas"}
    assert all(abs(row["off"]) < 1e-3 for row in rows)


def test_work_is_counted_as_the_cost_arithmetic_counts_it() -> None:
    single, columns = (Setting(NET, placement, 128, 128, 1) for placement in ("single", "columns"))
    assert single.part(NET.layers)[0] == 128 * train_flops(NET)
    assert columns.part(NET.layers)[0] == 64 * train_flops(NET)
    assert single.crossing() == 0
    # Each of the two sends half of what crosses, and as much comes back.
    assert columns.crossing() == 128 * crossing_bytes(NET)
    assert Setting(NET, "replicas", 128, 64, 1).crossing() == 4 * parameters(NET)
    # A replica of a column has half of each gradient to average, and half of the images' maps to send.
    # Within a process each number is read and written; of two replicas' gradients 4, 3 and 4 times.
    copied = Setting(NET, "columns", 128, 128, 2, take_turns=True)
    assert copied.crossing() == 2 * 2 * columns.crossing()
    assert Setting(NET, "replicas", 128, 64, 2, take_turns=True).crossing() == 11 * 4 * parameters(NET)
    product = Setting(NET, "columns=2,replicas=2", 128, 64, 1)
    assert product.crossing() == 2 * parameters(NET) + 64 * crossing_bytes(NET)


def test_a_stage_does_as_much_however_its_work_is_called() -> None:
    setting = Setting(NET, "stages", 128, 32, 1, ("conv1", "conv3"))
    for layers in setting.stages:
        busy = setting.work(layers, TRUE).busy(setting.micro_batches)
        assert busy == pytest.approx(sum(TRUE.seconds(*setting.part(layers), 1)))
    below, above = (setting.work(layers, TRUE) for layers in setting.stages)
    # The first stage has nobody below to hurry for, and the dense layers of the second are done with once.
    assert below.late == below.end == 0
    assert above.late > 0
    assert above.end > 0


def test_a_step_of_stages_is_their_schedule() -> None:
    setting = Setting(NET, "stages", 128, 32, 1, ("conv1", "conv3"))
    works = [setting.work(layers, TRUE) for layers in setting.stages]
    spent = step_model.parts(setting, TRUE)
    crossing = setting.crossing() * TRUE.per_crossing_byte
    assert sum(spent.values()) == pytest.approx(schedule.seconds(works, 4) + crossing)
    assert spent["arithmetic"] + spent["memory"] == pytest.approx(max(work.busy(4) for work in works))
    assert spent["waiting"] > 0


def test_a_forecast_lies_within_its_band_and_more_devices_are_not_slower() -> None:
    found = pd.DataFrame(days_forecast.rows({"deepspeed": TRUE}, (150e9, 15e9), {"deepspeed": 1.1}))
    assert (found["days_low"] <= found["days"]).all()
    assert (found["days"] <= found["days_high"]).all()
    for _, group in found[found["placement"].str.startswith("replicas")].groupby("card"):
        assert group.sort_values("devices")["days"].is_monotonic_decreasing
    assert set(found["card"]) == {days_forecast.HERE, *(card.name for card in CARDS)}


def test_more_crossings_and_slower_links_take_a_larger_share() -> None:
    found = pd.DataFrame(days_forecast.patterns({"deepspeed": TRUE}, (150e9, 15e9)))
    gtx = found[found["card"] == CARDS[0].name].pivot_table(index="link", columns="variant", values="share")
    assert (gtx["no_crossing"] < gtx["two_column"]).all()
    assert (gtx["two_column"] < gtx["cross_everywhere"]).all()
    assert gtx["two_column"].is_monotonic_decreasing

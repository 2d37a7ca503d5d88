"""Bytes by device and kind, predicted beside measured; and whether the network fits a card of 3 GB."""

from typing import Any

import pandas as pd

from compare.load import Runs
from paper.architecture import VARIANTS, network
from paper.cards import CARDS
from paper.cost import Held, held_2012, held_today
from paper.recipe import PRESETS

Row = dict[str, Any]
CARD_BYTES = CARDS[0].bytes  # a GTX 580
BATCH = 128


def rows(runs: Runs) -> list[Row]:
    """The rows of ``memory.csv``: measured runs."""
    found: list[Row] = []
    for run in runs.of("bench"):
        for row in run.table("memory").astype(object).where(lambda table: table.notna(), None).to_dict("records"):
            found.append(
                {
                    "backend": run.record.backend,
                    "placement": run.record.placement,
                    "device": row["device"],
                    "batch": run.record.case["batch"],
                    "micro_batch": run.record.result.get("micro_batch"),
                    "precision": run.record.precision,
                    "kind": row["kind"],
                    "predicted_bytes": row["predicted_bytes"],
                    "measured_bytes": row["measured_bytes"],
                    "method": row["method"],
                    "variant": run.variant,
                    "evidence": f"{run.name}/memory.csv",
                }
            )
    return found


def policies(variant: str, devices: int) -> dict[str, Held]:
    """Modelled bytes a device at batch 128 under both buffer policies; the 2012 one of the 2012 code's network."""
    return {
        "2012": held_2012(network(variant, PRESETS["chm-145"]), BATCH, devices=devices),
        "today": held_today(network(variant, PRESETS["paper"]), BATCH, devices=devices),
    }


def fits() -> pd.DataFrame:
    """Modelled: does each variant fit 3 GiB at batch 128, by policy and number of devices?"""
    cases = [
        (name, devices) for name in ("two_column", "merged", "half") for devices in range(1, 1 + VARIANTS[name].columns)
    ]
    return pd.DataFrame(
        {
            "variant": name,
            "devices": devices,
            "policy": policy,
            "modelled_bytes": held.total,
            "fits_3_gib": held.total <= CARD_BYTES,
        }
        for name, devices in cases
        for policy, held in policies(name, devices).items()
    )

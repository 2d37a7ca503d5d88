"""Predicted bytes by layer and kind, and the largest batch that fits a card, for every placement that was benched."""

from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

import pandas as pd

from compare.bench.measure import BASELINE
from paper.architecture import Layer, Network, network
from paper.cards import CARDS
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.experiment.experiment import AHEAD
from protocol.ledger.memory import Memory, Part
from protocol.placement.grid import Grid

Row = dict[str, Any]
LEDGER_COLUMNS = ("backend", "placement", "precision", "stage", "layer", "kind", "modelled_bytes")
BATCH_COLUMNS = ("backend", "placement", "precision", "card", "gib", "modelled_batch", "source")
BATCH = 128
LOWERED = 2  # bytes of bfloat16


@dataclass(frozen=True)
class Placed:
    """The paper's network in a placement of a backend. ``cut``: the first layer of each stage."""

    backend: str
    placement: str
    precision: str
    cut: tuple[str, ...]

    @property
    def network(self) -> Network:
        return network(BASELINE, PRESETS["paper"])

    def stages(self) -> list[tuple[Layer, ...]]:
        layers = self.network.layers
        names = [layer.name for layer in layers]
        places = [*(names.index(first) for first in self.cut), len(layers)]
        return [layers[start:end] for start, end in pairwise(places)]

    def memory(self, batch: int) -> list[Memory]:
        """Of one device of each stage; those that share a stage hold as much."""
        grid, stages = Grid.parse(self.placement), self.stages()
        count = BACKENDS[self.backend].micro_batches.most(len(stages)) if len(stages) > 1 else 1
        step = import_module(f"protocol.ledger.{self.backend}").step
        found = []
        for place, layers in enumerate(stages):
            part = Part(
                self.network,
                layers,
                -(-batch // (grid.replicas * count)),
                columns=grid.columns,
                micro_batches=count,
                in_flight=min(count, len(stages) - place),
                waiting=1 + AHEAD,
                lowered=LOWERED if self.precision == "bf16" else None,
            )
            found.append(step(part))
        return found

    def largest_batch(self, size: int) -> int:
        """The largest batch whose every device needs at most ``size`` bytes, or 0."""
        fits, too_large = 0, 1
        while self._needs(too_large) <= size:
            fits, too_large = too_large, 2 * too_large
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self._needs(middle) <= size:
                fits = middle
            else:
                too_large = middle
        return fits

    def _needs(self, batch: int) -> int:
        return max(memory.peak for memory in self.memory(batch))


def placed(samples: pd.DataFrame) -> list[Placed]:
    """Every placement of the paper's network in the bench's samples."""
    own = samples[samples["stages"].notna() & (samples["variant"] == BASELINE)]
    first = own.drop_duplicates(["backend", "placement", "precision"]).to_dict("records")
    return [Placed(row["backend"], row["placement"], row["precision"], tuple(row["stages"].split())) for row in first]


def ledger(samples: pd.DataFrame) -> list[Row]:
    """The rows of ``ledger.csv``: what each layer holds when its device holds most, at batch 128 (modelled)."""
    found = []
    for one in placed(samples):
        for stage, memory in enumerate(one.memory(BATCH)):
            order = [layer.name for layer in one.network]
            for (layer, kind), size in sorted(memory.at_peak.items(), key=lambda item: order.index(item[0][0])):
                if size:
                    where = {"backend": one.backend, "placement": one.placement, "precision": one.precision}
                    found.append({**where, "stage": stage, "layer": layer, "kind": kind, "modelled_bytes": size})
    return found


def largest_batches(samples: pd.DataFrame) -> list[Row]:
    """The rows of ``largest_batch.csv`` (modelled)."""
    return [
        {
            "backend": one.backend,
            "placement": one.placement,
            "precision": one.precision,
            "card": card.name,
            "gib": card.gib,
            "source": card.source,
            "modelled_batch": one.largest_batch(card.bytes),
        }
        for one in placed(samples)
        for card in CARDS
    ]

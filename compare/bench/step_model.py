"""What a step's seconds come from: arithmetic, memory, what waits for whom, and what crosses.

A device takes ``flops * a + bytes * b`` seconds for its part of a step, both counted from the layer table; with several
threads a number of times less. These three constants a backend are fitted on some of the bench's medians; whole
placements and a width are held out and only predicted. How stages wait for each other is simulated, and what crosses
goes at a rate that the machine was measured to have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from compare.bench.schedule import Work
from compare.bench.schedule import seconds as scheduled
from paper.architecture import Conv, Dense, Layer, Network, Weighted, network
from paper.cost import activations_moved, crossing_floats, layer_train_flops, parameters_of, weights_moved
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.placement.grid import Grid

# Chosen before anything was fitted.
HELD_OUT_PLACEMENTS = frozenset({"stages", "replicas"})
HELD_OUT_VARIANTS = frozenset({"merged"})
WIDTH = 4  # bytes of a number
COLUMNS = (
    *("backend", "placement", "variant", "threads", "batch", "micro_batch", "stages"),
    *("seconds", "predicted_seconds", "off", "role"),
    *("arithmetic", "memory", "waiting", "crossing"),
)


@dataclass(frozen=True)
class Setting:
    """How a network lies on devices, each with so many ``threads``.

    ``cut``: the first layer of each stage. ``take_turns``: the devices compute one after the other. ``added_up``: the
    gradients of all weights, and not of convolutions alone, are added up over micro-batches.
    """

    network: Network
    placement: str
    batch: int
    micro_batch: int
    threads: int
    cut: tuple[str, ...] = ()
    take_turns: bool = False
    added_up: bool = False

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.placement)

    @property
    def stages(self) -> list[list[Layer]]:
        found: list[list[Layer]] = []
        for layer in self.network:
            if not found or layer.name in self.cut[1:]:
                found.append([])
            found[-1].append(layer)
        return found

    @property
    def micro_batches(self) -> int:
        return max(1, self.batch // self.grid.replicas // self.micro_batch)

    def part(self, layers: Sequence[Layer]) -> tuple[float, float]:
        """Operations, and bytes read and written, of a device that holds ``layers`` or its columns of them."""
        images, columns = self.batch / self.grid.replicas, self.grid.columns
        flops = sum(images * layer_train_flops(self.network, layer) for layer in layers)
        numbers = sum(
            images * activations_moved(self.network, layer)
            + weights_moved(self.network, layer, self.micro_batches, added_up=self.added_up or isinstance(layer, Conv))
            for layer in layers
        )
        return flops / columns, WIDTH * numbers / columns

    def work(self, layers: Sequence[Layer], rates: "Rates") -> Work:
        """A stage's seconds by who waits for them.

        A layer's forward pass and its gradients by input and weights are taken to cost the same. Of stages that others
        are below, the weights' gradients of convolutions come after what is sent down; those of dense layers that read
        both columns, of any stage, come once, at the end.
        """
        passes = dict.fromkeys(("forward", "backward", "late", "end"), 0.0)
        for layer in layers:
            names = ["forward", "backward"]
            if isinstance(layer, Dense) and layer.groups == 1:
                names.append("end")
            elif isinstance(layer, Weighted):
                names.append("backward" if layers[0] is self.network.layers[0] else "late")
            if layer is self.network.layers[0]:  # nothing takes the gradient by the image
                names.remove("backward")
            took = sum(rates.seconds(*self.part([layer]), self.threads))
            for name in names:
                passes[name] += took / len(names) / (1 if name == "end" else self.micro_batches)
        return Work(**passes)

    def crossing(self) -> float:
        """Bytes that go from device to device in a step; what goes at the same time counts once.

        Devices that take turns are in one process: there it is bytes read and written, of all of them.
        """
        grid, images, count = self.grid, self.batch / self.grid.replicas, self.grid.replicas
        held = max(sum(map(parameters_of, stage)) for stage in self.stages) / grid.columns
        numbers = 0.0
        if grid.columns > 1:  # forward, and the gradients back
            sent = 2 * images * sum(crossing_floats(self.network).values())
            numbers += 2 * sent if self.take_turns else sent / grid.columns
        if count > 1 and self.take_turns:
            # MXNet's kvstore copies the gradients to one place, adds them up there, and copies the sum back.
            numbers += (2 * count + (count + 1) + 2 * count) * held
        elif count > 1:  # a ring: each part of the gradients twice around
            numbers += 2 * (count - 1) / count * held
        if grid.stages > 1:
            sent = 2 * images * max(np.prod(stage[-1].shape_out) for stage in self.stages[:-1]) / grid.columns
            numbers += 2 * sent if self.take_turns else sent
        return WIDTH * numbers


@dataclass(frozen=True)
class Rates:
    """Of one thread, or a whole card: seconds for an operation, for a byte of its memory, for a byte that crosses.

    ``threads_gain``: how many times faster a device with two threads is than with one.
    """

    per_flop: float
    per_byte: float
    per_crossing_byte: float
    threads_gain: float = 1.0

    def seconds(self, flops: float, size: float, threads: int) -> tuple[float, float]:
        """For ``flops`` operations, and for ``size`` bytes."""
        gain = self.threads_gain ** np.log2(threads)
        return flops * self.per_flop / gain, size * self.per_byte / gain


def parts(setting: Setting, rates: Rates) -> dict[str, float]:
    """A step's seconds by what they are spent on, on the device that has the most to do."""
    costs = [rates.seconds(*setting.part(layers), setting.threads) for layers in setting.stages]
    if setting.take_turns:
        alike = setting.grid.columns * setting.grid.replicas
        arithmetic, memory = (sum(part) * alike for part in zip(*costs, strict=True))
        waiting = 0.0
    else:
        arithmetic, memory = max(costs, key=sum)
        works = [setting.work(layers, rates) for layers in setting.stages]
        waiting = scheduled(works, setting.micro_batches) - arithmetic - memory
    crossing = setting.crossing() * rates.per_crossing_byte
    return {"arithmetic": arithmetic, "memory": memory, "waiting": waiting, "crossing": crossing}


def seconds(setting: Setting, rates: Rates) -> float:
    return sum(parts(setting, rates).values())


def settings(samples: pd.DataFrame) -> list[tuple[dict[str, Any], Setting]]:
    """The bench's fp32 medians of our backends, and what was measured."""
    found = []
    own = samples[(samples["placement"] != "") & (samples["precision"] == "fp32")]
    keys = ["backend", "placement", "variant", "threads", "batch"]
    for key, group in own.groupby(keys, sort=False):
        # Rounds may cut the stages at different layers: most often decides.
        row = dict(zip(keys, key, strict=True)) | {name: group[name].mode()[0] for name in ("micro_batch", "stages")}
        setting = Setting(
            network(row["variant"], PRESETS["paper"]),
            row["placement"],
            row["batch"],
            int(row["micro_batch"]),
            int(row["threads"]),
            tuple(row["stages"].split()),
            take_turns=BACKENDS[row["backend"]].takes_turns,
            added_up=BACKENDS[row["backend"]].adds_up,
        )
        found.append(({**row, "seconds": float(group["seconds"].median())}, setting))
    return found


def held_out(row: dict[str, Any]) -> bool:
    return row["placement"] in HELD_OUT_PLACEMENTS or row["variant"] in HELD_OUT_VARIANTS


def fit(
    measured: list[tuple[dict[str, Any], Setting]], per_crossing_byte: float, copies: float, products: float, cores: int
) -> Rates:
    """The rates that come nearest to the points that are not held out.

    ``copies``: bytes a second that all ``cores`` copy; ``products``: their operations a second.
    """
    points = [(row["seconds"], setting) for row, setting in measured if not held_out(row)]

    def rates(logs: np.ndarray) -> Rates:
        per_flop, per_byte, gain = np.exp(logs)
        return Rates(per_flop, per_byte, per_crossing_byte, gain)

    def off(logs: np.ndarray) -> list[float]:
        return [float(np.log(seconds(setting, rates(logs)) / took)) for took, setting in points]

    start = np.log([cores / products, cores / copies, 1.9])
    # Nothing is faster than what the machine was measured to do.
    least, most = np.log([cores / products, cores / copies, 1.0]), np.log([np.inf, np.inf, 2.0])
    return rates(least_squares(off, np.maximum(start, least + 0.01), bounds=(least, most)).x)


def rows(samples: pd.DataFrame, limits: pd.DataFrame) -> tuple[list[dict[str, Any]], dict[str, Rates]]:
    """The rows of ``step_model.csv``, and each backend's rates."""
    copies, products, links = (limits[name].median() for name in ("copy", "fp32", "link"))
    found, fitted = [], {}
    measured = settings(samples.fillna(""))
    cores = int(samples["threads"].max())
    for backend in dict.fromkeys(row["backend"] for row, _ in measured):
        own = [(row, setting) for row, setting in measured if row["backend"] == backend]
        # Between contexts of one process arrays are copied; between processes they go through gloo.
        per_crossing_byte = 1 / (copies if BACKENDS[backend].takes_turns else links)
        fitted[backend] = fit(own, per_crossing_byte, copies, products, cores)
        for row, setting in own:
            spent = parts(setting, fitted[backend])
            predicted = sum(spent.values())
            found.append(
                {
                    **row,
                    "predicted_seconds": predicted,
                    "off": predicted / row["seconds"] - 1,
                    "role": "held out" if held_out(row) else "fitted",
                    **spent,
                }
            )
    return [{name: row[name] for name in COLUMNS} for row in found], fitted


def sentence(table: pd.DataFrame) -> str:
    out = table[table["role"] == "held out"]["off"].abs()
    fitted = table[table["role"] == "fitted"]["off"].abs()
    return (
        f"A model of three constants a backend, fitted on {len(fitted)} medians, predicts the {len(out)} that were "
        f"held out (placements {' and '.join(sorted(HELD_OUT_PLACEMENTS))}, variant {', '.join(HELD_OUT_VARIANTS)}) "
        f"within {out.median():.0%} in the median, {out.max():.0%} at the most."
    )

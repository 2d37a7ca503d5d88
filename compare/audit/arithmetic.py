"""Every figure of the paper that is arithmetic, computed once from the layer table: what verdicts hold its text to.

Nothing here was measured, and nothing is typed from the paper: its figures stand in ``paper/claims.toml``. A rule is
given these numbers, so that a test can give it others.
"""

from dataclasses import dataclass
from math import log2

import numpy as np

from paper.architecture import Conv, network
from paper.cost import (
    busiest_column_train_flops,
    crossing_bytes,
    held_2012,
    held_today,
    neurons,
    parameters,
    parameters_of,
    train_flops,
)
from paper.recipe import PRESETS
from protocol.experiment.weights import initial_weights
from protocol.oracle.network import ForwardPass, forward

PAPER, CODE = PRESETS["paper"], PRESETS["chm-145"]
BATCH = 128
STORED = 256  # pixels of an image's edge (section 2)
POOLED = (55, 27, 13)  # rows of the maps that are pooled (section 3.5, by the rows of conv1)
PATTERNS = ("no_crossing", "two_column", "cross_everywhere")


@dataclass(frozen=True)
class Arithmetic:
    """``conv1_rows``: by input and rounding. ``pooled``: rows by window (3 or 2) and rounding, of maps of 55, 27, 13.

    ``held``: bytes at batch 128 by (policy, devices). ``crossing``: bytes an image by connectivity, there, not back.
    ``outputs_apart``: how far the logits of two columns and of one level with the same weights are, on one image.
    """

    parameters: dict[str, int]
    neurons: dict[str, int]
    conv_shares: dict[str, float]
    input_neurons: int
    conv1_rows: dict[tuple[int, str], int]
    crops: int
    label_bits: float
    pooled: dict[tuple[int, str], list[int]]
    held: dict[tuple[str, int], int]
    crossing: dict[str, int]
    busiest_gflop: float
    half_gflop: float
    image_flop: int
    outputs_apart: float


def computed() -> Arithmetic:
    """The paper's own network."""
    split, half, merged = (network(name, PAPER) for name in ("two_column", "half", "merged"))
    by_code = network("two_column", CODE)
    total = parameters(split)
    first = split.layers[0]
    assert isinstance(first, Conv)
    edge = by_code.input_shape[1]
    places = (STORED - edge + 1) ** 2
    return Arithmetic(
        parameters={"two_column": total, "half": parameters(half), "merged": parameters(merged)},
        neurons=neurons(split),
        conv_shares={
            layer.name: parameters_of(layer) / total for layer in split.weighted() if layer.name.startswith("conv")
        },
        input_neurons=edge * edge * 3,
        conv1_rows={
            (size, rounding): _windows(size, first.kernel, first.stride, rounding)
            for size in (edge, split.input_shape[1])
            for rounding in ("down", "up")
        },
        crops=2 * places,
        label_bits=log2(split.classes),
        pooled={
            (window, rounding): [_windows(rows, window, 2, rounding) for rows in POOLED]
            for window in (3, 2)
            for rounding in ("down", "up")
        },
        held={
            (policy, devices): held.total
            for devices in (1, 2)
            for policy, held in (
                ("2012", held_2012(by_code, BATCH, devices=devices)),
                ("today", held_today(split, BATCH, devices=devices)),
            )
        },
        crossing={name: crossing_bytes(network(name, PAPER)) for name in PATTERNS},
        busiest_gflop=busiest_column_train_flops(split) / 1e9,
        half_gflop=train_flops(half) / 1e9,
        image_flop=train_flops(split),
        outputs_apart=outputs_apart(),
    )


def _windows(rows: int, window: int, stride: int, rounding: str) -> int:
    """How many windows fit into ``rows``, a partial one counted where sizes are rounded up."""
    reach = rows - window
    return 1 + (-(-reach // stride) if rounding == "up" else reach // stride)


def outputs_apart() -> float:
    """Norm of the difference of the logits that two columns and one level give for an image, over that of the first.

    Both are a sixteenth as wide and have the same weights; the one level has some between the columns besides, drawn
    like the others. The image is noise: an input on which they differ, whatever it shows.
    """
    split, merged = (network(name, PAPER, "tiny", 20) for name in ("two_column", "merged"))
    deviations = {layer.name: 0.05 for layer in merged.weighted()}
    wide = {name: value.astype(np.float64) for name, value in initial_weights(merged, deviations, PAPER, 0).items()}
    narrow = {name: _own_halves(wide[name], shape) for name, shape in split.parameter_shapes().items()}
    image = np.random.default_rng(0).normal(0, 50, (1, *split.input_shape))
    one, two = (forward(table, image, ForwardPass(weights))[0] for table, weights in ((split, narrow), (merged, wide)))
    return float(np.linalg.norm(two - one) / np.linalg.norm(one))


def _own_halves(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of weights that read all maps, those of each half of the rows that read the same half of the maps."""
    if weight.shape == shape:
        return weight
    rows, inputs = len(weight) // 2, shape[1]
    return np.concatenate([weight[:rows, :inputs], weight[rows:, inputs:]])

"""How figures look, whoever draws them."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from protocol.backends import BACKENDS

mpl.use("Agg")

PALETTE = {backend.name: backend.colour for backend in BACKENDS.values()} | {"paper": "#555555"}
LIMIT = "#c8553d"  # what may not be crossed
DPI = 144


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and let go of it."""
    figure.savefig(path, dpi=DPI, format="png")
    plt.close(figure)


def strip(table: Any, **options: Any) -> None:
    """A dot for each row, as ``seaborn.stripplot`` draws them, but the same from call to call.

    Dots are moved aside by numpy's global draws, which no argument of seaborn's seeds.
    """
    np.random.seed(0)
    sns.stripplot(table, palette=PALETTE, dodge=True, **options)

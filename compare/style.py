"""How figures look, whoever draws them."""

import matplotlib as mpl

from protocol.backends import BACKENDS

mpl.use("Agg")

PALETTE = {backend.name: backend.colour for backend in BACKENDS.values()} | {"paper": "#555555"}
LIMIT = "#c8553d"  # what may not be crossed
DPI = 144

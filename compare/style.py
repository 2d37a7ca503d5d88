"""How figures look, whoever draws them."""

import matplotlib as mpl

mpl.use("Agg")

PALETTE = {"gluon": "#0b6e99", "deepspeed": "#c8553d", "paper": "#555555"}
DPI = 144

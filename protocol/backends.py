"""What others need to know of each backend: all of it stands here, and none of its names anywhere else.

Whoever starts a backend, times it, forecasts its memory or draws it reads this; so does ``noxfile.py``, for which this
needs no package.
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.placement.micro_batches import ForEachStage, Rule, UpTo


@dataclass(frozen=True)
class Backend:
    """A package that carries the network out in a framework of its own.

    ``module``: what ``python -m`` starts. ``python``: the version that its environment needs, or any.
    ``placements``: those it carries out, on one device first; ``products``: and these, several axes at once. ``split``:
    the one that stands for several devices where only two placements are tried. ``compared``: the presets, and in which
    placements the audit tries each at small size. ``accuracy_seeds``: of training runs; those of backends differ, since
    twins of one seed are a matter of parity, not of replication. ``ranks``: a process for each device. ``takes_turns``:
    its devices on a processor share a workspace and so compute one after the other, each with all cores. ``adds_up``:
    dense layers add their gradients up micro-batch by micro-batch. ``micro_batches``: how stages cut a batch;
    ``cuts_always``: without stages too, when asked.
    """

    name: str
    module: str
    framework: str
    colour: str
    placements: tuple[str, ...]
    split: str
    compared: Mapping[str, tuple[str, ...]] = field(hash=False)
    precisions: tuple[str, ...]
    micro_batches: Rule
    accuracy_seeds: range
    lowered_seeds: range = range(0)
    products: tuple[str, ...] = ()
    python: str | None = None
    ranks: bool = False
    takes_turns: bool = False
    adds_up: bool = False
    cuts_always: bool = False

    @property
    def environment(self) -> str:
        """The nox session that makes its environment."""
        return f"env-{self.name}"

    @property
    def compared_placements(self) -> tuple[str, ...]:
        """The two that runs are tried in: on one device, and on several."""
        return self.placements[0], self.split

    @property
    def lowered(self) -> tuple[str, ...]:
        """Its precisions below float32."""
        return tuple(name for name in self.precisions if name in ("tf32", "bf16"))


GLUON = Backend(
    "gluon",
    "gluon_impl",
    "MXNet Gluon",
    "#0b6e99",
    placements=("single", "columns", "stages", "replicas"),
    split="columns",
    compared={
        "paper": ("single", "columns"),
        "chm-145": ("columns", "stages"),
        "caffe": ("replicas",),
        "caffenet": ("single",),
        "notes": ("single",),
    },
    precisions=("fp32", "fp64"),
    # Eight micro-batches wait little for each other on GPUs, and more would touch the weights more often.
    micro_batches=UpTo(8, smallest=4),
    accuracy_seeds=range(1, 25),
    python="3.11",
    takes_turns=True,
    adds_up=True,
)
DEEPSPEED = Backend(
    "deepspeed",
    "deepspeed_impl",
    "DeepSpeed",
    "#c8553d",
    placements=("single", "stages", "columns", "replicas"),
    split="stages",
    compared={
        "paper": ("single", "columns", "stages"),
        "chm-145": ("columns", "replicas"),
        # Its norm spans the columns, which no placement of columns can carry out.
        "caffe": ("stages",),
        "caffenet": ("single",),
        "notes": ("columns=2,stages=2",),
    },
    precisions=("fp32", "fp64", "tf32", "bf16"),
    # Products of fewer images leave a processor idle most of the time, while it reads the weights.
    micro_batches=ForEachStage(2, smallest=16),
    accuracy_seeds=range(101, 125),
    lowered_seeds=range(201, 225),
    products=("columns=2,stages=2", "columns=2,replicas=2", "stages=2,replicas=2"),
    ranks=True,
    cuts_always=True,
)
BACKENDS = {backend.name: backend for backend in (GLUON, DEEPSPEED)}
MXNET_SENTENCE = "MXNet 1.9.1 runs on Linux x86-64 with Python up to 3.11"


def cannot_run_here(backend: Backend, version: tuple[int, ...] = ()) -> str:
    """Why a backend cannot run on this machine, or with this ``version`` of Python; empty where it can."""
    if backend is not GLUON:
        return ""
    fits = sys.platform == "linux" and platform.machine() == "x86_64" and version < (3, 12)
    return "" if fits else MXNET_SENTENCE

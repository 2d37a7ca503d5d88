"""The flags of both backends' and the oracle's verbs: each said once, and taken by the verbs that use it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from paper.architecture import VARIANTS
from paper.recipe import PRESETS
from protocol.experiment.cases import CASES
from protocol.oracle.quantities import READINGS

WHAT, WHERE, HOW, FILES = "What is carried out", "On what", "How", "Where from and where to"


def _one_of(names: Iterable[str]) -> str:
    return ", ".join(names)


CaseName = Annotated[str, typer.Option(help=f"The experiment: {_one_of(CASES)}.", rich_help_panel=WHAT)]
Variant = Annotated[
    str | None,
    typer.Option(help=f"Another architecture: {_one_of(VARIANTS)}, cross_at=LAYERS.", rich_help_panel=WHAT),
]
PresetName = Annotated[
    str | None, typer.Option(help=f"Another interpretation of the recipe: {_one_of(PRESETS)}.", rich_help_panel=WHAT)
]
Batch = Annotated[int | None, typer.Option(help="Images in a step.", rich_help_panel=WHAT)]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training set.", rich_help_panel=WHAT)]
Store = Annotated[str | None, typer.Option(help="Other data: the name of a store below --data.", rich_help_panel=WHAT)]
Start = Annotated[
    Path | None, typer.Option(help="A model's folder: its network, weights and mean.", rich_help_panel=WHAT)
]
Model = Annotated[Path, typer.Option("--start", help="The model's folder.", rich_help_panel=WHAT)]
OfStore = Annotated[str, typer.Option("--store", help="Whose images: a store below --data.", rich_help_panel=WHAT)]
Parts = Annotated[str, typer.Option(help="train, test, or both.", rich_help_panel=WHAT)]
Ten = Annotated[bool, typer.Option("--ten", help="Average ten views' probabilities.", rich_help_panel=HOW)]
Freeze = Annotated[
    str | None, typer.Option(help="Layers whose weights stay as they are: conv1,conv2 ...", rich_help_panel=WHAT)
]
Rate = Annotated[float | None, typer.Option(help="The learning rate that it begins with.", rich_help_panel=WHAT)]
Patience = Annotated[
    int | None,
    typer.Option(help="Let the rate fall after so many epochs without a lower test error.", rich_help_panel=WHAT),
]
ColourEpochs = Annotated[
    int | None, typer.Option(help="Shift colours only in this many first epochs.", rich_help_panel=WHAT)
]
Conv1Epochs = Annotated[int | None, typer.Option(help="Train conv1 only for this many epochs.", rich_help_panel=WHAT)]
Fallen = Annotated[
    int | None, typer.Option(help="From here on, let the rate be so many times fallen by hand.", rich_help_panel=HOW)
]
Seed = Annotated[int, typer.Option(help="Seed of weights, order, augmentation and dropout.", rich_help_panel=WHAT)]
Placement = Annotated[
    str,
    typer.Option(help="How it lies on devices: single, columns, stages, replicas=4 ...", rich_help_panel=WHERE),
]
Devices = Annotated[str | None, typer.Option(help="cpu:0,cpu:1 or gpu:0,gpu:1, in order.", rich_help_panel=WHERE)]
MicroBatch = Annotated[
    int | None, typer.Option(help="Images that a pipeline's stage takes at once.", rich_help_panel=WHERE)
]
Precision = Annotated[str, typer.Option(help="fp32, fp64 or, on a GPU, tf32; or bf16.", rich_help_panel=WHERE)]
Steps = Annotated[int | None, typer.Option(help="Stop after so many steps.", rich_help_panel=HOW)]
Resume = Annotated[bool, typer.Option(help="Go on from the last saved state.", rich_help_panel=HOW)]
SaveMinutes = Annotated[float | None, typer.Option(help="Save the state every so many minutes.", rich_help_panel=HOW)]
Keep = Annotated[int, typer.Option(help="How many saved states are kept.", rich_help_panel=HOW)]
Readings = Annotated[
    str, typer.Option(help=f"Which to take, of {_one_of(READINGS)}; between commas.", rich_help_panel=HOW)
]
Series = Annotated[
    Path, typer.Argument(help="A list of runs, as JSON: of each its case, seed and folder.", show_default=False)
]
Observe = Annotated[
    bool,
    typer.Option("--observe", help="Keep what claims ask of a run, too, on one device.", rich_help_panel=HOW),
]
Layers = Annotated[bool, typer.Option("--layers", help="Time each layer by itself too.", rich_help_panel=HOW)]
Data = Annotated[Path, typer.Option(help="The folder of prepared data sets.", rich_help_panel=FILES)]
Out = Annotated[Path | None, typer.Option(help="The run's folder.", rich_help_panel=FILES)]
Oracle = Annotated[
    Path | None, typer.Option(help="The oracle's folder, that the run is compared with.", rich_help_panel=FILES)
]

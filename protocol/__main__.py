"""The experiment's own command line: ``python -m protocol photos`` prepares data, ``oracle`` is the reference."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paper.names import unknown
from protocol.base.allocation import keep_freed_memory
from protocol.base.errors import Misuse
from protocol.base.files import check_replaceable
from protocol.base.log import log
from protocol.command import add_verb, application, run
from protocol.datasets.store import Manifest, open_store
from protocol.exchange.model import CARD, HOLDS, write_model
from protocol.experiment.augmentation import implementation
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import images_per_second, open_experiment
from protocol.runs.oracle import envelope, oracle
from protocol.runs.request import STORES, make_envelope, make_oracle

if TYPE_CHECKING:
    from protocol.datasets.preparation import Material

app = application("oracle", "Prepare data, bring weights in and out, and carry the oracle out.")
add_verb(app, "oracle", "Carry out a parity case in float64, with the tolerances around it.", make_oracle, oracle)
add_verb(app, "envelope", "Bound the losses of a case's first steps.", make_envelope, envelope)


@app.command()
def photos(
    data: Annotated[Path, typer.Option(help="The folder to prepare it in.")] = STORES,
) -> None:
    """Prepare the embedded photographs, in two sizes and without the grey ones; what is whole is left alone."""
    # Only this command needs the libraries that ship the photographs.
    from protocol.datasets.photos import EDITIONS, prepare

    for edition in EDITIONS.values():
        folder = data / f"photos-{edition.name}"
        try:
            open_store(folder)
            log(f"{folder} is there and whole")
        except Misuse:
            manifest = prepare(folder, edition)
            log(f"{folder}: {manifest.counts['train']} training and {manifest.counts['test']} test images")


@app.command()
def feed(
    data: Annotated[Path, typer.Option(help="The folder of prepared data sets.")] = STORES,
) -> None:
    """Measure how many augmented full-size images a second one thread makes from the store."""
    speed = images_per_second(open_experiment(find_case("full"), data, seed=0))
    print(json.dumps({"images_per_second": speed, "augmented_by": implementation()}))


Data = Annotated[Path, typer.Option(help="The folder of prepared data sets.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that decode; as many as cores by default.")]
Edge = Annotated[int, typer.Option(min=32, help="Of the stored pictures: 256 for full size, 36 for small networks.")]
LeftOut = Annotated[
    float, typer.Option("--left-out", min=0, max=1, help="The share of files that may be unreadable and left out.")
]


@app.command()
def imagenet(
    folder: Annotated[
        Path | None, typer.Argument(help="Where the official archives lie, or their folders.", show_default=False)
    ] = None,
    year: Annotated[int, typer.Option(help="2012 or 2010.")] = 2012,
    train: Annotated[Path | None, typer.Option(help="The training images, if they lie elsewhere.")] = None,
    validation: Annotated[Path | None, typer.Option(help="The validation or test images, if elsewhere.")] = None,
    workers: Workers = None,
    left_out: LeftOut = 0.01,
    edge: Edge = 256,
    data: Data = STORES,
) -> None:
    """Prepare ImageNet from what its site gives; stopped or killed, the same command goes on."""
    from protocol.datasets.imagenet import YEARS, material_of

    if year not in YEARS:
        raise Misuse(unknown("year", str(year), [str(own) for own in YEARS]))
    if folder is None and (train is None or validation is None):
        raise Misuse("name the folder of the archives, or both --train and --validation")
    chosen = YEARS[year]
    place = folder or (train.parent if train else Path())
    _prepare(data / chosen.name, partial(material_of, place, chosen, train, validation, edge), workers, left_out)


@app.command()
def folder(
    source: Annotated[Path, typer.Argument(help="A folder of class folders; or one with train and val.")],
    name: Annotated[str, typer.Option(help="What the store is to be called.")],
    test_share: Annotated[float, typer.Option(help="Of each class, where there is no folder of test images.")] = 0.2,
    workers: Workers = None,
    left_out: LeftOut = 0.01,
    edge: Edge = 256,
    data: Data = STORES,
) -> None:
    """Prepare your own pictures, one folder a class; Tiny ImageNet's layout is known."""
    from protocol.datasets.folders import material_of

    if not re.fullmatch(r"\w[\w.-]*", name):
        raise Misuse(f"--name must be letters, digits, dots and dashes, but is {name[:80]!r}")
    _prepare(data / name, partial(material_of, source, name, test_share, edge), workers, left_out)


@app.command()
def cifar10(
    source: Annotated[Path, typer.Argument(help="The binary or the python archive, or its folder.")],
    data: Data = STORES,
) -> None:
    """Prepare CIFAR-10 at its own 32 x 32."""
    from protocol.datasets.cifar import prepare

    _say(data / "cifar10", prepare(data / "cifar10", source))


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="A store of the folder of prepared data sets.")],
    data: Data = STORES,
) -> None:
    """Hold every byte of a store to its checksums, which a start does for small ones alone."""
    _say(data / name, open_store(data / name, whole=True).manifest)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Weights: .caffemodel, .npy, .pth, .pt or .onnx.")],
    out: Annotated[Path, typer.Option(help="The folder of the model.")],
    preset: Annotated[str | None, typer.Option(help="How to read the network, where the file does not say.")] = None,
    channels: Annotated[str | None, typer.Option(help="rgb or bgr; by default what such files usually have.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="What to take off colours: R,G,B of 0 to 255, or a mean image's file.")
    ] = None,
    deviation: Annotated[str | None, typer.Option(help="What to divide colours by after that: R,G,B.")] = None,
) -> None:
    """Make a model of somebody else's weights; nothing that the file holds is run."""
    from protocol.exchange.reading import read_foreign

    check_replaceable(out, HOLDS, CARD)
    model, card = read_foreign(file, preset, channels, mean, deviation)
    write_model(out, model, card)
    log(f"{out}: {model.spec.variant}, preset {model.spec.preset}, {model.spec.classes:,} classes")
    for line in model.said:
        log(f"  {line}")


@app.command()
def export(
    run_: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished training run.")],
    out: Annotated[Path, typer.Option(help="The folder of the model.")],
    start: Annotated[Path | None, typer.Option(help="The model that the run began with, if it did with one.")] = None,
    data: Data = STORES,
) -> None:
    """Make a model of a run: its weights with a card, and as ONNX."""
    from protocol.exchange.onnx_graph import write_onnx
    from protocol.runs.trained import trained

    check_replaceable(out, HOLDS, CARD)
    model, card = trained(run_, data, start)
    write_model(out, model, card, write_onnx)
    log(f"{out}: {model.spec.variant}, preset {model.spec.preset}, {model.spec.classes:,} classes")


def _prepare(folder: Path, material: Callable[[], "Material"], workers: int | None, left_out: float) -> None:
    from protocol.datasets.preparation import prepare

    log("looking through the files ...")
    _say(folder, prepare(folder, material(), workers, left_out))


def _say(folder: Path, manifest: Manifest) -> None:
    counts = manifest.counts
    log(f"{folder}: {counts['train']:,} training and {counts['test']:,} test images, {len(manifest.classes):,} classes")


if __name__ == "__main__":
    keep_freed_memory()
    run(app)

"""The experiment's own command line: ``python -m protocol photos`` prepares data, ``oracle`` is the reference."""

import json
from pathlib import Path
from typing import Annotated

import typer

from protocol.base.allocation import keep_freed_memory
from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.command import add_verb, application, run
from protocol.datasets.store import open_store
from protocol.experiment.augmentation import implementation
from protocol.experiment.cases import find_case
from protocol.experiment.experiment import images_per_second, open_experiment
from protocol.runs.oracle import envelope, oracle
from protocol.runs.request import STORES, make_envelope, make_oracle

app = application("oracle")
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


@app.command()
def imagenet(
    train: Annotated[Path, typer.Option(help="Folder of training JPEGs, one folder a class.")],
    validation: Annotated[Path, typer.Option(help="The same of validation JPEGs.")],
    data: Annotated[Path, typer.Option(help="The folder to prepare it in.")] = STORES,
) -> None:
    """Prepare ImageNet from folders of JPEGs, at 256 x 256."""
    from protocol.datasets.imagenet import prepare

    manifest = prepare(data / "imagenet", train, validation)
    log(f"{data / 'imagenet'}: {manifest.counts['train']} training and {manifest.counts['test']} validation images")


if __name__ == "__main__":
    keep_freed_memory()
    run(app)

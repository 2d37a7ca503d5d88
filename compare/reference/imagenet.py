"""What the paper's own experiment takes: bytes by arithmetic, hours measured here or, on other machines, modelled."""

from math import ceil, prod
from pathlib import Path

import pandas as pd

from compare.bench.decode import TABLE as DECODED
from compare.load import read_csv, read_json
from compare.reference.keep import BENCHES, by_machine
from paper.architecture import network
from paper.days import CYCLES
from paper.recipe import PRESETS
from protocol.backends import BACKENDS
from protocol.datasets.imagenet import EDGE
from protocol.runs.state import KEPT

TRAINING, TESTING = 1_281_167, 50_000  # images of ILSVRC 2012
ARCHIVES = 147_897_477_120 + 6_744_924_160  # bytes of its two archives, as its site lists them
VIEWS = 10
EVERY_MINUTES = 20  # a state is saved, in the commands of docs/imagenet.md
SAVED = "saving.csv"
FORWARD = 1 / 3  # of a training step's products
CARD, DEVICES = "H100 SXM 80 GB", (("single", 1), ("replicas=8", 8))
HOUR, DAY = 3600.0, 86_400.0


def block(reference: Path) -> str:
    """The table of docs/imagenet.md, with what it rests on."""
    (bench, *_) = by_machine(reference, BENCHES)
    machine = read_json(bench / "machine.json")
    here = f"{machine['cores']} cores of {machine['processor']}"
    parameters = sum(prod(shape) for shape in network("two_column", PRESETS["paper"]).parameter_shapes().values())
    state, store = 8 * parameters, (TRAINING + TESTING) * EDGE**2 * 3
    measured = read_csv(bench / "throughput.csv").query("precision == 'fp32'")["images_per_second"].max()
    speeds = [(measured, measured), *(_modelled(read_csv(bench / "forecast.csv"), *where) for where in DEVICES)]
    images = CYCLES * TRAINING
    rows = [
        ("step", "disk", "memory", here, "one H100, modelled", "eight H100, modelled"),
        ("---",) * 6,
        ("download", _gb(ARCHIVES), "", "", "", ""),
        ("prepare", _gb(store), _prepared_in(bench), _preparing(bench), "the same rate a core", "the same rate a core"),
        ("train, 90 passes", _gb(state * (KEPT + 1)), _resident(bench), *(_time(images, *speed) for speed in speeds)),
        ("test, ten views", "", "", *(_time(VIEWS * TESTING * FORWARD, *speed) for speed in speeds)),
        ("export", _gb(2 * 4 * parameters), "", "", "", ""),
    ]
    feed = read_csv(bench / "feed.csv")["images_per_second"].median()
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    said = (
        f"Disk is arithmetic: {TRAINING:,} and {TESTING:,} pictures of {EDGE} x {EDGE} pixels, {parameters:,} "
        f"parameters with their momentum, {KEPT} states kept and one being written.",
        "Memory of training is the process's, of the larger backend on one device, measured by the bench. That of "
        "preparing is of all its processes, measured with fewer pictures, with what the list of so many files adds "
        "(modelled).",
        f"Times here follow from {measured:.1f} images a second, the fastest placement that the bench measured; those "
        "of H100s are modelled, from all of a card's peak to what the bench reaches of its own machine's.",
        "Testing an image is a third of a training step.",
        f"One thread of this machine augments {feed:,.0f} images a second (measured), so an H100 at its fastest would "
        f"ask for {ceil(speeds[1][1] / feed)} of them.",
    )
    return f"{table}\n\n{' '.join((*said, *_saving(bench)))}"


def _saving(bench: Path) -> list[str]:
    """What a state of the network takes to save, where that was measured."""
    if not (bench / SAVED).is_file():
        return []
    table = read_csv(bench / SAVED)
    each = " and ".join(f"{row.seconds:.1f} s in {BACKENDS[row.backend].framework}" for row in table.itertuples())
    share = table["seconds"].max() / (60 * EVERY_MINUTES)
    return [
        f"Saving a state takes {each} (measured; training waits for it): every {EVERY_MINUTES} minutes that is at most "
        f"{share:.2%} of the time."
    ]


def _resident(bench: Path) -> str:
    chosen = {"kind": "resident", "placement": "single", "variant": "two_column", "precision": "fp32", "batch": 128}
    table = read_csv(bench / "memory.csv")
    own = table[(table[list(chosen)] == list(chosen.values())).all(axis=1)]
    return _gb(own["measured_bytes"].max())


def _modelled(forecast: pd.DataFrame, placement: str, devices: int) -> tuple[float, float]:
    """Images a second, slowest and fastest, of the card's ``placement``."""
    own = forecast[(forecast["card"] == CARD) & (forecast["placement"] == placement) & (forecast["devices"] == devices)]
    fastest, slowest = own["days_low"].min(), own["days_high"].max()
    as_modelled = CYCLES * 1_200_000 / DAY  # what the forecast's days are of
    return as_modelled / slowest, as_modelled / fastest


def _preparing(bench: Path) -> str:
    if not (bench / DECODED).is_file():
        return "not measured"
    rate = read_csv(bench / DECODED).set_index("what")["images_per_second"].iloc[-1]
    return _time(TRAINING + TESTING, rate, rate)


def _prepared_in(bench: Path) -> str:
    table = read_csv(bench / DECODED) if (bench / DECODED).is_file() else pd.DataFrame()
    if "peak_bytes" not in table:
        return "not measured"
    row = table.iloc[-1]
    listed = row["list_bytes"] / row["images"]
    return _gb(row["peak_bytes"] + listed * (TRAINING + TESTING - row["images"]))


def _time(images: float, slowest: float, fastest: float) -> str:
    longest, shortest = images / slowest, images / fastest
    unit, name = (DAY, "days") if longest > 3 * DAY else (HOUR, "hours") if longest > HOUR else (60.0, "minutes")
    least, most = f"{shortest / unit:.2g}", f"{longest / unit:.2g}"
    return f"{most} {name}" if least == most else f"{least} to {most} {name}"


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count < 1e11 else f"{count / 1e9:,.0f} GB"

"""What a user asked a backend for, checked and complete."""

from dataclasses import dataclass, replace
from pathlib import Path

from paper.names import unknown
from protocol.base.errors import Misuse
from protocol.experiment.cases import Case, find_case
from protocol.oracle.quantities import READINGS, TAKEN
from protocol.placement.grid import Grid

RUNS = Path("results/runs")
# What weights, their gradients and momentum are kept in; with bf16, activations are bfloat16.
PRECISIONS = {"fp32": "float32", "fp64": "float64", "tf32": "float32", "bf16": "float32"}


@dataclass(frozen=True)
class Request:
    """``devices`` is empty where the backend shall choose. ``steps`` ends a run early, or sets a bench's length.

    ``layers``: a bench times each layer by itself as well.
    """

    backend: str
    case: Case
    placement: str
    devices: tuple[str, ...]
    data: Path
    micro_batch: int | None
    steps: int | None
    seed: int
    precision: str
    resume: bool
    out: Path
    oracle: Path | None = None
    readings: tuple[str, ...] = ()
    layers: bool = False

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.placement)

    @property
    def dtype(self) -> str:
        return PRECISIONS[self.precision]


def make_request(
    backend: str,
    case: str,
    *,
    variant: str | None = None,
    preset: str | None = None,
    placement: str = "single",
    devices: str | None = None,
    data: Path = Path("results/stores"),
    batch: int | None = None,
    micro_batch: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    precision: str = "fp32",
    resume: bool = True,
    out: Path | None = None,
    oracle: Path | None = None,
    readings: str = ",".join(TAKEN),
    layers: bool = False,
) -> Request:
    """Check what was asked for and fill in the rest.

    Raises:
        Misuse: a name is unknown or a number makes no sense.
    """
    try:
        chosen = find_case(case, variant=variant, preset_name=preset)
    except ValueError as error:
        raise Misuse(str(error)) from None
    for flag, number in (("--batch", batch), ("--micro-batch", micro_batch), ("--epochs", epochs), ("--steps", steps)):
        if number is not None and number < 1:
            raise Misuse(f"{flag} must be at least 1, not {number}")
    if seed < 0:
        raise Misuse(f"--seed must not be negative, but is {seed}")
    if precision not in PRECISIONS:
        raise Misuse(unknown("precision", precision, PRECISIONS))
    for reading in readings.split(","):
        if reading not in READINGS:
            raise Misuse(unknown("reading", reading, READINGS))
    grid = Grid.parse(placement)
    if layers and grid.devices > 1:
        raise Misuse(f"--layers times layers on one device, not in placement {placement}")
    if batch:
        chosen = replace(chosen, batch=batch)
    if epochs:
        chosen = replace(chosen, epochs=epochs)
    return Request(
        backend,
        chosen,
        grid.name,
        tuple(devices.split(",")) if devices else (),
        data,
        micro_batch,
        steps,
        seed,
        precision,
        resume,
        out or default_folder(backend, chosen, grid.name, seed, precision),
        oracle,
        tuple(readings.split(",")),
        layers,
    )


def default_folder(backend: str, case: Case, placement: str, seed: int, precision: str) -> Path:
    """``results/runs/<backend>/<case>/<placement>/seed<k>``; the case's name carries what was changed about it."""
    changes = [case.name]
    if case.variant != find_case(case.name).variant:
        changes.append(case.variant)
    if case.preset != find_case(case.name).preset:
        changes.append(case.preset)
    if precision != "fp32":
        changes.append(precision)
    return RUNS / backend / "-".join(changes) / placement / f"seed{seed}"

"""What a user asked for: a type for each verb, checked and complete, with no more in it than the verb uses.

Each type has a function that makes it, whose parameters are the verb's flags.
"""

from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from paper import cifar
from paper.names import unknown
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.datasets.store import PARTS, read_manifest
from protocol.exchange.model import read_model
from protocol.experiment.cases import Case, find_case
from protocol.oracle.quantities import LOWERED, READINGS, TAKEN
from protocol.placement.grid import Grid
from protocol.runs import options
from protocol.runs.entries import read_entries
from protocol.runs.state import KEPT

RUNS = Path("results/runs")
STORES = Path("results/stores")
USUAL = ",".join(TAKEN)
BOTH = ",".join(PARTS)
# What weights, their gradients and momentum are kept in; with bf16, activations are bfloat16.
PRECISIONS = {"fp32": "float32", "fp64": "float64", "tf32": "float32", "bf16": "float32"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which experiment, and the run's folder."""

    case: Case
    seed: int
    data: Path
    out: Path


@dataclass(frozen=True, kw_only=True)
class OracleRequest(Request):
    """The oracle's run of a case, with its bounds for ``readings``."""

    readings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EnvelopeRequest(Request):
    """The bounds of the first ``steps`` losses, or of the usual number."""

    steps: int | None


@dataclass(frozen=True, kw_only=True)
class PlacedRequest(Request):
    """What a backend carries out, and on what. ``devices`` is empty where the backend shall choose.

    ``micro_batch``: how many images go through the network, or through a stage, at once.
    """

    backend: str
    grid: Grid
    devices: tuple[str, ...]
    micro_batch: int
    precision: str = "fp32"
    start: Path | None = None  # the folder of the model that it begins with

    @property
    def placement(self) -> str:
        return self.grid.name

    @property
    def dtype(self) -> str:
        return PRECISIONS[self.precision]

    @property
    def micro_batches(self) -> int:
        """How many of them a replica's part of the batch makes."""
        return self.case.batch // self.grid.replicas // self.micro_batch


@dataclass(frozen=True, kw_only=True)
class TrainRequest(PlacedRequest):
    """``steps`` ends a run early. ``oracle``: whose run its last weights are compared with.

    ``save_minutes``: how often the state is saved, if not as the case says; ``keep``: how many states are kept.

    ``fallen``: how often the rate has fallen by hand from here on; None leaves it as it was.

    ``observe``: what claims ask of a run is kept, too; that is in no saved state, so such a run begins anew.
    """

    steps: int | None
    resume: bool
    oracle: Path | None
    observe: bool = False
    save_minutes: float | None = None
    keep: int = KEPT
    fallen: int | None = None

    @property
    def goes_on(self) -> bool:
        """Whether it takes up a state that an earlier process saved."""
        return self.resume and not self.observe


@dataclass(frozen=True, kw_only=True)
class SeriesRequest:
    """Training runs, one after the other."""

    runs: tuple[TrainRequest, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(PlacedRequest):
    """The test of a finished run's weights."""


@dataclass(frozen=True, kw_only=True)
class OutputsRequest(PlacedRequest):
    """What a model makes of a store's images. ``ten``: probabilities are the mean over ten views."""

    parts: tuple[str, ...]
    ten: bool


@dataclass(frozen=True, kw_only=True)
class ParityRequest(PlacedRequest):
    """The oracle's steps, reading by reading; each reading has a precision of its own."""

    oracle: Path
    readings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BenchRequest(PlacedRequest):
    """``steps``: how many are timed. ``layers``: each layer is timed by itself as well."""

    steps: int | None
    layers: bool


def make_oracle(
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    readings: options.Readings = USUAL,
    data: options.Data = STORES,
    out: options.Out = None,
) -> OracleRequest:
    """Raises Misuse where a name is unknown or a number makes no sense; so do the functions below."""
    chosen = _case(case, variant, preset, batch, epochs)
    folder = out or default_folder("oracle", chosen, "single", _seed(seed), "fp32")
    return OracleRequest(case=chosen, seed=seed, data=data, out=folder, readings=_readings(readings))


def make_envelope(
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    epochs: options.Epochs = None,
    steps: options.Steps = None,
    seed: options.Seed = 0,
    data: options.Data = STORES,
    out: options.Out = None,
) -> EnvelopeRequest:
    chosen = _case(case, variant, preset, batch, epochs)
    folder = out or default_folder("oracle", chosen, "single", _seed(seed), "fp32")
    return EnvelopeRequest(case=chosen, seed=seed, data=data, out=folder, steps=_at_least_1("--steps", steps))


def make_train(
    backend: str,
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    placement: options.Placement = "single",
    devices: options.Devices = None,
    micro_batch: options.MicroBatch = None,
    precision: options.Precision = "fp32",
    store: options.Store = None,
    start: options.Start = None,
    freeze: options.Freeze = None,
    rate: options.Rate = None,
    patience: options.Patience = None,
    colour_epochs: options.ColourEpochs = None,
    conv1_epochs: options.Conv1Epochs = None,
    fallen: options.Fallen = None,
    steps: options.Steps = None,
    resume: options.Resume = True,
    save_minutes: options.SaveMinutes = None,
    keep: options.Keep = KEPT,
    observe: options.Observe = False,
    data: options.Data = STORES,
    out: options.Out = None,
    oracle: options.Oracle = None,
) -> TrainRequest:
    if start and (variant or preset):
        raise Misuse("--start brings its own variant and preset: leave out --variant and --preset")
    chosen = _case(case, variant, preset, batch, epochs)
    if rate is not None and not 0 < rate < float("inf"):
        raise Misuse(f"--rate must be above 0, not {rate}")
    chosen = replace(chosen, rate=rate or chosen.rate)
    if patience := _at_least_1("--patience", patience):
        chosen = replace(chosen, patience=patience, drops=())
    if fallen is not None and fallen < 0:
        raise Misuse(f"--fallen must be at least 0, not {fallen}")
    answers: list[str] = []
    if start:
        chosen, answers = _from(chosen, start)
    own = chosen.classes
    if store:
        chosen = _on(chosen, store, data)
    if start and (chosen.classes != own or (answers and answers != read_manifest(data / chosen.store).classes)):
        chosen = replace(chosen, fresh=(chosen.network().layers[-1].name,))  # what answered to other classes
    chosen = _ended_early(chosen, colour_epochs, conv1_epochs)
    chosen = replace(chosen, frozen=_frozen(chosen, freeze))
    if observe and (Grid.parse(placement).devices > 1 or steps is not None):
        raise Misuse("--observe looks at a whole run on one device: leave out --placement and --steps")
    placed = _placed(backend, chosen, seed, placement, devices, micro_batch, precision, data, out) | {"start": start}
    if save_minutes is not None and not 0 < save_minutes < float("inf"):
        raise Misuse(f"--save-minutes must be above 0, not {save_minutes}")
    return TrainRequest(
        **placed,
        steps=_at_least_1("--steps", steps),
        resume=resume,
        oracle=oracle,
        observe=observe,
        save_minutes=save_minutes,
        fallen=fallen,
        keep=_at_least_1("--keep", keep) or KEPT,
    )


def make_series(backend: str, runs: options.Series, data: options.Data = STORES) -> SeriesRequest:
    return SeriesRequest(
        runs=tuple(
            make_train(backend, **entry.model_dump(exclude={"out"}), observe=True, data=data, out=Path(entry.out))
            for entry in read_entries(runs)
        )
    )


def make_evaluate(
    backend: str,
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    seed: options.Seed = 0,
    placement: options.Placement = "single",
    devices: options.Devices = None,
    micro_batch: options.MicroBatch = None,
    precision: options.Precision = "fp32",
    store: options.Store = None,
    start: options.Start = None,
    data: options.Data = STORES,
    out: options.Out = None,
) -> EvaluateRequest:
    if start and (out or variant or preset):
        raise Misuse("evaluate tests either a run, --out, or a model, --start, which brings its variant and preset")
    chosen = _case(case, variant, preset, batch, None)
    answers: list[str] = []
    if start:
        chosen, answers = _from(chosen, start)
    if store:
        chosen = replace(chosen, store=store, limit=None, test_limit=None)
    if start:
        _check_classes(chosen, answers, read_manifest(data / chosen.store).classes)
    placed = _placed(backend, chosen, seed, placement, devices, micro_batch, precision, data, out)
    return EvaluateRequest(**placed | {"start": start})


def make_outputs(
    backend: str,
    start: options.Model,
    store: options.OfStore,
    parts: options.Parts = BOTH,
    ten: options.Ten = False,
    batch: options.Batch = 32,
    devices: options.Devices = None,
    precision: options.Precision = "fp32",
    data: options.Data = STORES,
    out: options.Out = None,
) -> OutputsRequest:
    chosen, _ = _from(find_case("fine-tune"), start)
    chosen = replace(chosen, store=store, batch=_at_least_1("--batch", batch) or chosen.batch)
    for part in parts.split(","):
        if part not in PARTS:
            raise Misuse(unknown("part", part, PARTS))
    folder = out or RUNS / backend / "outputs" / store
    placed = _placed(backend, chosen, 0, "single", devices, None, precision, data, folder)
    return OutputsRequest(**placed | {"start": start}, parts=tuple(parts.split(",")), ten=ten)


def make_parity(
    backend: str,
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    placement: options.Placement = "single",
    devices: options.Devices = None,
    micro_batch: options.MicroBatch = None,
    readings: options.Readings = USUAL,
    data: options.Data = STORES,
    out: options.Out = None,
    oracle: options.Oracle = None,
) -> ParityRequest:
    if oracle is None:
        raise Misuse("parity needs the oracle's folder: --oracle results/runs/oracle/ladder/single/seed0")
    chosen, taken = _case(case, variant, preset, batch, epochs), _readings(readings)
    placed = _placed(backend, chosen, seed, placement, devices, micro_batch, "fp32", data, out)
    for reading in taken:
        _check_precision(backend, READINGS[reading].precision)
    return ParityRequest(**placed, oracle=oracle, readings=taken)


def make_bench(
    backend: str,
    case: options.CaseName = "photos",
    variant: options.Variant = None,
    preset: options.PresetName = None,
    batch: options.Batch = None,
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    placement: options.Placement = "single",
    devices: options.Devices = None,
    micro_batch: options.MicroBatch = None,
    precision: options.Precision = "fp32",
    steps: options.Steps = None,
    layers: options.Layers = False,
    data: options.Data = STORES,
    out: options.Out = None,
) -> BenchRequest:
    chosen = _case(case, variant, preset, batch, epochs)
    if chosen.variant == cifar.VARIANT:
        raise Misuse(f"a bench is of AlexNet: the bytes that case {case} holds are not predicted")
    placed = _placed(backend, chosen, seed, placement, devices, micro_batch, precision, data, out)
    if layers and placed["grid"].devices > 1:
        raise Misuse(f"--layers times layers on one device, not in placement {placement}")
    return BenchRequest(**placed, steps=_at_least_1("--steps", steps), layers=layers)


def _case(name: str, variant: str | None, preset: str | None, batch: int | None, epochs: int | None) -> Case:
    try:
        chosen = find_case(name, variant=variant, preset_name=preset)
    except ValueError as error:
        raise Misuse(str(error)) from None
    batch, epochs = _at_least_1("--batch", batch), _at_least_1("--epochs", epochs)
    return replace(chosen, batch=batch or chosen.batch, epochs=epochs or chosen.epochs)


def _on(case: Case, store: str, data: Path) -> Case:
    """``case`` on other data: its classes, as many more as let columns share them, and the same share of its images."""
    manifest = read_manifest(data / store)
    limit = None
    if case.limit:
        share = case.limit / read_manifest(data / case.store).counts["train"]
        limit = round(share * manifest.counts["train"])
    columns = case.network().columns
    classes = columns * ceil(len(manifest.classes) / columns)
    return replace(case, store=store, classes=classes, limit=limit)


def _from(case: Case, start: Path) -> tuple[Case, list[str]]:
    """``case`` with the network of the model in ``start``, and the names of its classes where they are known."""
    model, card = read_model(start)
    return replace(case, **asdict(model.spec), deviations=None, start=card.sha256), card.classes


def _check_classes(case: Case, answers: list[str], classes: list[str]) -> None:
    """See that a model answers to a store's classes: by their names, or where it has none, by how many they are.

    Raises:
        Misuse: it does not, and its errors would mean nothing.
    """
    columns = case.network().columns
    if answers and answers != classes:
        raise Misuse(f"the model answers to other classes than {case.store} has, {answers[0]!r} the first of them")
    if not answers and case.classes != columns * ceil(len(classes) / columns):
        raise Misuse(f"the model answers to {case.classes} classes, and {case.store} has {len(classes)}")


def _ended_early(case: Case, colour_epochs: int | None, conv1_epochs: int | None) -> Case:
    """The case with colours shifted, and conv1 learned, in so many epochs only."""
    if colour_epochs and not case.policy.colour:
        raise Misuse(f"case {case.name} shifts no colours: leave out --colour-epochs")
    if conv1_epochs and "conv1" not in [layer.name for layer in case.network().weighted()]:
        raise Misuse(f"variant {case.variant} has no conv1: leave out --conv1-epochs")
    for flag, number in (("--colour-epochs", colour_epochs), ("--conv1-epochs", conv1_epochs)):
        if number is not None and not 1 <= number < case.epochs:
            raise Misuse(f"{flag} must be at least 1 and below the run's {case.epochs} epochs, not {number}")
    return replace(case, colour_epochs=colour_epochs or 0, conv1_epochs=conv1_epochs or 0)


def _frozen(case: Case, told: str | None) -> tuple[str, ...]:
    known = [layer.name for layer in case.network().weighted()]
    names = tuple(filter(None, (told or "").split(",")))
    for name in names:
        if name not in known:
            raise Misuse(unknown("layer", name, known))
    if set(names) | case.held_in(case.epochs - 1) == set(known):
        raise Misuse("--freeze leaves no layer to train; evaluate tests a model as it is")
    return tuple(name for name in known if name in names)


def _placed(
    backend: str,
    case: Case,
    seed: int,
    placement: str,
    devices: str | None,
    micro_batch: int | None,
    precision: str,
    data: Path,
    out: Path | None,
) -> dict[str, Any]:
    """What all verbs of a backend have in common."""
    if precision not in PRECISIONS:
        raise Misuse(unknown("precision", precision, PRECISIONS))
    _check_precision(backend, precision)
    grid = Grid.parse(placement)
    return {
        "backend": backend,
        "case": case,
        "seed": _seed(seed),
        "grid": grid,
        "devices": tuple(devices.split(",")) if devices else (),
        "micro_batch": _micro_batch(backend, grid, case.batch, _at_least_1("--micro-batch", micro_batch)),
        "precision": precision,
        "data": data,
        "out": out or default_folder(backend, case, grid.name, seed, precision),
    }


def _check_precision(backend: str, precision: str) -> None:
    if precision not in BACKENDS[backend].precisions:
        others = [other.name for other in BACKENDS.values() if precision in other.precisions]
        own = " and ".join(name for name in BACKENDS[backend].precisions if name not in LOWERED)
        raise Misuse(f"the {backend} backend computes in {own}; the {' and '.join(others)} backend has {precision}")


def _micro_batch(backend: str, grid: Grid, batch: int, asked: int | None) -> int:
    """How many images go through at once: as asked for, or by the backend's rule."""
    if batch % grid.replicas:
        raise Misuse(f"{grid.replicas} replicas cannot share a batch of {batch}")
    own = batch // grid.replicas
    if asked is None:
        return BACKENDS[backend].micro_batches.size(grid.stages, own)
    if grid.stages == 1 and not BACKENDS[backend].cuts_always:
        raise Misuse(f"placement {grid.name} takes a batch whole: leave out --micro-batch")
    if own % asked:
        whole = f"the batch of {batch}" if grid.replicas == 1 else f"a replica's {own} images"
        raise Misuse(f"--micro-batch {asked} does not divide {whole}")
    return asked


def _at_least_1(flag: str, number: int | None) -> int | None:
    if number is not None and number < 1:
        raise Misuse(f"{flag} must be at least 1, not {number}")
    return number


def _seed(seed: int) -> int:
    if seed < 0:
        raise Misuse(f"--seed must not be negative, but is {seed}")
    return seed


def _readings(told: str) -> tuple[str, ...]:
    for reading in told.split(","):
        if reading not in READINGS:
            raise Misuse(unknown("reading", reading, READINGS))
    return tuple(told.split(","))


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

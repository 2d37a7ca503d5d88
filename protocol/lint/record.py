"""The lint's record: what was measured of a network that somebody else wrote. Measurements only, no judgement.

``results/lint/<backend>/<module>.<factory>/lint.json`` (:class:`LintRecord`) has two parts. *Operations* are the
convolutions and matrix products with weights, in the order they are carried out. *Links* are what lies between
them: each leads from the output of one operation to the input of another, and has no weights.

    image --link--> operation 0 --link--> operation 1 -- ... --> operation 7 --link--> output
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocol.base.errors import Misuse
from protocol.base.files import is_own
from protocol.base.sealed import read_sealed, write_sealed

VERSION = 3
LINTS = Path("results/lint")
EDGES = (224, 227)  # what the paper says, and what its maps need
IMAGE = -1  # the source of a link that starts at the image
Reach = list[tuple[int, int, int]]  # a row, and the first and last row that respond to it; -1, -1 where none does


@dataclass(frozen=True)
class LintRequest:
    """``spec``: ``module:factory``. ``edge``: rows of the image, or None to try which one the network takes."""

    spec: str
    edge: int | None
    out: Path


def make_lint_request(backend: str, spec: str, edge: int | None, out: Path | None) -> LintRequest:
    """Check what was asked for and fill in the rest.

    Raises:
        Misuse: ``spec`` is not a module and a factory, or no image has such an edge.
    """
    module, _, factory = spec.partition(":")
    if not module or not factory:
        raise Misuse(f"{spec!r} is not module:factory, such as my_models:alexnet")
    if edge is not None and edge < 1:
        raise Misuse(f"--input must be at least 1, not {edge}")
    return LintRequest(spec, edge, out or LINTS / backend / f"{module}.{factory}")


class _Strict(BaseModel):
    # A measurement may be infinite or no number, which JSON proper has no word for.
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


# Rows, maps or columns; none are as many as a strange file may say.
Count = Annotated[int, Field(ge=1, le=2**24)]
Sizes = Annotated[list[Count], Field(min_length=1, max_length=4)]


class Operation(_Strict):
    """A convolution or a matrix product with weights; shapes without the batch."""

    weight: Sizes = Field(description="(maps, depth, rows, columns) or (units, inputs)")
    bias: bool
    shape_in: Sizes
    shape_out: Sizes
    weight_mean: float
    weight_deviation: float
    bias_mean: float | None
    bias_deviation: float | None
    reach: Reach = Field(description="of a convolution: rows of the output that respond to a row of the input")

    @property
    def groups(self) -> int:
        """How many runs of input maps are read apart; 1 of a matrix product."""
        return self.shape_in[0] // self.weight[1] if len(self.weight) == 4 else 1


class Places(_Strict):
    """What arrives of a map that is 0 but at one place (``lone``), and with something else beside it.

    ``same``: the next map has the same value at the same place; ``other``: at another place of the same pooling
    window. ``dim`` has a smaller value, ``half`` half of that at the next place, and ``beside`` both.
    """

    lone: float
    same: float
    other: float
    dim: float
    half: float
    beside: float


class Response(_Strict):
    """What arrives when a link's source is given chosen values; read at the middle of one map.

    ``curve``: (value everywhere in the map, what arrives). ``neighbours``, ``boundary``: (distance, what arrives when
    the map that far away has the same value), for a map within the first half of the maps, and for its last; distance
    0 is the map alone. ``opposed``: the next map has minus the value. ``reach``: rows that respond to a row.
    ``lost``: of what arrives in training now and then, the share that does not, when the same is given again; so
    ``lost_tested`` at test; no number where something happens by chance that is no such loss. ``batched``: in training,
    what arrives depends on the other images. ``survivors``, ``tested``: the mean of what arrives, zeros left out, in
    training and at test, when the source gives 1 everywhere.
    """

    curve: list[tuple[float, float]]
    neighbours: list[tuple[int, float]]
    boundary: list[tuple[int, float]]
    opposed: float
    reach: Reach
    places: Places | None
    lost: float
    survivors: float
    tested: float
    lost_tested: float
    batched: bool = False


class Link(_Strict):
    """``maps``, ``rows``: first and number of the target's that respond. ``target`` may be the output, one past all."""

    source: int
    target: int
    maps: tuple[int, int]
    rows: tuple[int, int]
    response: Response | None = Field(
        description="None from the image, to the output, or where maps are not kept apart"
    )


class Ending(_Strict):
    """What the network gives when its last operation gives ``ramp``: its sum, its log-sum-exp, the largest change."""

    total: float
    log_total: float
    change: float


class LintRecord(_Strict):
    """``lint.json``. Holds no host name, no user name and no absolute path."""

    version: int = VERSION
    backend: str
    subject: str
    edge: int
    initialised: bool = Field(description="whether the factory gave the weights their initial values")
    parameters: int
    unseen: int = Field(description="parameters that belong to none of the operations")
    operations: list[Operation]
    links: list[Link]
    ending: Ending | None
    packages: dict[str, str]
    commit: str
    processor: str


def write_lint(folder: Path, record: LintRecord) -> Path:
    check_lint_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lint.json"
    write_sealed(path, record)
    return path


def check_lint_folder(folder: Path) -> None:
    """See, before any work, that a record can be written there, and that no file of somebody else's is lost by it.

    Raises:
        Misuse: it cannot.
    """
    for above in (folder, *folder.parents):
        if above.exists() and not above.is_dir():
            raise Misuse(f"--out {folder} cannot be a folder: {above} is a file")
    path = folder / "lint.json"
    if path.exists() and not is_own(path):
        raise Misuse(f"{path} is not of this project, and would be lost: name another --out")


def read_lint(path: Path) -> LintRecord:
    """Read the record in the folder ``path``, or the file.

    Raises:
        Misuse: it is absent or damaged, or another version of this project wrote it.
    """
    file = path / "lint.json" if path.is_dir() else path
    missing = f"there is no lint record at {file}; make one with: nox -s deepspeed -- lint module:factory"
    return read_sealed(file, LintRecord, VERSION, missing, "run lint again")

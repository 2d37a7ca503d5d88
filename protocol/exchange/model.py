"""A trained network by itself, in a folder: what leaves this project, and what comes into it.

card.json              what the network is, what it expects of images, where its weights come from
weights.safetensors    conv1.weight, conv1.bias, ..., and input.mean: (3,) or (3, crop, crop), of red, green, blue
README.md              the card for people
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from paper.architecture import SIZES, Network, network
from paper.recipe import preset
from protocol.base.errors import Misuse
from protocol.base.files import digest_file, new_folder, write_text
from protocol.base.sealed import Damaged, one_line, read_sealed, write_sealed
from protocol.base.tensors import read_tensors, save_tensors

VERSION = 1
CARD, WEIGHTS, TEXT = "card.json", "weights.safetensors", "README.md"
ONNX = "model.onnx"
HOLDS = (CARD, WEIGHTS, TEXT, ONNX)
MEAN = "input.mean"
REMEDY = "make the folder again from where its weights come from"


@dataclass(frozen=True)
class Spec:
    """What names a network: the arguments of :func:`paper.architecture.network`."""

    variant: str
    preset: str
    size: str
    classes: int
    activation: str = "relu"
    norm: bool = True
    pool_window: int = 3
    as_147: bool = False
    dropout: bool = True

    def network(self) -> Network:
        """The layer table.

        Raises:
            ValueError: there is no such network.
        """
        return network(
            self.variant,
            preset(self.preset),
            self.size,
            self.classes,
            activation=self.activation,
            norm=self.norm,
            pool_window=self.pool_window,
            as_147=self.as_147,
            dropout=self.dropout,
        )


@dataclass(frozen=True)
class Model:
    """A network with its weights. ``mean``: what is taken off images (3,) or (3, crop, crop), of 0 to 255."""

    spec: Spec
    tensors: dict[str, np.ndarray]
    mean: np.ndarray
    said: tuple[str, ...] = field(default=())


class Card(BaseModel):
    """``card.json``."""

    model_config = ConfigDict(extra="forbid")

    version: int = VERSION
    network: dict[str, str | int | bool]
    classes: list[str] = []  # their names, where they are known
    source: str
    source_sha256: str = ""
    changed: list[str] = []  # what was done to the weights on their way
    results: dict[str, float] = {}  # what was measured with them
    sha256: str = ""  # of the weights


def write_model(folder: Path, model: Model, card: Card, also: Callable[[Path, Model], None] | None = None) -> None:
    """Write ``model`` to ``folder``; ``also`` writes it there as ONNX.

    Raises:
        Misuse: something else stands there.
    """
    with new_folder(folder, HOLDS, CARD) as draft:
        save_tensors(draft / WEIGHTS, {**model.tensors, MEAN: model.mean})
        whole = card.model_copy(
            update={
                "network": asdict(model.spec),
                "changed": list(model.said),
                "sha256": digest_file(draft / WEIGHTS),
            }
        )
        write_text(draft / TEXT, text_of(whole, model))
        if also:
            also(draft / ONNX, model)
        write_sealed(draft / CARD, whole)


def read_model(folder: Path) -> tuple[Model, Card]:
    """Read what :func:`write_model` wrote.

    Raises:
        Misuse: there is no such folder, or another version of this project wrote it.
        Damaged: it is not what was written.
    """
    missing = f"there is no model in {folder}: nox -s prepare -- import FILE --out {folder} makes one of a file"
    card = read_sealed(folder / CARD, Card, VERSION, missing, REMEDY)
    path = folder / WEIGHTS
    if not path.is_file() or digest_file(path) != card.sha256:
        raise Damaged(f"{path} is missing or altered: {REMEDY}")
    try:
        spec = Spec(**card.network)  # type: ignore[arg-type]
        if wrong := [own.name for own in fields(Spec) if type(getattr(spec, own.name)) is not own.type]:
            raise TypeError(f"its {wrong[0]} is {getattr(spec, wrong[0])!r}")
        expected = spec.network().parameter_shapes()
    except (TypeError, ValueError) as error:
        raise Misuse(f"{folder / CARD} names a network that this version does not have ({one_line(error)})") from None
    tensors = read_tensors(path)
    mean = tensors.pop(MEAN, None)
    if mean is None or {name: value.shape for name, value in tensors.items()} != expected:
        raise Damaged(f"{path} does not hold the weights of its card: {REMEDY}")
    return Model(spec, {name: tensors[name] for name in expected}, mean, tuple(card.changed)), card


def text_of(card: Card, model: Model) -> str:
    """``README.md``: a model card."""
    made, spec = model.spec.network(), model.spec
    numbers = sum(value.size for value in model.tensors.values())
    crop, mean = made.input_shape[1], model.mean
    taken = (
        ", ".join(f"{value:.2f}" for value in mean)
        if mean.ndim == 1
        else f"an image of {crop} x {crop}, on average {', '.join(f'{value:.2f}' for value in mean.mean(axis=(1, 2)))}"
    )
    width = f"{float(SIZES[spec.size].width):g} of the paper's maps"
    lines = [
        f"# AlexNet, {spec.variant}",
        "",
        f"- **Network**: variant `{spec.variant}` at {spec.size} size ({width}), read as preset `{spec.preset}`; "
        f"{numbers:,} parameters; {spec.classes:,} classes.",
        f"- **Input**: RGB, {crop} x {crop}, 0 to 255, less the mean (red, green, blue): {taken}.",
        "- **Output**: a logit for each class.",
        f"- **Source**: {card.source}" + (f", SHA-256 `{card.source_sha256}`" if card.source_sha256 else "") + ".",
    ]
    if card.changed:
        lines.append(f"- **Changed on the way**: {'; '.join(card.changed)}.")
    lines += [f"- **{name}**: {value:.2%}" for name, value in card.results.items()]
    lines += [
        "- **Files**: `weights.safetensors` has `conv1.weight` (maps, maps read, rows, columns), `fc6.weight` (units, "
        "units read, map by map) and so on, float32, and `input.mean`.",
        "",
        "| layer | weights | biases |",
        "| --- | --- | --- |",
    ]
    for layer in made.weighted():
        lines.append(f"| {layer.name} | {' x '.join(map(str, layer.weight_shape))} | {layer.bias_shape[0]} |")
    return "\n".join([*lines, ""])

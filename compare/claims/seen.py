"""What layers see (section 6.1, figure 4; the study notes): shown of one trained network a backend, by the oracle.

layers-BACKEND.png       for conv1, conv3, conv5 and fc8, units in rows: an image that excites the unit, found by
                         ascent, and the patches of training images that excite it most
neighbours-BACKEND.png   test images, and the training images nearest to them in fc7 and in pixels
guesses-BACKEND.png      test images with their five likeliest labels

The oracle carries out the weights that the backend trained, so that nothing of a backend is needed to look.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from compare import gallery
from compare.claims.arms import BASELINE
from compare.claims.shards import Task
from compare.style import save
from paper.architecture import Conv, Layer, Network, Pool
from protocol.backends import BACKENDS
from protocol.base.errors import Misuse
from protocol.base.tensors import read_tensors
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.oracle.network import Arrays, ForwardPass, forward, softmax
from protocol.runs.record import check_file, read_record

LOOKED_THROUGH = 2000  # images
AT_ONCE = 100
LAYERS = ("conv1", "conv3", "conv5", "fc8")
UNITS, PATCHES = 5, 6
BEYOND = 0.6  # grey
STEPS, STEP, FADING = 80, 1.0, 0.02  # of the ascent: steps, their length in grey levels a pixel, and the pull to grey
QUERIES = 8


@dataclass(frozen=True)
class Field:
    """What part of the image an output sees: ``size`` pixels, from ``start`` + ``step`` times its place."""

    size: int
    step: int
    start: int

    @classmethod
    def of(cls, network: Network, name: str) -> "Field":
        """The field of the outputs of layer ``name``; all of the image and more where it is a dense layer."""
        size, step, start = 1, 1, 0
        for layer in network:
            kernel, stride, pad = _window(layer, network)
            size, start, step = size + (kernel - 1) * step, start - pad * step, step * stride
            if layer.name == name:
                break
        return cls(size, step, start)


def _window(layer: Layer, network: Network) -> tuple[int, int, int]:
    if isinstance(layer, Conv):
        return layer.kernel, layer.stride, layer.pad
    if isinstance(layer, Pool):
        return layer.window, layer.stride, 0
    return 1, 1, 0


@dataclass(frozen=True)
class Trained:
    """A trained network: its weights by canonical name, and the experiment that they come from."""

    experiment: Experiment
    weights: Arrays

    @classmethod
    def of(cls, backend: str, data: Path) -> "Trained":
        """The baseline's first run in a backend, whose folder is kept.

        Raises:
            Misuse: it is not there, or was altered.
        """
        own = BACKENDS[backend]
        task = Task(own, BASELINE, own.accuracy_seeds[0])
        if not (task.folder / "weights.safetensors").is_file():
            raise Misuse(f"there are no weights in {task.folder}: nox -s claims -- --shard 01 trains that network")
        path = check_file(task.folder, read_record(task.folder), "weights.safetensors")
        weights = {name: value.astype(np.float32) for name, value in read_tensors(path).items()}
        return cls(open_experiment(BASELINE.as_case(), data, task.seed), weights)

    def until(self, name: str) -> Network:
        """The network up to and with layer ``name``."""
        layers = self.experiment.network.layers
        (end,) = (place for place, layer in enumerate(layers) if layer.name == name)
        return replace(self.experiment.network, layers=layers[: end + 1])

    def outputs(self, name: str, images: np.ndarray) -> np.ndarray:
        """What layer ``name`` makes of ``images`` (batch, 3, rows, columns)."""
        found, _ = forward(self.until(name), images, ForwardPass(self.weights))
        return found

    def all_outputs(self, name: str, images: np.ndarray) -> np.ndarray:
        parts = (images[at : at + AT_ONCE] for at in range(0, len(images), AT_ONCE))
        return np.concatenate([self.outputs(name, part) for part in parts])

    def excite(self, name: str, unit: int) -> np.ndarray:
        """An image (3, rows, columns), in grey levels off the mean image, that a unit answers to; found by ascent."""
        network = self.until(name)
        image: np.ndarray = np.random.default_rng(unit).normal(0, 1, (1, *network.input_shape)).astype(np.float32)
        for _ in range(STEPS):
            out, backward = forward(network, image, ForwardPass(self.weights))
            asked = np.zeros_like(out)
            middle = out.shape[2] // 2 if out.ndim == 4 else 0
            asked[(0, unit, middle, middle) if out.ndim == 4 else (0, unit)] = 1
            slope = backward(asked)
            image = (1 - FADING) * image + STEP * slope / max(float(np.sqrt((slope**2).mean())), 1e-12)
        return np.asarray(image[0])


def picture(image: np.ndarray) -> np.ndarray:
    """(3, rows, columns) of any range as (rows, columns, 3) from 0 to 1."""
    low, high = image.min(), image.max()
    return np.asarray((image.transpose(1, 2, 0) - low) / max(high - low, 1e-12))


def top_patches(outputs: np.ndarray, unit: int, field: Field, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The patches (size, size, 3) that excite a unit most, each of another image.

    ``pixels``: (images, rows, columns, 3). What a field reaches beyond the image is grey; a field that is wider than
    the image shows all of it.
    """
    own = outputs[:, unit].reshape(len(outputs), -1)
    columns = outputs.shape[3] if outputs.ndim == 4 else 1
    for image in np.argsort(-own.max(axis=1), kind="stable")[:PATCHES]:
        row, column = divmod(int(own[image].argmax()), columns)
        size = min(field.size, pixels.shape[1])
        whole = size < field.size
        top, left = (0, 0) if whole else (field.start + field.step * at for at in (row, column))
        patch = np.full((size, size, 3), BEYOND)
        inside = [slice(max(0, at), min(pixels.shape[1], at + size)) for at in (top, left)]
        into = [slice(part.start - at, part.stop - at) for part, at in zip(inside, (top, left), strict=True)]
        patch[into[0], into[1]] = pixels[image, inside[0], inside[1]]
        yield patch


def layers(trained: Trained) -> Figure:
    """Units of four layers: what they are excited by."""
    experiment = trained.experiment
    count = min(LOOKED_THROUGH, len(experiment.training))
    images = experiment.clean_views(np.arange(count))
    pixels = shown(experiment, np.arange(count))
    figure = plt.figure(figsize=(13, 8.8), layout="constrained")
    for part, name in zip(np.asarray(figure.subfigures(2, 2)).flat, LAYERS, strict=True):
        most = "the patches that excite it most" if name.startswith("conv") else "the images of its largest logits"
        part.suptitle(f"{name}: an image found by ascent, then {most}", fontsize=10)
        axes = part.subplots(UNITS, 1 + PATCHES)
        outputs = trained.all_outputs(name, images)
        units = np.linspace(0, outputs.shape[1] - 1, UNITS).round().astype(int)
        whole = Field(pixels.shape[1], 1, 0)
        field = Field.of(experiment.network, name) if name.startswith("conv") else whole
        for row, unit in zip(axes, units, strict=True):
            for panel in row:
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set(color="0.8", linewidth=0.5)
            row[0].imshow(picture(trained.excite(name, int(unit))), interpolation="nearest")
            title = (
                experiment.store.manifest.classes[unit] if name == LAYERS[-1] else _map(experiment.network, name, unit)
            )
            row[0].set_title(title, fontsize=7, pad=2)
            for panel, patch in zip(row[1:], top_patches(outputs, int(unit), field, pixels), strict=False):
                panel.imshow(patch, interpolation="nearest")
    return figure


def _map(network: Network, name: str, unit: int) -> str:
    """A convolution's map, with the column that has it."""
    (layer,) = (layer for layer in network if layer.name == name)
    return f"map {unit}, column {unit * layer.columns // layer.shape_out[0]}"


def shown(experiment: Experiment, samples: np.ndarray, *, test: bool = False) -> np.ndarray:
    """The centre crops of images as one sees them: (count, crop, crop, 3), from 0 to 1."""
    split = experiment.testing if test else experiment.training
    corner = (split.edge - experiment.crop) // 2
    inside = slice(corner, corner + experiment.crop)
    return np.asarray(split.images[samples][:, inside, inside] / 255)


def neighbours(trained: Trained) -> Figure:
    """Test images with the training images nearest to them, in fc7 and in pixels (figure 4, right)."""
    experiment = trained.experiment
    known = np.arange(min(LOOKED_THROUGH, len(experiment.training)))
    asked = _one_of_each(experiment)
    memory, (queries,) = experiment.clean_views(known), experiment.test_views(asked, ten=False)
    labels, right = np.asarray(experiment.training.labels), np.asarray(experiment.testing.labels)[asked]
    last = experiment.network.layers[-2].name
    spaces = {
        "fc7": (trained.all_outputs(last, memory).reshape(len(memory), -1), trained.outputs(last, queries)),
        "pixels": (memory.reshape(len(memory), -1), queries.reshape(len(queries), -1)),
    }
    found, alike = {}, {}
    for name, (memorised, places) in spaces.items():
        nearest = np.array(
            [
                np.argsort(((memorised - place) ** 2).sum(axis=1), kind="stable")[:PATCHES]
                for place in places.reshape(len(places), -1)
            ]
        )
        pixels = shown(experiment, nearest.ravel())
        found[name] = pixels.reshape(*nearest.shape, *pixels.shape[1:])
        alike[name] = labels[nearest] == right[:, None]
    titles = [experiment.store.manifest.classes[label] for label in right]
    return gallery.neighbours(shown(experiment, asked, test=True), found, titles, alike)


def guesses(trained: Trained) -> Figure:
    """Test images with their five likeliest labels (figure 4, left); the right one is blue."""
    experiment = trained.experiment
    asked = _one_of_each(experiment)
    (views,) = experiment.test_views(asked, ten=False)
    likely = softmax(trained.outputs(experiment.network.layers[-1].name, views).astype(np.float64))
    classes = experiment.store.manifest.classes
    right = [int(label) for label in experiment.testing.labels[asked]]
    titles = [classes[label] for label in right]
    return gallery.guesses(shown(experiment, asked, test=True), titles, right, likely, classes)


def _one_of_each(experiment: Experiment) -> np.ndarray:
    """The first test image of each of QUERIES classes, spread over all."""
    labels = np.asarray(experiment.testing.labels)
    present = np.unique(labels)
    chosen = present[np.linspace(0, len(present) - 1, QUERIES).round().astype(int)]
    return np.array([int(np.flatnonzero(labels == label)[0]) for label in chosen])


def draw(folder: Path, data: Path) -> list[str]:
    """Draw what both backends' networks see, into ``folder``.

    Raises:
        Misuse: a backend's trained network is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    networks = {name: Trained.of(name, data) for name in BACKENDS}
    for backend, trained in networks.items():
        for name, figure in (("layers", layers), ("neighbours", neighbours), ("guesses", guesses)):
            drawn = figure(trained)
            drawn.suptitle(f"{backend}, seed {BACKENDS[backend].accuracy_seeds[0]}", x=0.01, ha="left", fontsize=10)
            save(drawn, folder / f"{name}-{backend}.png")
            made.append(f"{name}-{backend}.png")
    return made

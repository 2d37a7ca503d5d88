"""How well classes can be read off what each layer makes: by a linear classifier, before and after training.

reading.csv, reading.png   by backend and layer: the error of a ridge classifier on test images that it has not seen
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from compare.claims.seen import AT_ONCE, LOOKED_THROUGH, Trained
from compare.style import PALETTE, save
from paper.architecture import Network, Weighted
from protocol.backends import BACKENDS
from protocol.base.tables import write_table
from protocol.oracle.network import Arrays, ForwardPass, forward

COLUMNS = ("backend", "weights", "layer", "numbers", "error")
PIXELS = "pixels"
STATES = {"trained": "trained", "drawn": "at the start, random weights"}
PENALTIES = tuple(10.0**power for power in range(-1, 6))


def rows(networks: dict[str, Trained]) -> list[dict[str, Any]]:
    """The rows of ``reading.csv``; ``networks``: one a backend."""
    found = []
    for backend, trained in networks.items():
        experiment = trained.experiment
        for state, weights in (("drawn", experiment.weights()), ("trained", trained.weights)):
            views = [
                experiment.clean_views(np.arange(min(LOOKED_THROUGH, len(experiment.training)))),
                experiment.test_views(np.arange(min(LOOKED_THROUGH, len(experiment.testing))), ten=False)[0],
            ]
            single = {name: value.astype(np.float32) for name, value in weights.items()}
            own, others = (made_of(images, experiment.network, single) for images in views)
            labels, right = experiment.training.labels[: len(views[0])], experiment.testing.labels[: len(views[1])]
            for layer, features in own.items():
                wrong = error(features, labels, others[layer], right)
                told = {"backend": backend, "weights": state, "layer": layer}
                found.append({**told, "numbers": features.shape[1], "error": wrong})
    return found


def made_of(images: np.ndarray, network: Network, weights: Arrays) -> dict[str, np.ndarray]:
    """By layer, what the next one with weights reads (images, numbers): after its nonlinearity, norm and pooling."""
    parts: dict[str, list[np.ndarray]] = {}
    for at in range(0, len(images), AT_ONCE):
        run = ForwardPass(weights)
        forward(network, images[at : at + AT_ONCE], run)
        made = {PIXELS: images[at : at + AT_ONCE], **{name: run.activations[last] for name, last in _ends(network)}}
        for name, values in made.items():
            parts.setdefault(name, []).append(values.reshape(len(values), -1))
    return {name: np.concatenate(own) for name, own in parts.items()}


def _ends(network: Network) -> Iterator[tuple[str, str]]:
    """Of each layer with weights but the last, its name and that of the last layer before the next one with weights."""
    name = last = ""
    for layer in network:
        if isinstance(layer, Weighted):
            if name:
                yield name, last
            name = layer.name
        last = layer.name


def error(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    """Share of ``asked`` (images, numbers), of classes ``truth``, that a linear classifier of ``known`` gets wrong.

    Its penalty is the best on what was fitted, each image left out in turn.
    """
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=PENALTIES))
    return float(1 - classifier.fit(known.astype(np.float64), labels).score(asked.astype(np.float64), truth))


def figure(found: list[dict[str, Any]]) -> Figure:
    """Error by layer, as training began and as it ended."""
    table = pd.DataFrame(found)
    table["error"] *= 100
    table["weights"] = table["weights"].map(STATES)
    drawn, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    shown = {"x": "layer", "y": "error", "hue": "backend", "style": "weights", "palette": PALETTE}
    orders = {"hue_order": list(dict.fromkeys(table["backend"])), "style_order": list(STATES.values())}
    sns.lineplot(table, **shown, **orders, markers=True, sort=False, ax=axes)
    axes.set(xlabel="what a linear classifier reads", ylabel="its test error, %", ylim=(0, None))
    handles, labels = axes.get_legend_handles_labels()
    entries = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label not in shown.values()]
    axes.legend(*zip(*entries, strict=True), loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    return drawn


def write(folder: Path, data: Path) -> list[str]:
    """Write the table and the figure to ``folder``, of both backends' networks; returns their files' names.

    Raises:
        Misuse: a backend's trained network is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = rows({name: Trained.of(name, data) for name in BACKENDS})
    write_table(folder / "reading.csv", COLUMNS, found)
    drawn = figure(found)
    save(drawn, folder / "reading.png")
    return ["reading.csv", "reading.png"]

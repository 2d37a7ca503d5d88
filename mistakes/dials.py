"""Mistakes that can be made as small as one likes: how small a one does the ladder find?

How far each is turned is in :mod:`mistakes.sensitivity`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mistakes.shared import around
from paper.architecture import Norm
from protocol.experiment.experiment import Experiment
from protocol.oracle.network import softmax
from protocol.runs import evaluation

Dial = Callable[[pytest.MonkeyPatch, float], None]
DIALS: dict[str, Dial] = {}


def dials(name: str) -> Callable[[Dial], Dial]:
    def keep(dial: Dial) -> Dial:
        DIALS[name] = dial
        return dial

    return keep


def _recipe(name: str, field: str) -> None:
    def turn(patch: pytest.MonkeyPatch, size: float) -> None:
        right = vars(Experiment)["recipe"].func

        def recipe(self: Experiment) -> Any:
            own = right(self)
            return replace(own, **{field: getattr(own, field) * (1 + size)})

        patch.setattr(Experiment, "recipe", property(recipe))

    DIALS[name] = turn


_recipe("momentum", "momentum")
_recipe("weight decay", "decay")
_recipe("the biases' rate", "bias_rate")


@dials("the rate")
def _rate(patch: pytest.MonkeyPatch, size: float) -> None:
    around(patch, Experiment, "rate", lambda right, self, step: right(self, step) * (1 + size))


@dials("the rate once it has fallen")
def _fallen(patch: pytest.MonkeyPatch, size: float) -> None:
    def rate(right: Any, self: Experiment, step: int) -> float:
        own = right(self, step)
        return own * (1 + size) if own < right(self, 0) else own

    around(patch, Experiment, "rate", rate)


# By name, what becomes of a norm's constants; the backends build their layers from it.
NORMS: dict[str, Callable[[Norm, float], Norm]] = {
    "the norm's alpha": lambda layer, size: _scaled(layer, "alpha", size),
    "the norm's k": lambda layer, size: _scaled(layer, "k", size),
    "the norm's beta": lambda layer, size: _scaled(layer, "beta", size),
}


def _scaled(layer: Norm, name: str, size: float) -> Norm:
    return replace(layer, scale=replace(layer.scale, **{name: getattr(layer.scale, name) * (1 + size)}))


@dials("the probabilities' temperature")
def _temperature(patch: pytest.MonkeyPatch, size: float) -> None:
    def predict_all(right: Any, own: Experiment, predict: evaluation.Predict, batch: int, *, ten: bool) -> np.ndarray:
        return right(own, lambda images: predict(images).astype(np.float64) * (1 + size), batch, ten=ten)

    around(patch, evaluation, "predict_all", predict_all)


@dials("the weight of one of ten views")
def _view(patch: pytest.MonkeyPatch, size: float) -> None:
    def predict_all(right: Any, own: Experiment, predict: evaluation.Predict, batch: int, *, ten: bool) -> np.ndarray:
        if not ten:
            return right(own, predict, batch, ten=ten)
        parts = []
        for samples in evaluation.test_batches(own, batch):
            found = [softmax(predict(view).astype(np.float64)) for view in own.test_views(samples, ten=True)]
            weights = np.ones(10)
            weights[0] += size
            parts.append(np.average(found, axis=0, weights=weights))
        return np.concatenate(parts)[: len(own.testing)]

    around(patch, evaluation, "predict_all", predict_all)

"""Mistakes in what both backends obey, planted in a backend's process alone: the oracle never sees them."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paper.architecture import Conv, Dense, Layer, Norm
from paper.recipe import ALL_MAPS
from protocol.experiment import cases, dropout, experiment
from protocol.experiment.experiment import Experiment
from protocol.oracle import literal
from protocol.oracle.network import Arrays, softmax
from protocol.runs import evaluation

Plant = Callable[[pytest.MonkeyPatch], None]
Rewrite = Callable[[Layer], Layer]
PLANTS: dict[str, Plant] = {}
MICRO_BATCH = 4


def plants(name: str) -> Callable[[Plant], Plant]:
    def keep(plant: Plant) -> Plant:
        PLANTS[name] = plant
        return plant

    return keep


def around(patch: pytest.MonkeyPatch, owner: object, name: str, change: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by ``change``, which is given what it replaces before its arguments."""
    # torch wraps an optimizer's step in its hooks, and would wrap the replacement in them again.
    right = inspect.unwrap(getattr(owner, name))
    patch.setattr(owner, name, lambda *arguments, **named: change(right, *arguments, **named))


# --- weights at step 0 ----------------------------------------------------------------------------------------------


def _starts(name: str, change: Callable[[Arrays], Arrays]) -> None:
    PLANTS[name] = lambda patch: around(patch, Experiment, "weights", lambda right, self: change(right(self)))


def _biases(value: float) -> Callable[[Arrays], Arrays]:
    return lambda tensors: {
        name: np.full_like(tensor, value) if name.endswith("bias") else tensor for name, tensor in tensors.items()
    }


_starts("conv3 starts at twice its deviation", lambda t: t | {"conv3.weight": 2 * t["conv3.weight"]})
_starts("all biases start at 0", _biases(0))
_starts("all biases start at 1", _biases(1))
_starts("the columns' weights are exchanged", lambda t: {n: np.roll(v, len(v) // 2, axis=0) for n, v in t.items()})


# --- images and labels ----------------------------------------------------------------------------------------------


def _pictures(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """``change`` is done to a batch of images (batch, 3, crop, crop)."""
    made = lambda right, *arguments: np.ascontiguousarray(change(right(*arguments)))  # noqa: E731
    PLANTS[name] = lambda patch: around(patch, experiment, "training_batch", made)


def _draws(name: str, change: Callable[[Any, int], dict[str, np.ndarray]]) -> None:
    """``change`` gives other draws for an epoch's plan, whose crops have so much room."""

    def made(right: Any, split: Any, plan: Any, crop: int, *arguments: Any) -> np.ndarray:
        return right(split, replace(plan, **change(plan, split.edge - crop)), crop, *arguments)

    PLANTS[name] = lambda patch: around(patch, experiment, "training_batch", made)


def _means(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """``change`` is done to the mean image (edge, edge, 3)."""

    def made(right: Any, split: Any, *arguments: Any) -> np.ndarray:
        return right(replace(split, mean=change(split.mean)), *arguments)

    PLANTS[name] = lambda patch: around(patch, experiment, "training_batch", made)


_draws("crops start one row late", lambda plan, room: {"rows": np.minimum(plan.rows + 1, room)})
_draws("the last crop position is never used", lambda plan, room: {"rows": np.minimum(plan.rows, room - 1)})
_draws("one crop for the whole batch", lambda plan, room: {"rows": np.full_like(plan.rows, plan.rows[0])})
_draws("no reflections", lambda plan, room: {"flips": np.zeros_like(plan.flips)})
_draws("the shift uses the variance", lambda plan, room: {"shifts": plan.shifts * np.float32(60)})
_pictures("blue, green, red", lambda images: images[:, ::-1])
_pictures("images from 0 to 1", lambda images: images / np.float32(255))
_pictures("reflected top to bottom", lambda images: images[:, :, ::-1])
_means("a mean for each channel", lambda mean: np.full_like(mean, mean.mean(axis=(0, 1))))
_means("the mean image of other photographs", lambda mean: mean[::-1] + np.float32(3))


@plants("the first epoch's draws in every epoch")
def _first_epoch(patch: pytest.MonkeyPatch) -> None:
    around(patch, Experiment, "plan", lambda right, self, epoch: right(self, 0))


def _labels(name: str, late: int) -> None:
    made = lambda right, self, samples: np.roll(right(self, samples), late)  # noqa: E731
    PLANTS[name] = lambda patch: around(patch, Experiment, "labels", made)


_labels("labels one micro-batch late", MICRO_BATCH)
_labels("labels one image late", 1)


# --- dropout masks --------------------------------------------------------------------------------------------------


def _masks(name: str, change: Callable[..., np.ndarray]) -> None:
    """``change(right, seed, step, first, count, layer, units)`` gives the mask (count, units)."""
    PLANTS[name] = lambda patch: around(patch, dropout, "keep", change)


_masks("no dropout after fc6", lambda right, *a: right(*a) | (a[4] == 6))
_masks("half of the kept are dropped too", lambda right, *a: right(*a) & right(a[0] + 1, *a[1:]))
_masks("one mask for all samples", lambda right, *a: np.repeat(right(*a[:2], 0, 1, *a[4:]), a[3], axis=0))
_masks("fc6 and fc7 exchange masks", lambda right, *a: right(*a[:4], 13 - a[4], a[5]))
_masks("masks one micro-batch late", lambda right, *a: right(*a[:2], a[2] + MICRO_BATCH, *a[3:]))
_masks("one mask for all steps", lambda right, *a: right(a[0], 0, *a[2:]))


# --- the recipe and the rate ----------------------------------------------------------------------------------------


def _recipe(name: str, **settings: Any) -> None:
    def plant(patch: pytest.MonkeyPatch) -> None:
        right = vars(Experiment)["recipe"].func
        patch.setattr(Experiment, "recipe", property(lambda self: replace(right(self), **settings)))

    PLANTS[name] = plant


_recipe("biases do not decay", bias_decay=False)
_recipe("biases decay", bias_decay=True)
_recipe("nothing decays", decay=0.0)
_recipe("ten times the decay", decay=0.005)
_recipe("momentum .99", momentum=0.99)
_recipe("biases at twice the rate", bias_rate=2.0)
_recipe("biases at the weights' rate", bias_rate=1.0)


def _rate(name: str, change: Callable[[Callable[[int], float], int], float]) -> None:
    """``change`` gives the rate of a step, from the function that gives the right one."""
    made = lambda right, self, step: change(lambda number: right(self, number), step)  # noqa: E731
    PLANTS[name] = lambda patch: around(patch, Experiment, "rate", made)


_rate("the rate never falls", lambda right, step: right(0))
_rate("the rate is halved instead", lambda right, step: right(0) / (1 if right(step) == right(0) else 2))
_rate("the rate falls a step late", lambda right, step: right(max(0, step - 1)))


# --- test -----------------------------------------------------------------------------------------------------------


def _views(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """``change`` is done to the views of some test images (views, images, 3, crop, crop)."""
    made = lambda right, self, samples, *, ten: change(right(self, samples, ten=ten))  # noqa: E731
    PLANTS[name] = lambda patch: around(patch, Experiment, "test_views", made)


_views("ten views are the centre's", lambda views: views[[4] * 10] if len(views) == 10 else views)
_views("the mean is not taken off at test", lambda views: views + np.float32(100))


@plants("the centre view is a corner")
def _corner(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        Experiment,
        "test_views",
        lambda right, self, samples, *, ten: right(self, samples, ten=True)[: 10 if ten else 1],
    )


@plants("ten views average logits")
def _logits(patch: pytest.MonkeyPatch) -> None:
    def made(right: Any, own: Experiment, predict: evaluation.Predict, batch: int, *, ten: bool) -> np.ndarray:
        parts = [
            softmax(np.mean([predict(view) for view in own.test_views(samples, ten=ten)], axis=0).astype(np.float64))
            for samples in evaluation.test_batches(own, batch)
        ]
        return np.concatenate(parts)[: len(own.testing)]

    around(patch, evaluation, "predict_all", made)


def _predictions(name: str, change: Callable[[np.ndarray, int], np.ndarray]) -> None:
    """``change`` is done to the probabilities (images, classes), given the batch."""

    def made(right: Any, own: Experiment, predict: evaluation.Predict, batch: int, *, ten: bool) -> np.ndarray:
        return change(right(own, predict, batch, ten=ten), batch)

    PLANTS[name] = lambda patch: around(patch, evaluation, "predict_all", made)


_predictions("the last batch is dropped", lambda found, batch: found[: len(found) // batch * batch])
_predictions("predictions one image late", lambda found, batch: np.roll(found, 1, axis=0))


# --- layers, rewritten before a backend builds them -----------------------------------------------------------------


def _norm(**settings: Any) -> Rewrite:
    return lambda layer: replace(layer, scale=replace(layer.scale, **settings)) if isinstance(layer, Norm) else layer


def _layer(name: str, **settings: Any) -> Rewrite:
    return lambda layer: replace(layer, **settings) if layer.name == name else layer


REWRITES: dict[str, Rewrite] = {
    "alpha 5 times too large": _norm(alpha=5e-4),
    "alpha 5 times too small": _norm(alpha=2e-5),
    "k is 1": _norm(k=1.0),
    "beta is a half": _norm(beta=0.5),
    "a window of 3 maps": _norm(size=3),
    "the norm spans both columns": _norm(window=ALL_MAPS),
    "tanh after conv3": _layer("relu3", function="tanh"),
    "conv1 padded by 2": lambda layer: (
        replace(layer, pad=layer.pad + 2) if isinstance(layer, Conv) and layer.name == "conv1" else layer
    ),
    "conv1 padded at its other end": lambda layer: (
        replace(layer, pad=layer.pad + layer.pad_end, pad_end=-layer.pad_end)
        if isinstance(layer, Conv) and layer.name == "conv1"
        else layer
    ),
    "twice the units in fc6": lambda layer: (
        replace(layer, shape_out=(2 * layer.shape_out[0], 1, 1))
        if isinstance(layer, Dense) and layer.name == "fc6"
        else layer
    ),
}


# --- in source that all three obey: the oracle's process makes these mistakes too -----------------------------------


def _streams(tensors: Arrays) -> Arrays:
    """Every layer's weights begin with the same draws."""
    largest = max((value for name, value in tensors.items() if name.endswith(".weight")), key=lambda value: value.size)
    draws = largest.ravel() / largest.std()
    return {
        name: (value.std() * draws[: value.size]).reshape(value.shape) if name.endswith(".weight") else value
        for name, value in tensors.items()
    }


def _even(tensors: Arrays) -> Arrays:
    """conv4 drawn evenly, with the deviation it should have."""
    weight = tensors["conv4.weight"]
    other = np.random.default_rng(1).uniform(-1, 1, weight.shape) * 3**0.5 * weight.std()
    return tensors | {"conv4.weight": other.astype(np.float32)}


def _twins(tensors: Arrays) -> Arrays:
    """The second column starts from the first one's weights."""
    return {
        name: np.concatenate([np.split(value, 2)[0]] * 2) if name.endswith(".weight") else value
        for name, value in tensors.items()
    }


_starts("all layers from one stream", _streams)
_starts("weights drawn evenly", _even)
_starts("both columns start alike", _twins)
_starts("weights a little off zero", lambda t: t | {"fc6.weight": t["fc6.weight"] + 0.05 * t["fc6.weight"].std()})
_masks("fc7's mask is fc6's", lambda right, *a: right(*a[:4], 6, a[5]))
_masks("a mask for every second unit", lambda right, *a: np.tile(np.arange(a[5]) % 2 == 0, (a[3], 1)))


def _plans(name: str, change: Callable[..., Any]) -> None:
    """``change(right, split, crop, policy, seed, epoch)`` gives an epoch's plan."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        for module in (experiment, literal):
            around(patch, module, "plan_epoch", change)

    PLANTS[name] = plant


_plans("one order for every epoch", lambda right, *a: replace(right(*a), order=right(*a[:4], 0).order))
_plans("a crop's column is its row", lambda right, *a: (lambda plan: replace(plan, columns=plan.rows))(right(*a)))
_plans("red follows the reflection", lambda right, *a: (lambda p: replace(p, flips=p.shifts[:, 0] > 0))(right(*a)))
_plans("samples come class by class", lambda right, s, *a: replace(right(s, *a), order=np.argsort(s.labels)))
_plans("colours are shifted upwards", lambda right, *a: (lambda p: replace(p, shifts=abs(p.shifts)))(right(*a)))


@plants("the rate a step late everywhere")
def _late_everywhere(patch: pytest.MonkeyPatch) -> None:
    around(patch, cases.Case, "rate_at", lambda right, self, step, each: right(self, max(0, step - 1), each))


@plants("the share that is right is counted at test")
def _right_at_test(patch: pytest.MonkeyPatch) -> None:
    def errors(right: Any, *arguments: Any) -> dict[str, Any]:
        found = right(*arguments)
        return {name: 1 - value if name.startswith("top") else value for name, value in found.items()}

    around(patch, evaluation, "errors", errors)


@plants("the first six count as five")
def _six(patch: pytest.MonkeyPatch) -> None:
    def errors(right: Any, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        rank = evaluation.ranks(probabilities, labels)
        return right(probabilities, labels) | {"top5_error": float((rank >= 6).mean())}

    around(patch, evaluation, "errors", errors)


@plants("the rate falls late after a resume")
def _late_after_resume(patch: pytest.MonkeyPatch) -> None:
    around(patch, Experiment, "rate", lambda right, self, step: right(self, max(0, step - 1)))

"""A case with its data and its seed: what a backend needs to train, and what it must obey."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np

from paper.architecture import Network
from paper.recipe import DataReading, Preset
from protocol.base.errors import Misuse
from protocol.datasets.store import Split, Store, open_store
from protocol.experiment.augmentation import EpochPlan, Policy, plan_epoch, training_batch, views
from protocol.experiment.cases import Case
from protocol.experiment.start import Start, read_start
from protocol.experiment.weights import initial_weights

AHEAD = 2  # steps whose images are prepared beyond the one in use
TOLD = ("why", "cost")  # of a case, to its reader alone
FEED_STEPS = 32  # that the speed of preparing them is taken from


@dataclass(frozen=True)
class Experiment:
    """Everything both backends share: the table, the weights at step 0, each step's samples, pixels and rate."""

    case: Case
    store: Store
    seed: int
    start: Start | None = None

    @cached_property
    def network(self) -> Network:
        return self.case.network()

    @cached_property
    def recipe(self) -> Preset:
        return self.case.recipe()

    @cached_property
    def training(self) -> Split:
        """The images trained on."""
        return self._centred(self.store.train.first(self.case.limit))

    @cached_property
    def testing(self) -> Split:
        """The images tested on."""
        return self._centred(self.store.test.first(self.case.test_limit))

    def _centred(self, split: Split) -> Split:
        """Images less what a model expects to be taken off, where training starts from one."""
        return replace(split, mean=self.start.mean(split.edge)) if self.start else split

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the samples left over differ from epoch to epoch."""
        return len(self.training) // self.case.batch

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.case.epochs

    @property
    def crop(self) -> int:
        return self.network.input_shape[1]

    def weights(self) -> dict[str, np.ndarray]:
        drawn = initial_weights(self.network, self.case.initial_deviations(), self.recipe, self.seed)
        return drawn | self.start.tensors if self.start else drawn

    def held(self, step: int) -> frozenset[str]:
        """The layers whose weights a step leaves as they are."""
        return self.case.held_in(step // self.steps_per_epoch)

    def rate(self, step: int) -> float:
        return self.case.rate_at(step, self.steps_per_epoch)

    @cached_property
    def _plans(self) -> dict[int, EpochPlan]:
        return {}

    def plan(self, epoch: int) -> EpochPlan:
        """The epoch's draws; the last one asked for is kept."""
        if epoch not in self._plans:
            self._plans.clear()
            policy = self.case.policy_in(epoch)
            self._plans[epoch] = plan_epoch(self.training, self.crop, policy, self.seed, epoch)
        return self._plans[epoch]

    def samples(self, step: int) -> np.ndarray:
        """Indices (batch,) of the samples of a step, in the order of their places."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.plan(epoch).order[place * self.case.batch : (place + 1) * self.case.batch]

    def images(self, step: int, samples: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Augmented training images (len(samples), 3, crop, crop) float32, written over ``out`` where it is given."""
        epoch = step // self.steps_per_epoch
        reading = self._data_reading(self.case.policy_in(epoch))
        return training_batch(self.training, self.plan(epoch), self.crop, samples, out, reading)

    def labels(self, samples: np.ndarray) -> np.ndarray:
        return self.training.labels[samples]

    def test_views(self, samples: np.ndarray, *, ten: bool) -> np.ndarray:
        """Test images (views, len(samples), 3, crop, crop) float32."""
        return views(self.testing, self.crop, samples, ten=ten, reading=self.data_reading)

    def clean_views(self, samples: np.ndarray) -> np.ndarray:
        """Centre crops (len(samples), 3, crop, crop) float32 of training images, as they are tested."""
        (found,) = views(self.training, self.crop, samples, ten=False, reading=self.data_reading)
        return found

    @property
    def data_reading(self) -> DataReading:
        return self._data_reading(self.case.policy)

    def _data_reading(self, policy: Policy) -> DataReading:
        """The recipe's; images are divided only while their colours are shifted."""
        own = self.recipe.data
        return own if policy.colour else replace(own, divisor=1.0)

    def plan_hash(self) -> str:
        """One hash of all that two runs must share to be twins: data, case, recipe, layer table, seed, draws."""
        what = {
            "store": self.store.manifest.digest,
            "case": {name: value for name, value in self.case.content().items() if name not in TOLD},
            "recipe": {name: value for name, value in asdict(self.recipe).items() if value or name != "undecayed"},
            "network": [(type(layer).__name__, asdict(layer)) for layer in self.network],
            "seed": self.seed,
            "draws": self.plan(0).digest(),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=sorted).encode()).hexdigest()


def images_per_second(experiment: Experiment) -> float:
    """How many images this thread augments in a second, in the median of a few steps."""
    out, seconds = None, []
    for step in range(min(FEED_STEPS, experiment.total_steps)):
        started = time.perf_counter()
        out = experiment.images(step, experiment.samples(step), out)
        seconds.append(time.perf_counter() - started)
    return experiment.case.batch / median(seconds)


def open_experiment(case: Case, data: Path, seed: int, start: Path | None = None) -> Experiment:
    """Open the case's store below ``data``; ``start``: the folder of the model that it begins with.

    Raises:
        Misuse: the store is absent or damaged, or does not suit the case, or the model does not.
    """
    store = open_store(data / case.store)
    network = case.network()
    if store.manifest.edge < network.input_shape[1]:
        raise Misuse(
            f"case {case.name} needs crops of {network.input_shape[1]} pixels, but {data / case.store} holds images of "
            f"{store.manifest.edge}"
        )
    # A model may be shown pictures of whatever there is; training counts their classes itself.
    if start is None and len(store.manifest.classes) > case.classes:
        raise Misuse(f"{data / case.store} has {len(store.manifest.classes)} classes, case {case.name} {case.classes}")
    begins = read_start(start, network, case.start, case.fresh) if start else None
    experiment = Experiment(case, store, seed, begins)
    if experiment.steps_per_epoch == 0:
        raise Misuse(f"a batch of {case.batch} is larger than the {len(experiment.training)} images of {case.store}")
    return experiment

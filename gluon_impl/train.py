"""Train a case, saving as it goes, and go on from what was saved.

python -m gluon_impl train --case photos --placement columns
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_impl import feed
from gluon_impl.feed import Batch
from gluon_impl.network import AlexNet, CrossEntropy
from gluon_impl.optimizer import Optimizer
from gluon_impl.predict import features, predictor
from gluon_impl.session import Session, open_session
from protocol.experiment.experiment import Experiment
from protocol.runs import state, training
from protocol.runs.observation import Observer
from protocol.runs.request import TrainRequest
from protocol.runs.run import Run, claimed, latest_state
from protocol.runs.stopping import heeding

cross_entropy = CrossEntropy()


def train_step(
    network: AlexNet, optimizer: Optimizer, batch: Batch, rate: float
) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
    """One update. Returns the batch's mean loss and its share of wrong first guesses, not yet computed."""
    losses: list[mx.nd.NDArray] = []
    wrong: list[mx.nd.NDArray] = []
    if network.micro_batches > 1:
        for parameter in network.learned():
            parameter.zero_grad()
    for part in batch:
        if network.micro_batches > 1 and len(losses) >= len(network.contexts):
            # As many micro-batches as stages are under way; more would only hold memory.
            losses[-len(network.contexts)].wait_to_read()
        with autograd.record():
            logits = network(part.images, part.masks)
            loss = cross_entropy(logits, part.labels)
        loss.backward()
        losses.append(loss)
        wrong.append(logits.argmax(axis=1) != part.labels)
    loss, error = _stacked(losses), _stacked(wrong)
    optimizer.step(rate, len(loss))
    return loss.mean(), error.mean()


def _stacked(parts: list[mx.nd.NDArray]) -> mx.nd.NDArray:
    """(images,) of all micro-batches, in one place."""
    if len(parts) == 1:
        return parts[0]
    return mx.nd.concat(*(part.as_in_context(parts[0].context) for part in parts), dim=0)


def training_state(session: Session) -> Mapping[str, np.ndarray]:
    """Weights and momentum by canonical name."""
    weights = session.network.weights()
    momentum = session.network.assemble(session.optimizer.momentum())
    return weights | {f"momentum.{name}": value for name, value in momentum.items()}


def load_state(session: Session, folder: Path) -> None:
    shapes = session.experiment.network.parameter_shapes()
    names = shapes | {f"momentum.{name}": shape for name, shape in shapes.items()}
    tensors = state.read_tensors(folder, names)
    session.network.load(tensors)
    session.optimizer.load(tensors)


@dataclass(frozen=True)
class Trainee:
    """The network on its contexts, as :func:`protocol.runs.training.train` trains it."""

    session: Session
    keeps_record: bool = True  # there is one process

    @property
    def experiment(self) -> Experiment:
        return self.session.experiment

    def batches(self, steps: range) -> Iterator[Batch]:
        return feed.training_batches(self.experiment, self.session.network, steps)

    def update(self, batch: Batch, rate: float) -> tuple[mx.nd.NDArray, mx.nd.NDArray]:
        return train_step(self.session.network, self.session.optimizer, batch, rate)

    def hold(self, layers: Collection[str]) -> None:
        self.session.optimizer.hold(layers)

    def number(self, value: mx.nd.NDArray) -> float:
        return float(value.asscalar())

    def logits(self, images: np.ndarray) -> np.ndarray:
        return predictor(self.session.network)(images)

    def features(self, images: np.ndarray) -> np.ndarray:
        return features(self.session.network, images)

    def gradient_norms(self) -> dict[str, float]:
        # Gluon's gradients are those of the summed loss.
        network, batch = self.session.network, self.experiment.case.batch
        summed = network.assemble(lambda parameter: parameter.list_grad()[0])
        return {
            layer.name: float(np.linalg.norm(summed[f"{layer.name}.weight"])) / batch
            for layer in network.table.weighted()
        }

    def kernels(self) -> np.ndarray:
        return self.session.network.weights()[self.experiment.network.kernels]

    def agreed(self, wish: int) -> int:
        return wish

    def save(self, run: Run, done: int) -> None:
        state.write_shard(state.draft_of(run.folder, done), 0, training_state(self.session))
        run.publish(done)


def train(request: TrainRequest) -> None:
    """Train to the end, or to ``request.steps``, whichever comes first."""
    session = open_session(request, "train")
    experiment = session.experiment
    total = min(experiment.total_steps, request.steps or experiment.total_steps)
    with claimed(request.out), heeding(request.out):
        latest = latest_state(request.out, experiment, request.goes_on)
        run = Run(request.out, session.record, keeps=request.keep)
        with run.recorded():
            start = run.resume(latest, fallen=request.fallen)
            if latest:
                load_state(session, latest)
            observer = Observer(Trainee(session)) if request.observe else None
            training.train(Trainee(session), run, range(start, total), observer, request.save_minutes)
            if request.oracle and total == experiment.total_steps:
                run.hold(request.oracle, experiment, training_state(session))
            run.finish(session.network.weights())

"""Train a case, saving as it goes, and go on from what was saved.

python -m gluon_impl train --case photos --placement columns
"""

import time
from collections.abc import Mapping
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_impl import feed
from gluon_impl.evaluate import probabilities
from gluon_impl.feed import Batch
from gluon_impl.network import AlexNet, CrossEntropy
from gluon_impl.optimizer import Optimizer
from gluon_impl.session import Session, open_session
from protocol.base.tensors import save_tensors
from protocol.runs import evaluation, state
from protocol.runs.request import TrainRequest
from protocol.runs.run import Run, claimed, latest_state

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


def train(request: TrainRequest) -> None:
    """Train to the end, or to ``request.steps``, whichever comes first."""
    session = open_session(request, "train")
    experiment = session.experiment
    total = min(experiment.total_steps, request.steps or experiment.total_steps)
    with claimed(request.out):
        latest = latest_state(request.out, experiment, request.resume)
        run = Run(request.out, session.record)
        with run.recorded():
            start = run.resume(latest)
            if latest:
                load_state(session, latest)
            _train(session, run, start, total)
            if total == experiment.total_steps:
                _final_test(session, run)
                if request.oracle:
                    run.hold(request.oracle, experiment, training_state(session))
            run.finish(session.network.weights())


def _train(session: Session, run: Run, start: int, total: int) -> None:
    experiment, network = session.experiment, session.network
    steps_per_epoch = experiment.steps_per_epoch
    waiting: list[tuple[int, mx.nd.NDArray, mx.nd.NDArray]] = []
    clock = time.perf_counter()
    for step, batch in enumerate(feed.training_batches(experiment, network, range(start, total)), start):
        loss, error = train_step(network, session.optimizer, batch, experiment.rate(step))
        waiting.append((step, loss, error))
        done = step + 1
        ends_epoch, saves = done % steps_per_epoch == 0, done % experiment.case.checkpoint_steps == 0
        # Reading a number makes the host wait for the devices, so losses are read a few at a time.
        if ends_epoch or saves or done == total or len(waiting) == 10:
            rows = [(number, float(a.asscalar()), float(b.asscalar())) for number, a, b in waiting]
            seconds = time.perf_counter() - clock
            run.log_steps(experiment, rows, seconds)
            waiting.clear()
            if ends_epoch:
                _test_epoch(session, run, done // steps_per_epoch - 1)
            if saves or done == total:
                state.write_shard(state.draft_of(run.folder, done), 0, training_state(session))
                run.publish(done)
            clock = time.perf_counter()


def _test_epoch(session: Session, run: Run, epoch: int) -> None:
    labels = session.experiment.testing.labels
    found = evaluation.errors(probabilities(session.experiment, session.network, ten=False), labels)
    run.log_epoch(session.experiment, epoch, found, views=1)


def _final_test(session: Session, run: Run) -> None:
    test = session.experiment.testing
    kept = {"labels": np.asarray(test.labels, np.int16), "tiles": np.asarray(test.tiles, np.int32)}
    for views in (1, 10):
        found = probabilities(session.experiment, session.network, ten=views == 10)
        kept[f"ranks_{views}"] = evaluation.ranks(found, test.labels).astype(np.int16)
    run.log_epoch(
        session.experiment, session.experiment.case.epochs - 1, evaluation.errors(found, test.labels), views=10
    )
    save_tensors(run.folder / "predictions.safetensors", kept)

"""Carry out the oracle's steps, reading by reading, and measure how far each quantity is from the oracle's.

python -m gluon_impl parity --case ladder --placement columns --oracle results/runs/oracle/ladder/single/seed0
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_impl import feed, train
from gluon_impl.imposed import Imposition
from gluon_impl.network import AlexNet, Share, make_block
from gluon_impl.predict import predictor
from gluon_impl.session import Session, open_session
from paper.architecture import Activation
from protocol.base.tensors import read_tensors
from protocol.oracle.network import Arrays
from protocol.oracle.quantities import READINGS, RELU_AT, Reading
from protocol.runs import evaluation
from protocol.runs.request import ParityRequest
from protocol.runs.run import Run, claimed


def parity(request: ParityRequest) -> None:
    """Take every reading, and write the distances of its quantities into the run's folder."""
    with claimed(request.out):
        run = None
        for reading in (READINGS[name] for name in request.readings):
            imposition = Imposition(request.micro_batch)
            make = imposition.make if reading.imposed else make_block
            session = open_session(replace(request, precision=reading.precision), "parity", make)
            run = run or Run(request.out, session.record)
            run.record.result |= {"readings": list(request.readings), "relu_gradients": relu_gradients()}
            with run.recorded():
                if reading.imposed:
                    imposition.choices = read_tensors(request.oracle / "choices.safetensors")
                run.log_reading(reading, observe(session, reading, imposition), request.oracle, session.experiment)
        assert run is not None
        run.finish_parity()


def relu_gradients() -> list[float]:
    """ReLU's gradient at each of ``RELU_AT``, as the network's own layer has it."""
    count = len(RELU_AT)
    layer = Activation("relu", (count, 1, 1), (count, 1, 1), 1)
    block, x = make_block(layer, Share(0, 1, mx.cpu(), "float32")), mx.nd.array([RELU_AT])
    x.attach_grad()
    with autograd.record():
        total = block(x).sum()
    total.backward()
    return x.grad.asnumpy().ravel().tolist()


def observe(session: Session, reading: Reading, imposition: Imposition) -> Arrays:
    """Train, and keep what :mod:`protocol.oracle.quantities` names."""
    experiment, network = session.experiment, session.network
    seen = {f"start.{name}": value for name, value in network.weights().items()}
    if not reading.imposed:
        seen["test.start"] = predictor(network)(experiment.images(0, experiment.samples(0)))
    for step in range(experiment.total_steps):
        batch = feed.training_batch(experiment, network, step)
        with _watched(network, step, seen), imposition.followed(network, step):
            loss, error = train.train_step(network, session.optimizer, batch, experiment.rate(step))
        seen[f"loss.{step}"], seen[f"report.error.{step}"] = loss.asnumpy().ravel(), error.asnumpy().ravel()
        if step == 0:
            # Gluon's gradients are those of the summed loss; its Trainer divides by the batch.
            summed = network.assemble(lambda parameter: parameter.list_grad()[0])
            seen |= {f"gradient.{name}": value / experiment.case.batch for name, value in summed.items()}
            moved = network.weights()
            seen |= {f"step.{name}": value - seen[f"start.{name}"] for name, value in moved.items()}
    seen |= {f"weight.{name}": value for name, value in network.weights().items()}
    momentum = network.assemble(session.optimizer.momentum())
    seen |= {f"momentum.{name}": value for name, value in momentum.items()}
    for views in () if reading.imposed else (1, 10):
        found = seen[f"test.{views}"] = evaluation.predict_all(
            experiment, predictor(network), experiment.case.batch, ten=views == 10
        )
        seen |= evaluation.reported(found, experiment.testing.labels[: len(found)], views)
    return seen


@contextmanager
def _watched(network: AlexNet, step: int, seen: Arrays) -> Iterator[None]:
    """Keep what the network and its loss are given meanwhile and, at step 0, what each layer puts out."""
    # By quantity, one part for each micro-batch, of a layer's outputs one for each of its shares too.
    parts: dict[str, list[mx.nd.NDArray]] = {}

    def keep(name: str, value: mx.nd.NDArray) -> None:
        parts.setdefault(name, []).append(value)

    def keep_output(name: str, block: mx.gluon.Block, inputs: tuple, output: mx.nd.NDArray) -> None:
        keep(f"forward.{name}", output)

    def keep_images(block: mx.gluon.Block, inputs: tuple) -> None:
        keep(f"images.{step}", inputs[0][0])

    def keep_labels(block: mx.gluon.Block, inputs: tuple) -> None:
        keep(f"labels.{step}", inputs[1])
        keep(f"logits.{step}", inputs[0])
        if step == 0:
            keep("logits", inputs[0])

    handles = [
        network.register_forward_pre_hook(keep_images),
        train.cross_entropy.register_forward_pre_hook(keep_labels),
    ]
    if step == 0:
        network.open()
        handles += [
            part.register_forward_hook(partial(keep_output, name))
            for name, blocks in network.parts.items()
            for part in blocks
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.detach()
    if step == 0:
        network.close()
    for name, values in parts.items():
        kind, _, layer = name.partition(".")
        columns = len(network.shares_of[layer]) if kind == "forward" else 1
        arrays = [value.asnumpy() for value in values]
        if columns > 1:
            arrays = [np.concatenate(arrays[at : at + columns], axis=1) for at in range(0, len(arrays), columns)]
        seen[name] = np.concatenate(arrays)

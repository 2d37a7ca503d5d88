"""A training step carried out by the pipeline's stages, without an engine around them."""

import numpy as np
import torch

from deepspeed_impl.feed import micro_batches
from deepspeed_impl.imposed import make_imposed
from deepspeed_impl.network import Loss, Stage, StepPart, make_module
from paper.architecture import Network
from protocol.backends import DEEPSPEED
from protocol.placement.cuts import cut_evenly
from protocol.placement.grid import Grid
from tests.support.backends import BATCH, SEED, Answer, Question


def build(table: Network, placement: str, micro: int | None = None, *, imposed: bool = False) -> list[Stage]:
    """The stages of a pipeline, without an engine around them."""
    count = Grid.parse(placement).stages
    size = micro or DEEPSPEED.micro_batches.size(count, BATCH)
    cut = StepPart(SEED, size, BATCH // size)
    parts = cut_evenly(table.layers, [1.0] * len(table.layers), count)
    return [Stage(part, cut, make_imposed if imposed else make_module) for part in parts]


def answer(stages: list[Stage], question: Question, dtype: str) -> Answer:
    """Carry out a step, micro-batch after micro-batch, as an engine does."""
    precision = getattr(torch, dtype)
    for stage in stages:
        stage.to(precision)
        stage.load(question.weights)
    size = micro_batch_of(stages)
    logits, losses = [], []
    for images, labels in micro_batches(question.images, question.labels, size, precision, "cpu"):
        assert images is not None
        values, sent = images, []
        for stage in stages:
            received = values.detach().requires_grad_()
            values = stage(received)
            sent.append((received, values))
        loss = Loss()(values, labels) * (size / BATCH)
        (gradient,) = torch.autograd.grad(loss, values, retain_graph=True)
        logits.append(values.detach().numpy())
        losses.append(float(loss))
        for received, values in reversed(sent):
            values.backward(gradient)
            assert received.grad is not None
            gradient = received.grad
    gradients = {}
    for stage in stages:
        stage.finish_gradients()
        for name, parameter in stage.canonical().items():
            assert parameter.grad is not None
            assert parameter.grad.dtype == precision
            gradients[name] = parameter.grad.numpy()
    assert {part.dtype for part in logits} == {np.dtype(dtype)}
    return Answer(np.concatenate(logits), sum(losses), gradients)


def micro_batch_of(stages: list[Stage]) -> int:
    """The micro-batch that stages were built for."""
    return {stage.micro.size for stage in stages}.pop()

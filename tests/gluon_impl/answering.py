"""A training step carried out by the Gluon network, without a run around it."""

import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_impl.imposed import Imposition
from gluon_impl.network import AlexNet, make_block
from gluon_impl.train import cross_entropy
from protocol.oracle.network import Arrays
from tests.support.backends import BATCH, Answer, Question

CONTEXTS = {"single": [mx.cpu(0)], "columns": [mx.cpu(0), mx.cpu(1)]}


def answer(question: Question, placement: str, dtype: str, choices: Arrays | None = None) -> Answer:
    """Carry out a step; ``choices``: to keep to in ReLU and pooling."""
    imposition = Imposition(BATCH)
    net = AlexNet(question.network, CONTEXTS[placement], dtype, imposition.make if choices else make_block)
    net.load(question.weights)
    if choices:
        imposition.choices = choices
        imposition.impose(0)
    images = [mx.nd.array(question.images, ctx=context, dtype=dtype) for context in net.contexts]
    masks = {
        name: [mx.nd.array(mask[:, share.slice(mask.shape[1])], ctx=share.context, dtype=dtype) for share in net.shares]
        for name, mask in question.masks.items()
    }
    with autograd.record():
        logits = net(images, masks)
        losses = cross_entropy(logits, mx.nd.array(question.labels, dtype=dtype))
    losses.backward()
    gradients = net.assemble(lambda parameter: parameter.grad())
    assert {np.dtype(array.dtype) for array in (logits, losses, *gradients.values())} == {np.dtype(dtype)}
    means = {name: value / BATCH for name, value in gradients.items()}
    return Answer(logits.asnumpy(), float(losses.mean().asscalar()), means)

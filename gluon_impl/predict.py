"""What the network makes of test images."""

import numpy as np

from gluon_impl import feed
from gluon_impl.network import AlexNet
from paper.architecture import Dropout
from protocol.runs import evaluation


def predictor(network: AlexNet) -> evaluation.Predict:
    """Images (batch, 3, crop, crop) -> logits (batch, classes), without dropout."""

    def predict(images: np.ndarray) -> np.ndarray:
        return network(feed.place(network, images), None).asnumpy()

    return predict


def features(network: AlexNet, images: np.ndarray) -> np.ndarray:
    """Images (batch, 3, crop, crop) -> outputs of the last hidden layer (batch, units of fc7), without dropout.

    On one context, where no maps cross.
    """
    (value,) = feed.place(network, images)
    for layer in network.table.layers[:-1]:
        (part,) = network.parts[layer.name]
        value = part(value, None) if isinstance(layer, Dropout) else part(value)
    return value.asnumpy().reshape(len(images), -1)

"""What the network makes of test images."""

import numpy as np

from gluon_impl import feed
from gluon_impl.network import AlexNet
from protocol.experiment.experiment import Experiment
from protocol.runs import evaluation


def predictor(network: AlexNet) -> evaluation.Predict:
    """Images (batch, 3, crop, crop) -> logits (batch, classes), without dropout."""

    def predict(images: np.ndarray) -> np.ndarray:
        return network(feed.place(network, images), None).asnumpy()

    return predict


def probabilities(experiment: Experiment, network: AlexNet, *, ten: bool) -> np.ndarray:
    """Class probabilities (test images, classes)."""
    return evaluation.predict_all(experiment, predictor(network), experiment.case.batch, ten=ten)

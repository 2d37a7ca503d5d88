"""Test errors: one view or ten, every image counted once."""

import numpy as np

from gluon_impl import feed
from gluon_impl.network import AlexNet
from gluon_impl.session import open_session
from protocol.base.log import log
from protocol.experiment.experiment import Experiment
from protocol.runs import evaluation
from protocol.runs.request import EvaluateRequest
from protocol.runs.run import saved_weights


def predictor(network: AlexNet) -> evaluation.Predict:
    """Images (batch, 3, crop, crop) -> logits (batch, classes), without dropout."""

    def predict(images: np.ndarray) -> np.ndarray:
        return network(feed.place(network, images), None).asnumpy()

    return predict


def probabilities(experiment: Experiment, network: AlexNet, *, ten: bool) -> np.ndarray:
    """Class probabilities (test images, classes)."""
    return evaluation.predict_all(experiment, predictor(network), experiment.case.batch, ten=ten)


def evaluate(request: EvaluateRequest) -> None:
    """Print the errors of a finished run's weights, with one view and with ten."""
    session = open_session(request, "train")
    session.network.load(saved_weights(request.out, session.experiment.network))
    labels = session.experiment.testing.labels
    for ten in (False, True):
        found = evaluation.errors(probabilities(session.experiment, session.network, ten=ten), labels)
        log(
            f"{'ten views' if ten else 'one view'}: top-1 error {found['top1_error']:.2%}, "
            f"top-5 error {found['top5_error']:.2%}, loss {found['validation_loss']:.4f}"
        )

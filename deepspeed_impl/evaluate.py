"""Test errors: one view or ten, every image counted once.

python -m deepspeed_impl evaluate --case photos --out results/runs/deepspeed/photos/stages/seed0
"""

from deepspeed_impl.session import open_session
from deepspeed_impl.train import Trainee
from protocol.runs import training
from protocol.runs.request import EvaluateRequest
from protocol.runs.run import saved_weights


def evaluate(request: EvaluateRequest) -> None:
    """Say the errors of a model's weights, or of a finished run's, with one view and with ten."""
    session = open_session(request, "train")
    if request.start is None:
        session.stage.load(saved_weights(request.out, session.experiment.network))
    training.evaluate(Trainee(session))

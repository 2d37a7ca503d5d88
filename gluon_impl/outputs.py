"""What a model makes of a store's images: features of fc7, and probabilities.

python -m gluon_impl outputs --start models/caffe --store mine
"""

from gluon_impl.session import open_session
from gluon_impl.train import Trainee
from protocol.runs import outputs as written
from protocol.runs.request import OutputsRequest


def outputs(request: OutputsRequest) -> None:
    """Write them to ``request.out``."""
    written.write(Trainee(open_session(request, "train")), request)

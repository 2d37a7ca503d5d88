"""What every verb starts from: the experiment, the contexts, the network on them, and the record to fill."""

import os
from dataclasses import dataclass
from typing import Literal

import mxnet as mx

from gluon_impl import placement
from gluon_impl.network import AlexNet, MakeBlock, make_block
from gluon_impl.operators import COMPOSED, implementation
from gluon_impl.optimizer import Optimizer
from protocol.base.errors import Misuse
from protocol.base.provenance import sources_of, surroundings
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.runs.record import Record
from protocol.runs.request import PlacedRequest

PACKAGES = ("mxnet", "numpy")
SOURCES = sources_of("gluon_impl")  # as this process loads them; files may change while it runs


@dataclass(frozen=True)
class Session:
    experiment: Experiment
    network: AlexNet
    optimizer: Optimizer
    record: Record


def open_session(
    request: PlacedRequest, kind: Literal["train", "parity", "bench"], make: MakeBlock = make_block
) -> Session:
    """Build the network a request asks for, with the weights of step 0.

    Raises:
        Misuse: the placement does not suit the devices, the network or this backend.
    """
    devices = list(request.devices) or placement.default_devices(request.grid)
    contexts = placement.contexts(request.grid, devices)
    size, count = request.micro_batch, request.micro_batches
    experiment = open_experiment(request.case, request.data, request.seed, request.start)
    try:
        shares = placement.shares(request.grid, experiment.network, contexts, request.dtype, size, count)
        network = AlexNet(experiment.network, contexts, request.dtype, make, shares, count)
    except ValueError as error:
        raise Misuse(str(error)) from None
    network.load(experiment.weights())
    record = Record(
        kind=kind,
        backend="gluon",
        placement=request.placement,
        devices=devices,
        case=request.case.content(),
        seed=request.seed,
        precision=request.precision,
        threads=int(os.environ["OMP_NUM_THREADS"]),
        plan_hash=experiment.plan_hash(),
        norm=implementation() if contexts[0].device_type == "cpu" else COMPOSED,
        parameters={context_name(context): count for context, count in network.parameters_by_context().items()},
        result={"micro_batch": size, "stages": network.stages()},
        sources=SOURCES,
        **surroundings(PACKAGES),
    )
    return Session(experiment, network, Optimizer(network, experiment.recipe), record)


def context_name(context: mx.Context) -> str:
    return f"{context.device_type}:{context.device_id}"

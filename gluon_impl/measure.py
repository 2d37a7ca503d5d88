"""Bytes per context, from MXNet's own profiler, which must be on before the first array is made."""

import json
from collections.abc import Iterable
from typing import Any

import mxnet as mx
import psutil
from mxnet import profiler

from gluon_impl.session import Session, context_name
from protocol.experiment.experiment import AHEAD
from protocol.ledger.gluon import step
from protocol.ledger.memory import Part
from protocol.ledger.rows import beside, resident, rows

METHOD = "mxnet.profiler, peak of the context's storage, without the libraries' workspace"
WORKSPACE = "mxnet.profiler, what the context still holds when a step's arrays are gone"


def start() -> None:
    """Switch the profiler on: call before any array is made."""
    profiler.set_config(
        # No trace: whatever a name stands for is removed now, and written anew when the process ends.
        filename="",
        profile_memory=True,
        aggregate_stats=True,
        profile_imperative=False,
        profile_symbolic=False,
        profile_api=False,
    )
    profiler.set_state("run")


def forget() -> None:
    """Drop the peaks seen so far: those of loading weights are not a training step's."""
    profiler.dumps(reset=True)


def peaks(session: Session) -> dict[mx.Context, int]:
    """The most that each context held since :func:`forget`, in bytes."""
    stats = json.loads(profiler.dumps(reset=False, format="json"))["Memory"]["Device Storage"]
    names = {context: f"Memory: {context_name(context).replace(':', '/')}" for context in session.network.contexts}
    return {context: round(stats[name]["Max"] * 1000) for context, name in names.items()}


def at_rest(session: Session) -> dict[mx.Context, int]:
    """What each context holds now, in bytes: the profiler speaks only of what changes, so an array is made on each."""
    mx.nd.waitall()
    forget()
    for context in session.network.contexts:
        mx.nd.zeros(1, ctx=context).wait_to_read()
    return peaks(session)


def memory(session: Session, peak: dict[mx.Context, int], rest: dict[mx.Context, int]) -> list[dict[str, Any]]:
    """The rows of ``memory.csv``; ``rest``: held when no batch was on the contexts any more."""
    network = session.network
    table, images = network.table, session.record.result["micro_batch"]
    found: list[dict[str, Any]] = []
    momentum = session.optimizer.momentum()
    for number, context in enumerate(network.contexts):
        share = next(share for share in network.shares if context in share.contexts)
        part = Part(
            table,
            [layer for layer in table if share in network.shares_of[layer.name]],
            images,
            columns=share.count,
            micro_batches=network.micro_batches,
            # CPU contexts take turns, so one micro-batch is under way at a time.
            in_flight=1 if context.device_type == "cpu" else min(network.micro_batches, len(network.contexts) - number),
            waiting=1 + AHEAD,
        )
        learned = list(network.parameters_of(share).values())
        held = {
            "parameters": _size(parameter.data(context) for parameter in learned),
            "gradients": _size(parameter.grad(context) for parameter in learned),
            "momentum": _size(momentum(parameter) for parameter in learned),
        }
        device = context_name(context)
        workspace = max(0, rest[context] - sum(held.values()))
        found += rows(device, step(part), held, peak[context] - workspace, METHOD)
        found.append(beside(device, "workspace", workspace, WORKSPACE))
    return [*found, resident("process", psutil.Process().memory_info().rss)]


def _size(arrays: Iterable[mx.nd.NDArray]) -> int:
    """Bytes of ``arrays``."""
    return sum(array.size * array.dtype().itemsize for array in arrays)

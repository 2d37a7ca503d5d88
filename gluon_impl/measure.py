"""Bytes per context, from MXNet's own profiler, which must be on before the first array is made."""

import json
import os
from typing import Any

import psutil
from mxnet import profiler

from gluon_impl.session import Session, context_name
from paper.cost import held_today
from protocol import ledger

METHOD = "mxnet.profiler, peak of the context's storage"


def start() -> None:
    """Switch the profiler on: call before any array is made."""
    profiler.set_config(
        filename=os.devnull,  # what it writes when the process ends; its default is a file in the working directory
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


def memory(session: Session) -> list[dict[str, Any]]:
    """The rows of ``memory.csv``."""
    network = session.network
    stats = json.loads(profiler.dumps(reset=False, format="json"))["Memory"]["Device Storage"]
    momentum = session.optimizer.momentum()
    table, images = network.table, session.record.result["micro_batch"]
    found: list[dict[str, Any]] = []
    for number, context in enumerate(network.contexts):
        device = context_name(context)
        share = next(share for share in network.shares if context in share.contexts)
        predicted = held_today(
            table,
            images,
            layers=[layer for layer in table if share in network.shares_of[layer.name]],
            devices=share.count,
            # As many as stages are under way, of which stage s of p holds p - s at most.
            in_flight=min(network.micro_batches, len(network.contexts) - number),
        )
        parts = list(network.parameters_of(share).values())

        def size(arrays: list[Any]) -> int:
            return sum(array.size * array.dtype().itemsize for array in arrays)

        held = {
            "parameters": size([part.data(context) for part in parts]),
            "gradients": size([part.grad(context) for part in parts]),
            "momentum": size([momentum(part) for part in parts]),
        }
        peak = round(stats[f"Memory: {device.replace(':', '/')}"]["Max"] * 1000)
        found += ledger.rows(device, predicted, held, peak, METHOD)
    return [*found, ledger.resident("process", psutil.Process().memory_info().rss)]

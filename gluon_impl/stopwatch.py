"""What each layer's training costs on this machine, measured, so that the pipeline is cut where its work is even."""

import time

import mxnet as mx
from mxnet import autograd, gluon

from gluon_impl.network import Share, joined, make_block
from gluon_impl.optimizer import PaperSGD
from paper.architecture import Dropout, Network

REPEATS = 6


def layer_seconds(
    table: Network, context: mx.Context, dtype: str, micro_batch: int, micro_batches: int
) -> dict[str, float]:
    """By layer, the seconds that it adds to a step of ``micro_batches``.

    Dropout is a product with a given mask and costs nothing to speak of, and where a ReLU is carried out with the norm
    after it, its time is in the norm's.
    """
    share = Share(0, 1, context, dtype)
    # Any values do, but zeros and denormals would take another time.
    values = mx.nd.random.normal(shape=(micro_batch, *table.layers[0].shape_in), ctx=context).astype(dtype)
    found = dict.fromkeys((layer.name for layer in table), 0.0)
    for layer, block in joined(
        [(layer, make_block(layer, share)) for layer in table if not isinstance(layer, Dropout)]
    ):
        block.initialize(mx.init.Normal(0.01), ctx=context)
        block.cast(dtype)
        block.hybridize()
        if layer is not table.layers[0]:
            values.attach_grad()
        learned = block.collect_params()
        if micro_batches > 1:
            learned.setattr("grad_req", "add")
        # At a rate of 0, or the values would soon all be negative, and zeros from the next ReLU on.
        trainer = gluon.Trainer(learned, PaperSGD(learning_rate=0.0), kvstore=None) if len(learned.keys()) else None
        rounds = [_round(block, values, trainer) for _ in range(REPEATS)]
        # The first compiles.
        passed, updated = (min(same) for same in zip(*rounds, strict=True))
        found[layer.name] = micro_batches * passed + updated
        values = block(values)
    return found


def _round(block: gluon.HybridBlock, values: mx.nd.NDArray, trainer: gluon.Trainer | None) -> tuple[float, float]:
    """Seconds of a forward and backward pass, and of an update."""
    mx.nd.waitall()
    started = time.perf_counter()
    with autograd.record():
        sent = block(values)
    sent.backward()
    mx.nd.waitall()
    passed = time.perf_counter()
    if trainer:
        trainer.step(len(values))
    mx.nd.waitall()
    return passed - started, time.perf_counter() - passed

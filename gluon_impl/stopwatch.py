"""What each layer's training costs on this machine, measured, so that the pipeline is cut where its work is even."""

import time

import mxnet as mx
from mxnet import autograd

from gluon_impl.network import Share, make_block
from paper.architecture import Dropout, Network

REPEATS = 5


def layer_seconds(table: Network, context: mx.Context, dtype: str, micro_batch: int) -> list[float]:
    """Seconds of each layer's forward and backward pass over a micro-batch. Dropout is a product with a given mask."""
    share = Share(0, 1, context, dtype)
    # Any values do, but zeros and denormals would take another time.
    values = mx.nd.random.normal(shape=(micro_batch, *table.layers[0].shape_in), ctx=context).astype(dtype)
    found = []
    for layer in table:
        if isinstance(layer, Dropout):
            found.append(0.0)
            continue
        block = make_block(layer, share)
        block.initialize(mx.init.Normal(0.01), ctx=context)
        block.cast(dtype)
        block.hybridize()
        if layer is not table.layers[0]:
            values.attach_grad()
        took = []
        for _ in range(REPEATS):
            mx.nd.waitall()
            started = time.perf_counter()
            with autograd.record():
                sent = block(values)
            sent.backward()
            mx.nd.waitall()
            took.append(time.perf_counter() - started)
        found.append(min(took))  # the first compiles
        values = sent.detach()
    return found

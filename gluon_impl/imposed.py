"""ReLU and pooling that keep to recorded choices instead of making their own, so that rounding cannot tip them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_impl.network import Share, make_block
from paper.architecture import Activation, Layer, Pool
from protocol.oracle.network import Arrays, flat_places


class ImposedReLU(gluon.HybridBlock):
    """Passes on where the oracle's input was positive."""

    def __init__(self, layer: Activation, share: Share, batch: int) -> None:
        super().__init__()
        maps, rows, columns = layer.shape_in
        shape = (batch, maps // share.count, rows, columns) if rows > 1 else (batch, maps // share.count)
        self.choice = self.params.get("choice", shape=shape, dtype=share.dtype, init="zeros", grad_req="null")

    def impose(self, layer: Layer, chosen: np.ndarray) -> None:
        self.choice.set_data(mx.nd.array(chosen, dtype=self.choice.dtype))

    def hybrid_forward(self, F: Any, x: Any, choice: Any) -> Any:
        return x * choice


class ImposedPool(gluon.HybridBlock):
    """Takes each output from the place where the oracle found the maximum."""

    def __init__(self, layer: Pool, share: Share, batch: int) -> None:
        super().__init__()
        maps, rows, columns = layer.shape_out
        self.shape = (batch, maps // share.count, rows, columns)
        self.choice = self.params.get("choice", shape=self.shape, dtype="int32", init="zeros", grad_req="null")

    def impose(self, layer: Layer, chosen: np.ndarray) -> None:
        """Indices into the whole flattened input."""
        assert isinstance(layer, Pool)
        size = layer.shape_in[1] * layer.shape_in[2]
        first = np.arange(self.shape[0] * self.shape[1]).reshape(*self.shape[:2], 1, 1) * size
        self.choice.set_data(mx.nd.array(first + flat_places(layer, chosen), dtype="int32"))

    def cast(self, dtype: str) -> None:
        """Indices stay whole numbers in every precision."""

    def hybrid_forward(self, F: Any, x: Any, choice: Any) -> Any:
        return F.take(F.reshape(x, (-1,)), choice)


class Imposition:
    """Makes the blocks, remembers them, and hands each micro-batch's choices to all.

    ``size``: images in a micro-batch; ``choices``: by step and layer.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.choices: Arrays = {}
        self.blocks: list[tuple[Layer, Share, ImposedReLU | ImposedPool]] = []

    def make(self, layer: Layer, share: Share) -> gluon.HybridBlock:
        if isinstance(layer, Activation):
            block: ImposedReLU | ImposedPool = ImposedReLU(layer, share, self.size)
        elif isinstance(layer, Pool):
            block = ImposedPool(layer, share, self.size)
        else:
            return make_block(layer, share)
        self.blocks.append((layer, share, block))
        return block

    def impose(self, step: int, first: int = 0) -> None:
        """Keep to the choices of the micro-batch of ``step`` that begins at place ``first``, from now on."""
        for layer, share, block in self.blocks:
            chosen = self.choices[f"{step}.{layer.name}"]
            block.impose(layer, chosen[first : first + self.size, share.slice(chosen.shape[1])])

    @contextmanager
    def followed(self, network: gluon.Block, step: int) -> Iterator[None]:
        """Meanwhile ``network`` keeps to the choices of one micro-batch of ``step`` after the other."""
        first = count(0, self.size)
        handle = network.register_forward_pre_hook(lambda *_: self.impose(step, next(first)))
        try:
            yield
        finally:
            handle.detach()

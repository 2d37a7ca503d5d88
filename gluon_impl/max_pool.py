"""Overlapping max pooling (section 3.4) on any context: our compiled operator on CPU, MXNet's elsewhere."""

from typing import Any

import mxnet as mx
from mxnet import gluon

from gluon_impl.operators import COMPILED, implementation
from paper.architecture import Pool


class MaxPool(gluon.HybridBlock):
    """Carries out ``layer`` on one context.

    (batch, maps, rows, columns) -> (batch, maps, pooled rows, pooled columns), float32 or float64.
    """

    def __init__(self, layer: Pool, context: mx.Context) -> None:
        super().__init__()
        self.window, self.stride = layer.window, layer.stride
        self.compiled = context.device_type == "cpu" and implementation() == COMPILED

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if self.compiled:
            return F.max_pool(x, window=self.window, stride=self.stride)
        return F.Pooling(x, kernel=(self.window,) * 2, stride=(self.stride,) * 2, pool_type="max")

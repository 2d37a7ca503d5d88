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
        self.rounding = "full" if layer.pad_end else "valid"
        # Ours knows no windows that reach beyond the map.
        self.compiled = context.device_type == "cpu" and implementation() == COMPILED and not layer.pad_end

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if self.compiled:
            return F.max_pool(x, window=self.window, stride=self.stride)
        window, stride = (self.window,) * 2, (self.stride,) * 2
        return F.Pooling(x, kernel=window, stride=stride, pool_type="max", pooling_convention=self.rounding)

"""The response norm (section 3.3) on any context: our compiled operator on CPU, composed operators elsewhere.

MXNet's own ``LRN`` fails in float64, and its backward pass is a slow reference kernel on CPU.
"""

from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_impl.operators import COMPILED, implementation
from paper.architecture import Norm


class ResponseNorm(gluon.HybridBlock):
    """Carries out ``layer`` on one context that holds ``maps`` of its maps in ``groups`` separate runs.

    (batch, maps, rows, columns) -> the same shape, float32 or float64.
    """

    def __init__(self, layer: Norm, maps: int, groups: int, context: mx.Context, dtype: str) -> None:
        super().__init__()
        self.scale, self.groups, self.maps = layer.scale, groups, maps
        self.compiled = context.device_type == "cpu" and implementation() == COMPILED
        if not self.compiled:
            self.window = self.params.get_constant("window", self._window(dtype))

    def _window(self, dtype: str) -> np.ndarray:
        """Weights (maps, maps / groups, 1, 1) of the 1x1 convolution that sums over adjacent maps."""
        run = self.maps // self.groups
        distance = np.abs(np.arange(run)[:, None] - np.arange(run)[None])
        band = (distance <= self.scale.size // 2).astype(dtype)
        return np.tile(band, (self.groups, 1)).reshape(self.maps, run, 1, 1)

    def compute(self, F: Any, x: Any, *, rectifies: bool) -> Any:
        """Our operator, after a ReLU of its own where it ``rectifies``."""
        scale = self.scale
        return F.response_norm(
            x,
            size=scale.size,
            groups=self.groups,
            alpha=scale.sum_scale,
            beta=scale.beta,
            k=scale.k,
            rectifies=int(rectifies),
        )

    def hybrid_forward(self, F: Any, x: Any, window: Any = None) -> Any:
        if self.compiled:
            return self.compute(F, x, rectifies=False)
        scale = self.scale
        total = F.Convolution(
            F.square(x), window, kernel=(1, 1), num_filter=self.maps, num_group=self.groups, no_bias=True
        )
        return x * (scale.k + scale.sum_scale * total) ** -scale.beta


class RectifiedNorm(gluon.HybridBlock):
    """A ReLU and the response norm that follows it: in a compiled graph one operator, on CPU.

    Run by themselves they stay two, so that the hooks of each see what it puts out. (batch, maps, rows, columns) -> the
    same shape.
    """

    def __init__(self, relu: gluon.nn.Activation, norm: ResponseNorm) -> None:
        super().__init__()
        self.relu, self.norm = relu, norm

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if F is mx.sym and self.norm.compiled:
            return self.norm.compute(F, x, rectifies=True)
        return self.norm(self.relu(x))

"""Max pooling, by our compiled operator and by MXNet's, against the oracle's."""

import subprocess
import sys
from textwrap import dedent

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_impl import max_pool
from gluon_impl.max_pool import MaxPool
from gluon_impl.operators import COMPILED, COMPOSED
from paper.architecture import Pool
from protocol.oracle.network import ForwardPass, apply_layer
from tests.support.commands import environment

MAPS = {
    "pool1": ((8, 55, 55), 3, 2),
    "pool5": ((16, 13, 13), 3, 2),
    "rows and columns that no window reaches": ((3, 8, 8), 3, 2),
    "windows that do not overlap": ((2, 9, 9), 3, 3),
    "a window that moves by one": ((2, 6, 6), 4, 1),
    "one window": ((5, 3, 3), 3, 2),
}


def layer_of(name: str) -> Pool:
    (maps, rows, columns), window, stride = MAPS[name]
    shape_out = (maps, (rows - window) // stride + 1, (columns - window) // stride + 1)
    return Pool("pool", (maps, rows, columns), shape_out, 1, window, stride)


def run(block: MaxPool, x: np.ndarray, gradient: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Its output and its input's gradient."""
    given = mx.nd.array(x, dtype=dtype)
    given.attach_grad()
    with autograd.record():
        out = block(given)
    out.backward(mx.nd.array(gradient, dtype=dtype))
    assert np.dtype(out.dtype) == np.dtype(given.grad.dtype) == np.dtype(dtype)
    return out.asnumpy(), given.grad.asnumpy()


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("carrier", [COMPILED, COMPOSED])
@pytest.mark.parametrize("name", MAPS)
def test_output_and_gradient(
    name: str, carrier: str, dtype: str, hybrid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if carrier == COMPOSED:
        monkeypatch.setattr(max_pool, "implementation", lambda: COMPOSED)
    layer, generator = layer_of(name), np.random.default_rng(14)
    block = MaxPool(layer, mx.cpu(0))
    assert block.compiled == (carrier == COMPILED)
    if hybrid:
        block.hybridize(static_alloc=True, static_shape=True)
    # Few whole numbers, so that windows hold ties, and sums of gradients are exact.
    x = generator.integers(-3, 4, (2, *layer.shape_in)).astype(np.float64)
    gradient = generator.integers(-9, 10, (2, *layer.shape_out)).astype(np.float64)
    expected, backward = apply_layer(layer, x, ForwardPass({}))
    out, by_x = run(block, x, gradient, dtype)
    assert np.array_equal(out, expected)
    assert np.array_equal(by_x, backward(gradient))


def test_what_is_not_a_number_comes_through() -> None:
    layer = layer_of("pool5")
    x = np.zeros((1, *layer.shape_in))
    x[0, 0, 4, 4] = np.nan  # in the windows that begin at rows and columns 2 and 4
    out, by_x = run(MaxPool(layer, mx.cpu(0)), x, np.ones((1, *layer.shape_out)), "float32")
    assert np.argwhere(np.isnan(out)).tolist() == [[0, 0, r, c] for r in (1, 2) for c in (1, 2)]
    # The gradient goes to the first of what is alike, and to the first of a window whose maximum is no number.
    assert (by_x[:, :, 0:11:2, 0:11:2] == 1).all()
    assert by_x.sum() == out.size


def test_what_cannot_be_pooled_is_refused() -> None:
    block = MaxPool(layer_of("pool5"), mx.cpu(0))
    with pytest.raises(mx.base.MXNetError, match="larger than the maps"):
        block(mx.nd.zeros((1, 1, 2, 5)))
    with pytest.raises(mx.base.MXNetError, match="batch, maps, rows, columns"):
        block(mx.nd.zeros((1, 5, 5)))
    for attributes in ({"window": 3}, {"window": 3, "stride": 0}):
        with pytest.raises(mx.base.MXNetError, match="missing or wrong"):
            mx.nd.max_pool(mx.nd.zeros((1, 1, 5, 5)), **attributes)


def test_rows_and_columns_are_not_exchanged() -> None:
    out = MaxPool(layer_of("pool5"), mx.cpu(0))(mx.nd.arange(18).reshape((1, 1, 3, 6)))
    assert out.asnumpy().tolist() == [[[[14.0, 16.0]]]]


def test_threads_do_not_disturb_each_other() -> None:
    """Loaded anew: a process's threads are counted when MXNet is loaded."""
    script = """
        import mxnet as mx, numpy as np
        from gluon_impl.max_pool import MaxPool
        from paper.architecture import Pool
        block = MaxPool(Pool("pool", (64, 55, 55), (64, 27, 27), 1), mx.cpu(0))
        x = np.random.default_rng(15).normal(size=(8, 64, 55, 55))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        expected = windows.max(axis=(4, 5))
        for _ in range(20):
            assert np.array_equal(block(mx.nd.array(x, dtype="float64")).asnumpy(), expected)
    """
    command = [sys.executable, "-c", dedent(script)]
    done = subprocess.run(command, env=environment(OMP_NUM_THREADS="2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

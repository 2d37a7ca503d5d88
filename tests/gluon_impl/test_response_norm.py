"""The response norm, by our compiled operator and composed of MXNet's, against the oracle's."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_impl import response_norm
from gluon_impl.operators import COMPILED, COMPOSED
from gluon_impl.response_norm import RectifiedNorm, ResponseNorm
from protocol.oracle.network import Arrays
from tests.support.backends import NORMS, norm_layer, norm_question, relative, too_far

TOLERANCE = {"float64": 1e-14, "float32": 1e-6}


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("carrier", [COMPILED, COMPOSED])
@pytest.mark.parametrize("name", NORMS)
def test_output_and_gradient(
    name: str, carrier: str, dtype: str, hybrid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if carrier == COMPOSED:
        monkeypatch.setattr(response_norm, "implementation", lambda: COMPOSED)
    layer = norm_layer(name)
    given, expected = norm_question(name)
    block = ResponseNorm(layer, layer.shape_in[0], layer.groups, mx.cpu(0), dtype)
    assert block.compiled == (carrier == COMPILED)
    answer(block, given, expected, dtype, hybrid)


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NORMS)
def test_a_relu_before_it_is_part_of_its_operator_in_a_graph(name: str, dtype: str, hybrid: bool) -> None:
    layer = norm_layer(name)
    block = RectifiedNorm(
        gluon.nn.Activation("relu"), ResponseNorm(layer, layer.shape_in[0], layer.groups, mx.cpu(0), dtype)
    )
    answer(block, *norm_question(name, rectified=True), dtype, hybrid)
    operators = [node["op"] for node in json.loads(block(mx.sym.var("x")).tojson())["nodes"]]
    assert operators == ["null", "response_norm"]


def test_what_is_no_norm_is_refused() -> None:
    settings = {"alpha": 1e-4, "beta": 0.75, "k": 2, "rectifies": 0}
    for wrong in ({"size": -2, "groups": 1}, {"size": 5, "groups": 0}, {"size": 5}):
        with pytest.raises(mx.base.MXNetError, match="missing or wrong"):
            mx.nd.response_norm(mx.nd.zeros((1, 4, 3, 3)), **settings, **wrong)


def answer(block: gluon.HybridBlock, given: Arrays, expected: Arrays, dtype: str, hybrid: bool) -> None:
    block.initialize()
    block.cast(dtype)
    if hybrid:
        block.hybridize(static_alloc=True, static_shape=True)
    x, gradient = (mx.nd.array(given[key], dtype=dtype) for key in ("x", "gradient"))
    x.attach_grad()
    with autograd.record():
        out = block(x)
    out.backward(gradient)
    assert np.dtype(out.dtype) == np.dtype(x.grad.dtype) == np.dtype(dtype)
    found = relative({"out": (out.asnumpy(), expected["out"]), "by x": (x.grad.asnumpy(), expected["by x"])})
    assert too_far(found, TOLERANCE[dtype]) == {}

"""The response norm, fused by torch's compiler and eager, against the oracle's."""

from collections.abc import Iterator

import pytest
import torch

from deepspeed_impl import response_norm
from deepspeed_impl.response_norm import COMPILED, EAGER, ResponseNorm
from tests.backends import NORMS, norm_layer, norm_question, relative, too_far

TOLERANCE = {"float64": 1e-14, "float32": 1e-6}


@pytest.fixture
def fresh() -> Iterator[None]:
    """Let a test choose its implementation, and leave none behind."""

    def forget() -> None:
        response_norm.implementation.cache_clear()
        response_norm._carrier.cache_clear()
        # torch stops compiling a function that has met too many shapes, and says nothing.
        torch._dynamo.reset()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("carrier", [COMPILED, EAGER])
@pytest.mark.parametrize("name", NORMS)
def test_output_and_gradient(name: str, carrier: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if carrier == EAGER:
        monkeypatch.setenv("CXX", "no-such-compiler")
    assert response_norm.implementation() == carrier
    given, expected = norm_question(name)
    module = ResponseNorm(norm_layer(name), given["x"].shape[1], norm_layer(name).groups).to(getattr(torch, dtype))
    assert (module.carrier is response_norm.response_norm) == (carrier == EAGER)
    x, gradient = (torch.from_numpy(given[key]).to(getattr(torch, dtype)) for key in ("x", "gradient"))
    x.requires_grad_()
    out = module(x)
    out.backward(gradient)
    assert x.grad is not None
    assert out.dtype == x.grad.dtype == x.dtype
    found = relative({"out": (out.detach().numpy(), expected["out"]), "by x": (x.grad.numpy(), expected["by x"])})
    assert too_far(found, TOLERANCE[dtype]) == {}


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_the_norm_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert response_norm.implementation() == EAGER


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("carrier", [COMPILED, EAGER])
def test_bf16_has_room_for_the_sum(carrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, 2 + .0001 * sum would be 2 for every sum below 78."""
    if carrier == EAGER:
        monkeypatch.setenv("CXX", "no-such-compiler")
    name = next(iter(NORMS))
    x = torch.full((1, norm_question(name)[0]["x"].shape[1], 2, 2), 3.0)
    module = ResponseNorm(norm_layer(name), x.shape[1], norm_layer(name).groups)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = module(x.bfloat16())
    assert lowered.dtype == torch.bfloat16
    # Rounded once, at the end.
    assert torch.equal(lowered, module(x).bfloat16())

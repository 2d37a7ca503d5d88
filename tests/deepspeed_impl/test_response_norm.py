"""The response norm, by our operator, fused by torch's compiler and eager, against the oracle's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from deepspeed_impl import response_norm
from deepspeed_impl.response_norm import EAGER, FUSED, OPERATOR, ResponseNorm
from protocol.base import native
from tests.support.backends import NORMS, norm_layer, norm_question, relative, too_far

TOLERANCE = {"float64": 1e-14, "float32": 1e-6}


@pytest.fixture
def fresh() -> Iterator[None]:
    """Let a test choose its implementation, and leave none behind."""

    def forget() -> None:
        response_norm.implementation.cache_clear()
        torch._dynamo.reset()

    forget()
    yield
    forget()


def choose(carrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if carrier != OPERATOR:
        monkeypatch.setattr(response_norm, "implementation", lambda: carrier)
    assert response_norm.implementation() == carrier


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("carrier", [OPERATOR, FUSED, EAGER])
@pytest.mark.parametrize("name", NORMS)
def test_output_and_gradient(name: str, carrier: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(carrier, monkeypatch)
    given, expected = norm_question(name)
    module = ResponseNorm(norm_layer(name), norm_layer(name).groups)
    assert module.kind == carrier
    x, gradient = (torch.from_numpy(given[key]).to(getattr(torch, dtype)) for key in ("x", "gradient"))
    x.requires_grad_()
    out = module(x)
    out.backward(gradient)
    assert x.grad is not None
    assert out.dtype == x.grad.dtype == x.dtype
    found = relative({"out": (out.detach().numpy(), expected["out"]), "by x": (x.grad.numpy(), expected["by x"])})
    assert too_far(found, TOLERANCE[dtype]) == {}


@pytest.mark.usefixtures("fresh")
def test_what_does_not_compile_is_eager(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "response_norm.cc"
    broken.write_text("this is no C++")
    monkeypatch.setattr(response_norm, "SOURCE", broken)
    assert response_norm.implementation() == EAGER
    assert "response_norm.cc does not compile or load" in capsys.readouterr().err


@pytest.mark.usefixtures("fresh")
def test_what_does_not_load_is_eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "none.so").write_text("this is no library")
    monkeypatch.setattr(native, "library", lambda *_: tmp_path / "none.so")
    assert response_norm.implementation() == EAGER


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_threads_share_the_places_of_maps_that_lie_last(dtype: str) -> None:
    """As many places as a step has, in groups, where each thread begins in the middle of an image."""
    assert response_norm.implementation() == OPERATOR  # loads it
    settings = (2, 5, 1e-2, 0.75, 2.0)
    numbers = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(3, 12, 19, 21, generator=numbers).to(getattr(torch, dtype)) for _ in range(2))
    found = []
    for run, layout in ((OPERATOR, torch.channels_last), (OPERATOR, torch.contiguous_format), (EAGER, None)):
        given = (x if layout is None else x.contiguous(memory_format=layout)).clone().requires_grad_()
        out = (response_norm.composed if run == EAGER else response_norm._Operator.apply)(given, *settings)
        out.backward(gradient)
        assert given.grad is not None
        found.append((out.detach().float(), given.grad.float()))
    lying, standing, composed = found
    assert all(torch.equal(left, right) for left, right in zip(lying, standing, strict=True))
    for left, right in zip(lying, composed, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5 if dtype == "float32" else 2**-7, atol=1e-6)


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 1e30])
def test_what_is_no_number_stays_at_its_place(bad: float) -> None:
    assert response_norm.implementation() == OPERATOR
    numbers = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(2, 12, 3, 5, generator=numbers) for _ in range(2))
    found = []
    for value in (1.0, bad):
        x[0, 5, 1, 2] = value  # the last map of the first group
        given = x.clone().requires_grad_()
        out = response_norm._Operator.apply(given, 2, 5, 1e-2, 0.75, 2.0)
        out.backward(gradient)
        assert given.grad is not None
        found.append(torch.stack([out.detach(), given.grad]))
    near = torch.zeros(2, 12, 3, 5, dtype=torch.bool)
    near[0, 1:6, 1, 2] = True  # within reach of it there, or of what is
    differs = ~torch.isclose(*found, equal_nan=True).all(dim=0)
    assert differs.any()
    assert not (differs & ~near).any()


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_the_norm_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert response_norm.implementation() == EAGER


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("carrier", [OPERATOR, FUSED, EAGER])
def test_bf16_has_room_for_the_sum(carrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, 2 + .0001 * sum would be 2 for every sum below 78."""
    choose(carrier, monkeypatch)
    name = next(iter(NORMS))
    x = torch.full((1, norm_question(name)[0]["x"].shape[1], 2, 2), 3.0)
    module = ResponseNorm(norm_layer(name), norm_layer(name).groups)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = module(x.bfloat16())
    assert lowered.dtype == torch.bfloat16
    # Rounded once, at the end.
    assert torch.equal(lowered, module(x).bfloat16())


def test_the_fused_norm_stays_fused_whatever_shapes_it_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's own limit is eight graphs of a function; stages, tests and benches bring more shapes than that."""
    choose(FUSED, monkeypatch)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    norm = ResponseNorm(norm_layer("strong"), 2)
    for batch in range(1, 13):
        norm(torch.zeros(batch, 14, 3, 5))
    assert counters["stats"]["unique_graphs"] == 12

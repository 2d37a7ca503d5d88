"""Measure an AlexNet that somebody else wrote: what its operations are, and what lies between them.

python -m gluon_impl lint my_models:alexnet

The operations are seen where blocks call MXNet's ``Convolution`` and ``FullyConnected``, so that a block's own
activation counts as what follows, and no name is read.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.lint.factory import call_factory
from protocol.lint.observation import Traced, observe
from protocol.lint.record import LintRequest, check_lint_folder, write_lint

PACKAGES = ("mxnet", "numpy")
OPERATORS = ("Convolution", "FullyConnected")


def lint(request: LintRequest) -> None:
    """Write the lint record of the network that the request's factory makes."""
    check_lint_folder(request.out)
    record = observe(request, "gluon", PACKAGES, lambda: Subject(request.spec))
    path = write_lint(request.out, record)
    log(f"measured {request.spec}: {path}; what it keeps of the paper: nox -s compare -- lint {path}")


@dataclass(frozen=True)
class Call:
    """One call of an operation with weights."""

    function: Callable[..., mx.nd.NDArray]
    input: mx.nd.NDArray
    weight: mx.nd.NDArray  # (maps, depth, rows, columns) or (units, inputs)
    bias: mx.nd.NDArray | None
    settings: dict[str, Any]

    @property
    def rows(self) -> int:
        """How many rows a product takes; MXNet's flattens what it is given, unless told not to."""
        shape = self.input.shape
        return prod(shape[:-1]) if self.settings.get("flatten") is False else shape[0]

    def on(self, value: mx.nd.NDArray) -> mx.nd.NDArray:
        """What the operation gives for another input."""
        return self.function(value, self.weight, self.bias, **self.settings)


@contextmanager
def watched(meet: Callable[[Call], mx.nd.NDArray]) -> Iterator[None]:
    """Hand every call of an operation with weights to ``meet``, and give what that gives."""

    def watch(function: Callable[..., mx.nd.NDArray]) -> Callable[..., mx.nd.NDArray]:
        def call(
            data: mx.nd.NDArray, weight: mx.nd.NDArray, bias: mx.nd.NDArray | None = None, **settings: Any
        ) -> mx.nd.NDArray:
            return meet(Call(function, data, weight, bias, settings))

        return call

    originals = [(place, name, getattr(place, name)) for place in (mx.nd, mx.nd.op) for name in OPERATORS]
    try:
        for place, name, function in originals:
            setattr(place, name, watch(function))
        yield
    finally:
        for place, name, function in originals:
            setattr(place, name, function)


class Arrived(BaseException):
    """The last input that was asked for is there. No Exception: foreign code may catch those."""


class Subject:
    """A Gluon block as :class:`protocol.lint.observation.Subject`."""

    def __init__(self, spec: str) -> None:
        self.block = call_factory(spec, gluon.Block, "a Gluon block")
        if isinstance(self.block, gluon.SymbolBlock):
            raise Misuse(
                f"{spec} is a SymbolBlock, a compiled graph that cannot be watched: name what makes its blocks"
            )
        # A block compiled into a graph calls no operator that could be seen.
        self.block.hybridize(False)
        # What has neither an array nor a shape to wait for was never initialised.
        bare = [p for p in self.block.collect_params().values() if p._data is None and not p._deferred_init]
        self.initialised = not bare
        for parameter in bare:
            parameter.initialize()
        self.calls: list[Call] = []
        self.shapes: list[tuple[int, ...]] = []

    def _run(self, images: np.ndarray, meet: Callable[[Call], mx.nd.NDArray], *, training: bool) -> Any:
        with watched(meet), autograd.train_mode() if training else autograd.predict_mode():
            return self.block(mx.nd.array(images, dtype=images.dtype))

    def trace(self, image: np.ndarray) -> list[Traced]:
        def meet(call: Call) -> mx.nd.NDArray:
            output = call.on(call.input)
            self.calls.append(call)
            self.shapes.append(output.shape[1:])
            return output

        output = self._run(image, meet, training=False)
        if not isinstance(output, mx.nd.NDArray):
            raise TypeError(f"it gives a {type(output).__name__} rather than one array")
        return [
            Traced(
                call.weight.asnumpy(),
                None if call.bias is None else call.bias.asnumpy(),
                call.input.shape[1:],
                shape,
                call.rows,
            )
            for call, shape in zip(self.calls, self.shapes, strict=True)
        ]

    def parameters(self) -> int:
        return sum(parameter.data().size for parameter in self.block.collect_params().values())

    def forward(
        self, images: np.ndarray, pinned: dict[int, np.ndarray], wanted: Collection[int], training: bool
    ) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        met = 0

        def meet(call: Call) -> mx.nd.NDArray:
            nonlocal met
            index, met = met, met + 1
            if index in wanted:
                found[index] = call.input.asnumpy()
            if index == max(wanted):
                raise Arrived
            if index in pinned:
                return mx.nd.array(pinned[index], dtype=pinned[index].dtype)
            return mx.nd.zeros((len(images), *self.shapes[index]))

        try:
            output = self._run(images, meet, training=training)
        except Arrived:
            return found
        return found | {len(self.calls): output.asnumpy()}

    def apply(self, index: int, value: np.ndarray) -> np.ndarray:
        return self.calls[index].on(mx.nd.array(value, dtype=value.dtype)).asnumpy()

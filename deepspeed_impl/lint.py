"""Measure an AlexNet that somebody else wrote: what its operations are, and what lies between them.

python -m deepspeed_impl lint my_models:alexnet

The operations are seen where torch dispatches them, so functions count as much as modules, and no name is read.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from deepspeed_impl.precision import settle
from protocol.base.errors import Misuse
from protocol.base.log import log
from protocol.lint.factory import call_factory
from protocol.lint.observation import Traced, observe
from protocol.lint.record import LintRequest, check_lint_folder, write_lint

PACKAGES = ("torch", "numpy")
aten = torch.ops.aten


def lint(request: LintRequest) -> None:
    """Write the lint record of the network that the request's factory makes."""
    check_lint_folder(request.out)
    settle("fp32")
    record = observe(request, "deepspeed", PACKAGES, lambda: Subject(request.spec))
    path = write_lint(request.out, record)
    log(f"measured {request.spec}: {path}; what it keeps of the paper: nox -s compare -- lint {path}")


@dataclass(frozen=True)
class Call:
    """One call of an operation with weights; ``place`` is its input's among the arguments."""

    function: Callable[..., torch.Tensor]
    arguments: tuple[Any, ...]
    place: int
    weight: torch.Tensor  # (maps, depth, rows, columns) or (units, inputs)
    bias: torch.Tensor | None

    @property
    def input(self) -> torch.Tensor:
        return self.arguments[self.place]

    def on(self, value: torch.Tensor) -> torch.Tensor:
        """What the operation gives for another input."""
        return self.function(*self.arguments[: self.place], value, *self.arguments[self.place + 1 :])


class Watch(TorchDispatchMode):
    """Hands every call of an operation with weights to ``meet``, and gives what that gives."""

    def __init__(self, module: nn.Module, meet: Callable[[Call], torch.Tensor]) -> None:
        super().__init__()
        # A transposed or reshaped weight is another tensor, but lies in the same storage.
        self.owned = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self.meet = meet

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = self._call(func, args)
        if call is not None:
            return self.meet(call)
        if func is aten.bmm.default and args[0].shape[0] == 1:
            # What einsum makes of a product with weights, on either side of it.
            left, right = (value[0] for value in args)
            if self._owns(right):
                return self.meet(Call(aten.mm.default, (left, right), 0, right.t(), None))[None]
            if self._owns(left):
                return self.meet(Call(aten.mm.default, (right.t(), left.t()), 0, left, None)).t()[None]
        return func(*args, **(kwargs or {}))

    def _owns(self, value: torch.Tensor) -> bool:
        return value.untyped_storage().data_ptr() in self.owned

    def _call(self, func: Any, args: Any) -> Call | None:
        if func is aten.convolution.default:
            call = Call(func, args, 0, args[1], args[2])
        elif func is aten.addmm.default:
            call = Call(func, args, 1, args[2].t(), args[0])
        elif func is aten.mm.default:
            call = Call(func, args, 0, args[1].t(), None)
        else:
            return None
        return call if self._owns(call.weight) else None


class Arrived(BaseException):
    """The last input that was asked for is there. No Exception: foreign code may catch those."""


class Subject:
    """A torch module as :class:`protocol.lint.observation.Subject`."""

    initialised = True

    def __init__(self, spec: str) -> None:
        module = call_factory(spec, nn.Module, "a torch module")
        if isinstance(module, torch.jit.ScriptModule):
            raise Misuse(
                f"{spec} is TorchScript, whose operations cannot be watched: name what makes the module itself"
            )
        self.module = module.cpu().float()
        self.calls: list[Call] = []
        self.shapes: list[torch.Size] = []

    def _run(self, images: np.ndarray, meet: Callable[[Call], torch.Tensor], *, training: bool) -> Any:
        self.module.train(training)
        with torch.no_grad(), Watch(self.module, meet):
            return self.module(torch.from_numpy(images))

    def trace(self, image: np.ndarray) -> list[Traced]:
        def meet(call: Call) -> torch.Tensor:
            output = call.on(call.input)
            self.calls.append(call)
            self.shapes.append(output.shape[1:])
            return output

        if any(isinstance(value, UninitializedParameter) for value in self.module.parameters()):
            # Lazy layers take their shapes from the first image, before they have weights that could be watched.
            with torch.no_grad():
                self.module.eval()(torch.from_numpy(image))
        output = self._run(image, meet, training=False)
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"it gives a {type(output).__name__} rather than one tensor")
        return [
            Traced(
                call.weight.detach().numpy(),
                None if call.bias is None else call.bias.detach().numpy(),
                tuple(call.input.shape[1:]),
                tuple(shape),
                len(call.input),
            )
            for call, shape in zip(self.calls, self.shapes, strict=True)
        ]

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def forward(
        self, images: np.ndarray, pinned: dict[int, np.ndarray], wanted: Collection[int], training: bool
    ) -> dict[int, np.ndarray]:
        found: dict[int, np.ndarray] = {}
        met = 0

        def meet(call: Call) -> torch.Tensor:
            nonlocal met
            index, met = met, met + 1
            if index in wanted:
                found[index] = call.input.numpy()
            if index == max(wanted):
                raise Arrived
            if index in pinned:
                return torch.from_numpy(pinned[index])
            return torch.zeros(len(images), *self.shapes[index])

        try:
            output = self._run(images, meet, training=training)
        except Arrived:
            return found
        return found | {len(self.calls): output.numpy()}

    def apply(self, index: int, value: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.calls[index].on(torch.from_numpy(value)).numpy()

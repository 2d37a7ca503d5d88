"""The paper's step (section 5): ``v <- .9 v - .0005 rate w - rate g``, ``w <- w + v``, g the batch mean.

MXNet's fused ``sgd_mom_update`` keeps the rate inside the velocity, as the paper does. Each share has a ``Trainer`` of
its own: no parameter lives in two, so nothing is exchanged but between replicas, whose gradients the kvstore adds up.
"""

from collections.abc import Callable, Collection
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from gluon_impl.network import AlexNet
from paper.recipe import Preset


@mx.optimizer.register
class PaperSGD(mx.optimizer.Optimizer):
    """The fused update; in float64 composed operators, since the fused one holds its rates in float32."""

    def __init__(self, momentum: float = 0.9, **settings: float) -> None:
        super().__init__(**settings)
        self.momentum = momentum

    def create_state(self, index: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.zeros_like(weight)

    def update(self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: mx.nd.NDArray) -> None:
        self._update_count(index)
        rate, decay = self._get_lr(index), self._get_wd(index)
        if weight.dtype == np.float64:
            state[:] = state * self.momentum - weight * (rate * decay) - grad * (rate * self.rescale_grad)
            weight += state
            return
        mx.nd.sgd_mom_update(
            weight,
            grad,
            state,
            out=weight,
            lr=rate,
            wd=decay,
            momentum=self.momentum,
            rescale_grad=self.rescale_grad,
        )


class Optimizer:
    """One ``Trainer`` per share of ``network``."""

    def __init__(self, network: AlexNet, recipe: Preset) -> None:
        self.network, self.recipe = network, recipe
        for name, parts in network.canonical().items():
            for parameter in parts:
                parameter.wd_mult = 1.0 if recipe.decay_of(name) else 0.0
        settings = {"learning_rate": 0.0, "momentum": recipe.momentum, "wd": recipe.decay}
        self.trainers = [
            gluon.Trainer(
                network.parameters_of(share),
                "papersgd",
                dict(settings),
                kvstore="device" if len(share.contexts) > 1 else None,
                update_on_kvstore=False,
            )
            for share in network.shares
        ]
        self.hold(())

    def hold(self, layers: Collection[str]) -> None:
        """Let the weights of ``layers``, and of no others, stay as they are: a rate of 0, and no velocity."""
        held = set[str]()
        for name, parts in self.network.canonical().items():
            layer, _, kind = name.partition(".")
            own = 0.0 if layer in layers else self.recipe.bias_rate if kind == "bias" else 1.0
            for parameter in parts:
                parameter.lr_mult = own
            if layer in layers:
                held |= {parameter.name for parameter in parts}
        for trainer in self.trainers:
            for index, parameter in enumerate(trainer._params):
                for updater in trainer._updaters:
                    if parameter.name in held and index in updater.states:
                        updater.states[index][:] = 0

    def step(self, rate: float, batch: int) -> None:
        """Update from the gradients of the summed loss over ``batch`` samples."""
        for trainer in self.trainers:
            trainer.set_learning_rate(rate)
            trainer.step(batch)

    def momentum(self) -> Callable[[gluon.Parameter], mx.nd.NDArray]:
        """A reader of each parameter's velocity, zeros before the first step."""
        states: dict[int, Any] = {}
        for trainer in self.trainers:
            held = trainer._updaters[0].states
            states |= {parameter.name: held[index] for index, parameter in enumerate(trainer._params) if index in held}
        return lambda parameter: states.get(parameter.name, mx.nd.zeros_like(parameter.list_data()[0]))

    def load(self, tensors: dict[str, np.ndarray]) -> None:
        """Take over velocities by canonical name."""
        parts = {
            parameter.name: tensors[f"momentum.{name}"][share.slice(len(tensors[f"momentum.{name}"]))]
            for name, parameters in self.network.canonical().items()
            for share, parameter in zip(self.network.shares_of[name.partition(".")[0]], parameters, strict=True)
        }
        for trainer in self.trainers:
            for index, parameter in enumerate(trainer._params):
                if parameter.name not in parts:
                    continue  # the window of a norm of composed operators, which is not learned
                velocity = parts[parameter.name].reshape(parameter.shape)
                for updater, context in zip(trainer._updaters, parameter.list_ctx(), strict=True):
                    updater.states[index] = mx.nd.array(velocity, ctx=context, dtype=self.network.dtype)
                    updater.states_synced[index] = True

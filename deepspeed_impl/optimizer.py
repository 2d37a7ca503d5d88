"""The paper's step (section 5): ``v <- .9 v - .0005 rate w - rate g``, ``w <- w + v``, g the batch mean.

torch's ``SGD`` keeps the rate outside the velocity, so that after a rate drop it goes on differently; the paper has it
inside. Hence an optimizer of our own, which DeepSpeed drives.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from deepspeed_impl.share import Share
from paper.recipe import Preset


class PaperSGD(torch.optim.Optimizer):
    """``rate`` is set before each step; biases have their own multiple of it, and their own decay."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], recipe: Preset) -> None:
        self.parameters, self.momentum, self.rate = parameters, recipe.momentum, 0.0
        # Parameters of one rate and one decay are updated together.
        # Of a layer that has none, so that it can be timed, there is an empty group.
        alike: dict[tuple[float, float], list[torch.nn.Parameter]] = {} if parameters else {(1.0, 0.0): []}
        for name, value in parameters.items():
            multiple = recipe.bias_rate if name.endswith(".bias") else 1.0
            alike.setdefault((multiple, recipe.decay_of(name)), []).append(value)
        groups = [
            {"params": held, "multiple": multiple, "decay": decay, "lr": 0.0}
            for (multiple, decay), held in alike.items()
        ]
        super().__init__(groups, {})
        for parameter in parameters.values():
            self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        self.keeps_norms, self.norms = False, dict[str, float]()
        self.held = set[torch.nn.Parameter]()

    def hold(self, layers: Collection[str]) -> None:
        """Let the weights of ``layers``, and of no others, stay as they are, without a velocity."""
        self.held = {value for name, value in self.parameters.items() if name.partition(".")[0] in layers}
        for parameter in self.held:
            self.state[parameter]["velocity"].zero_()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, without the wrapper around it that would import torch's compiler, for seconds in each rank."""
        torch.optim.Optimizer.add_param_group.__wrapped__(self, param_group)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        if self.keeps_norms:  # the engine clears gradients when it has stepped
            self.norms = {name: float(value.grad.norm()) for name, value in self.parameters.items()}
        for group in self.param_groups:
            moved = [value for value in group["params"] if value.grad is not None and value not in self.held]
            if not moved:
                continue
            velocities = [self.state[parameter]["velocity"] for parameter in moved]
            rate = group["lr"] = self.rate * group["multiple"]
            torch._foreach_mul_(velocities, self.momentum)
            if group["decay"]:
                torch._foreach_add_(velocities, moved, alpha=-rate * group["decay"])
            torch._foreach_add_(velocities, [parameter.grad for parameter in moved], alpha=-rate)
            torch._foreach_add_(moved, velocities)

    def velocities(self) -> dict[str, np.ndarray]:
        """Momentum by canonical name."""
        return {name: self.state[value]["velocity"].cpu().numpy() for name, value in self.parameters.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, np.ndarray], share: Share) -> None:
        """Take over velocities by canonical name; a share takes its rows."""
        for name, parameter in self.parameters.items():
            velocity = torch.from_numpy(share.part(tensors[f"momentum.{name}"]))
            self.state[parameter]["velocity"] = velocity.to(parameter.device, parameter.dtype)

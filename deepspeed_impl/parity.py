"""Carry out the oracle's steps and measure how far each quantity is from the oracle's.

python -m deepspeed_impl parity --case parity --placement stages --oracle results/runs/oracle/parity/single/seed0
"""

from contextlib import nullcontext

import deepspeed.comm as dist
import numpy as np
import torch

from deepspeed_impl import feed
from deepspeed_impl.imposed import impose, make_imposed
from deepspeed_impl.network import make_module
from deepspeed_impl.session import Session, open_session
from deepspeed_impl.train import train_step
from protocol import probe, state
from protocol.probe import Probe
from protocol.request import Request
from protocol.run import Run, claimed, oracle_of


def parity(request: Request) -> None:
    """Write the distances of every quantity into the run's record."""
    folder = oracle_of(request)
    session = open_session(request, "parity", make_imposed if request.imposed else make_module)
    if request.imposed:
        impose(session.stage, probe.read_tensors(folder / "choices.safetensors"))
    run = Run(request.out, session.record)
    with claimed(request.out) if session.keeps_record else nullcontext():
        with run.recorded() if session.keeps_record else nullcontext():
            seen = _observe(session)
            _gather(session, run, seen)
            if session.keeps_record:
                run.finish_parity(seen, folder, session.experiment)


def _observe(session: Session) -> Probe:
    """Train, keeping the logits and gradients of step 0; each rank sees its own layers'."""
    experiment, engine = session.experiment, session.engine
    seen = Probe()
    logits: list[torch.Tensor] = []
    gradients: dict[str, np.ndarray] = {}

    def keep_logits(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        logits.append(inputs[0].detach().clone())

    def keep_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for name, parameter in session.stage.canonical().items():
            assert parameter.grad is not None
            gradients[name] = parameter.grad.cpu().numpy().copy()

    hooks = [
        session.loss.register_forward_hook(keep_logits),
        session.optimizer.register_step_pre_hook(keep_gradients),
    ]
    steps = range(experiment.total_steps)
    batches = feed.training_batches(experiment, steps, session.micro.size, session.dtype, first=engine.is_first_stage())
    for step, batch in zip(steps, batches, strict=True):
        loss, _ = train_step(session, batch, experiment.rate(step))
        seen.losses.append(float(loss))
        if step == 0:
            for hook in hooks:
                hook.remove()
    seen.logits = torch.cat(logits).cpu().numpy() if logits else None
    seen.gradients = gradients
    seen.weights = {name: value.detach().cpu().numpy() for name, value in session.stage.canonical().items()}
    return seen


def _gather(session: Session, run: Run, seen: Probe) -> None:
    """Hand every rank's gradients and weights to the keeper of the record, through files beside it."""
    draft = state.draft_of(run.folder, 0)
    if not session.keeps_record:
        named = {f"gradient.{name}": value for name, value in seen.gradients.items()}
        named |= {f"weight.{name}": value for name, value in seen.weights.items()}
        state.write_shard(draft, session.engine.stage_id, named)
    dist.barrier()
    if session.keeps_record:
        for path in draft.glob("*.safetensors"):
            for name, value in probe.read_tensors(path).items():
                kind, _, parameter = name.partition(".")
                (seen.gradients if kind == "gradient" else seen.weights)[parameter] = value
        state.discard_drafts(run.folder)

"""Carry out the oracle's steps, reading by reading, and measure how far each quantity is from the oracle's.

python -m deepspeed_impl parity --case ladder --placement stages --oracle results/runs/oracle/ladder/single/seed0
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import deepspeed.comm as dist
import torch

from deepspeed_impl import feed
from deepspeed_impl.imposed import impose, make_imposed
from deepspeed_impl.network import Stage, StepPart, make_module
from deepspeed_impl.predict import predictor
from deepspeed_impl.session import Session, open_session
from deepspeed_impl.train import train_step
from paper.architecture import Activation
from protocol.base.tensors import read_tensors
from protocol.oracle.network import Arrays
from protocol.oracle.quantities import READINGS, RELU_AT, Reading
from protocol.runs import evaluation, state
from protocol.runs.request import ParityRequest
from protocol.runs.run import Run, claimed


def parity(request: ParityRequest) -> None:
    """Take every reading, and write the distances of its quantities into the run's folder."""
    readings = [READINGS[name] for name in request.readings]
    if any(reading.precision == "fp64" for reading in readings):
        sum_in_parts()
    run, keeps_record = None, False
    for reading in readings:
        make = make_imposed if reading.imposed else make_module
        session = open_session(replace(request, precision=reading.precision), "parity", make)
        keeps_record = session.keeps_record
        run = run or Run(request.out, session.record)
        run.record.result |= {"readings": list(request.readings), "relu_gradients": relu_gradients()}
        with claimed(request.out) if keeps_record else nullcontext():
            with run.recorded() if keeps_record else nullcontext():
                if reading.imposed:
                    impose(session.stage, read_tensors(request.oracle / "choices.safetensors"))
                seen = _gathered(session, run, observe(session, reading))
                if keeps_record:
                    run.log_reading(reading, seen, request.oracle, session.experiment)
    if keeps_record:
        assert run is not None
        run.finish_parity()


def sum_in_parts() -> None:
    """Let this process's products hold several partial sums; to be called before its first.

    The bounds of :mod:`protocol.oracle.bounds` allow for the rounding of such sums. MKL's float64 product (seen on
    AVX2) adds up each entry in a single sum, which over fc6's 9216 terms rounds seven times as far. Its kernels for old
    processors hold several; they take four times as long, which parity's few steps can afford. The choice is the
    process's: fp32 readings beside fp64 have those kernels too; ``imposed`` or ``free`` without it, and training, have
    the usual ones.
    """
    os.environ["MKL_CBWR"] = "COMPATIBLE"


def relu_gradients() -> list[float]:
    """ReLU's gradient at each of ``RELU_AT``, as the network's own layer has it."""
    count = len(RELU_AT)
    module = make_module(Activation("relu", (count, 1, 1), (count, 1, 1), 1), StepPart(0, 1, 1))
    x = torch.tensor([RELU_AT], requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    return x.grad.ravel().tolist()


def observe(session: Session, reading: Reading) -> Arrays:
    """Train, and keep what :mod:`protocol.oracle.quantities` names of this rank's layers."""
    experiment, engine = session.experiment, session.engine
    share = session.micro.share
    seen = {f"start.{name}": value for name, value in share.assemble(weights(session.stage)).items()}
    if not reading.imposed:
        seen["test.start"] = predictor(session)(experiment.images(0, experiment.samples(0)))
    steps = range(experiment.total_steps)
    batches = feed.training_batches(
        experiment, steps, session.micro, session.dtype, engine.device, first=engine.is_first_stage()
    )
    for step, batch in zip(steps, batches, strict=True):
        with _watched(session, step, seen):
            loss, error = train_step(session, batch, experiment.rate(step))
        seen[f"loss.{step}"] = loss.detach().cpu().numpy().reshape(1)
        seen[f"report.error.{step}"] = error.cpu().numpy().reshape(1)
        if step == 0:
            moved = share.assemble(weights(session.stage))
            seen |= {f"step.{name}": value - seen[f"start.{name}"] for name, value in moved.items()}
    seen |= {f"weight.{name}": value for name, value in share.assemble(weights(session.stage)).items()}
    momentum = share.assemble(session.optimizer.velocities())
    seen |= {f"momentum.{name}": value for name, value in momentum.items()}
    for views in () if reading.imposed else (1, 10):
        found = seen[f"test.{views}"] = evaluation.predict_all(
            session.experiment, predictor(session), session.experiment.case.batch, ten=views == 10
        )
        seen |= evaluation.reported(found, experiment.testing.labels[: len(found)], views)
    return seen


def weights(stage: Stage) -> Arrays:
    """A copy of this rank's parameters by canonical name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in stage.canonical().items()}


@contextmanager
def _watched(session: Session, step: int, seen: Arrays) -> Iterator[None]:
    """Keep what the network and its loss are given meanwhile and, at step 0, what each layer puts out."""
    # By quantity, one part for each micro-batch.
    parts: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        parts.setdefault(name, []).append(value.detach().clone())

    def keep_images(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        keep(f"images.{step}", inputs[0])

    def keep_labels(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        keep(f"labels.{step}", inputs[1])
        keep(f"logits.{step}", inputs[0])
        if step == 0:
            keep("logits", inputs[0])

    def keep_output(name: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        keep(f"forward.{name}", output)

    def keep_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for name, parameter in session.stage.canonical().items():
            assert parameter.grad is not None
            keep(f"gradient.{name}", parameter.grad)

    hooks = [session.loss.register_forward_pre_hook(keep_labels)]
    if session.engine.is_first_stage():
        hooks.append(session.stage.register_forward_pre_hook(keep_images))
    if step == 0:
        hooks.append(session.optimizer.register_step_pre_hook(keep_gradients))
        hooks += [
            module.register_forward_hook(partial(keep_output, name)) for name, module in session.stage.named_children()
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for name, values in parts.items():
        whole = _whole(session, name, torch.cat(values))
        # numpy has no bfloat16.
        seen[name] = (whole.float() if whole.dtype == torch.bfloat16 else whole).cpu().numpy()


def _whole(session: Session, name: str, value: torch.Tensor) -> torch.Tensor:
    """What all columns and replicas saw of a quantity of which this rank saw its own maps and images."""
    kind, columns = name.partition(".")[0], session.micro.share.columns
    if kind == "gradient":
        return columns.whole(value, 0)
    return session.replicas.whole(columns.whole(value, 1) if kind == "forward" else value, 0)


def _gathered(session: Session, run: Run, seen: Arrays) -> Arrays:
    """What all ranks have seen, on the keeper of the record; handed over through files beside it."""
    draft = state.draft_of(run.folder, 0)
    if session.keeps_stage and not session.keeps_record:
        state.write_shard(draft, session.engine.stage_id, seen)
    dist.barrier()
    if not session.keeps_record:
        return seen
    others: Arrays = {}
    for path in draft.glob("*.safetensors"):
        others |= read_tensors(path)
    state.discard_drafts(run.folder)
    return others | seen

"""Train a case, saving as it goes, and go on from what was saved.

python -m deepspeed_impl train --case photos --placement stages
"""

import time
from contextlib import nullcontext
from pathlib import Path

import deepspeed.comm as dist
import numpy as np
import torch

from deepspeed_impl import feed
from deepspeed_impl.evaluate import probabilities
from deepspeed_impl.session import Session, open_session
from protocol.base.tensors import save_tensors
from protocol.runs import evaluation, state
from protocol.runs.request import TrainRequest
from protocol.runs.run import Run, claimed, latest_state


def train_step(session: Session, batch: list[feed.Micro], rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One update. Returns the batch's mean loss and, on the last stage, its share of wrong first guesses."""
    session.optimizer.rate = rate
    session.loss.wrong.clear()
    loss = session.engine.train_batch(iter(batch))
    wrong = session.replicas.add(sum(session.loss.wrong, torch.zeros((), device=session.engine.device)))
    return loss, wrong / session.experiment.case.batch


def training_state(session: Session) -> dict[str, np.ndarray]:
    """Weights and momentum of this rank's layers, all columns of them, by canonical name."""
    weights = {name: value.detach().cpu().numpy() for name, value in session.stage.canonical().items()}
    momentum = {f"momentum.{name}": value for name, value in session.optimizer.velocities().items()}
    return session.micro.share.assemble(weights | momentum)


def load_state(session: Session, folder: Path, step: int) -> None:
    shapes = session.experiment.network.parameter_shapes()
    held = {name: shapes[name] for name in session.stage.canonical()}
    tensors = state.read_tensors(folder, held | {f"momentum.{name}": shape for name, shape in held.items()})
    session.stage.load(tensors)
    session.optimizer.load(tensors, session.micro.share)
    session.stage.count_from(step)


def train(request: TrainRequest) -> None:
    """Train to the end, or to ``request.steps``, whichever comes first."""
    session = open_session(request, "train")
    experiment = session.experiment
    total = min(experiment.total_steps, request.steps or experiment.total_steps)
    run = Run(request.out, session.record, speaks=session.keeps_record)
    with claimed(request.out) if session.keeps_record else nullcontext():
        # All ranks choose their state before the one that keeps the record touches the folder.
        dist.barrier()
        latest = latest_state(request.out, experiment, request.resume)
        dist.barrier()
        with run.recorded() if session.keeps_record else nullcontext():
            start = run.resume(latest, write=session.keeps_record)
            dist.barrier()
            if latest:
                load_state(session, latest, start)
            _train(session, run, start, total)
            if total == experiment.total_steps:
                _final_test(session, run)
            if session.keeps_record:
                shapes = experiment.network.parameter_shapes()
                last = state.states(run.folder)[-1]
                if request.oracle and total == experiment.total_steps:
                    both = shapes | {f"momentum.{name}": shape for name, shape in shapes.items()}
                    run.hold(request.oracle, experiment, state.read_tensors(last, both))
                run.finish(state.read_tensors(last, shapes))


def _train(session: Session, run: Run, start: int, total: int) -> None:
    experiment, engine = session.experiment, session.engine
    steps_per_epoch = experiment.steps_per_epoch
    waiting: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    clock = time.perf_counter()
    steps = range(start, total)
    batches = feed.training_batches(
        experiment, steps, session.micro, session.dtype, engine.device, first=engine.is_first_stage()
    )
    for step, batch in zip(steps, batches, strict=True):
        loss, error = train_step(session, batch, experiment.rate(step))
        waiting.append((step, loss, error))
        done = step + 1
        ends_epoch, saves = done % steps_per_epoch == 0, done % experiment.case.checkpoint_steps == 0
        # Reading a number makes the host wait for the device, so losses are read a few at a time.
        if ends_epoch or saves or done == total or len(waiting) == 10:
            rows = [(number, float(a), float(b)) for number, a, b in waiting]
            run.log_steps(experiment, rows, time.perf_counter() - clock)
            waiting.clear()
            if ends_epoch:
                _test_epoch(session, run, done // steps_per_epoch - 1)
            if saves or done == total:
                _save(session, run, done)
            clock = time.perf_counter()


def _save(session: Session, run: Run, done: int) -> None:
    """One rank of each stage writes its shard; when all have, the keeper of the record publishes them."""
    held = training_state(session)
    if session.keeps_stage:
        state.write_shard(state.draft_of(run.folder, done), session.engine.stage_id, held)
    dist.barrier()
    if session.keeps_record:
        run.publish(done)
    dist.barrier()


def _test_epoch(session: Session, run: Run, epoch: int) -> None:
    found = evaluation.errors(probabilities(session, ten=False), session.experiment.testing.labels)
    if session.keeps_record:
        run.log_epoch(session.experiment, epoch, found, views=1)


def _final_test(session: Session, run: Run) -> None:
    test = session.experiment.testing
    kept = {"labels": np.asarray(test.labels, np.int16), "tiles": np.asarray(test.tiles, np.int32)}
    for views in (1, 10):
        found = probabilities(session, ten=views == 10)
        kept[f"ranks_{views}"] = evaluation.ranks(found, test.labels).astype(np.int16)
    if session.keeps_record:
        last = session.experiment.case.epochs - 1
        run.log_epoch(session.experiment, last, evaluation.errors(found, test.labels), views=10)
        save_tensors(run.folder / "predictions.safetensors", kept)

"""Train a case, saving as it goes, and go on from what was saved.

python -m deepspeed_impl train --case photos --placement stages
"""

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import deepspeed.comm as dist
import numpy as np
import torch

from deepspeed_impl import feed
from deepspeed_impl.launch import by_user
from deepspeed_impl.predict import features, predictor
from deepspeed_impl.session import Session, open_session
from protocol.experiment.experiment import Experiment
from protocol.runs import state, training
from protocol.runs.observation import Observer
from protocol.runs.request import TrainRequest
from protocol.runs.run import Run, claimed, latest_state
from protocol.runs.stopping import heeding


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


@dataclass(frozen=True)
class Trainee:
    """This rank's part of the network, as :func:`protocol.runs.training.train` trains it."""

    session: Session

    @property
    def experiment(self) -> Experiment:
        return self.session.experiment

    @property
    def keeps_record(self) -> bool:
        return self.session.keeps_record

    def batches(self, steps: range) -> Iterator[list[feed.Micro]]:
        session, engine = self.session, self.session.engine
        first = engine.is_first_stage()
        return feed.training_batches(self.experiment, steps, session.micro, session.dtype, engine.device, first=first)

    def update(self, batch: list[feed.Micro], rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        return train_step(self.session, batch, rate)

    def hold(self, layers: Collection[str]) -> None:
        self.session.optimizer.hold(layers)

    def number(self, value: torch.Tensor) -> float:
        return float(value)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return predictor(self.session)(images)

    def features(self, images: np.ndarray) -> np.ndarray:
        return features(self.session, images)

    def gradient_norms(self) -> dict[str, float]:
        norms = self.session.optimizer.norms
        return {layer.name: norms[f"{layer.name}.weight"] for layer in self.experiment.network.weighted()}

    def kernels(self) -> np.ndarray:
        return self.session.stage.canonical()[self.experiment.network.kernels].detach().cpu().numpy().copy()

    def agreed(self, wish: int) -> int:
        told = torch.tensor(wish, device=self.session.engine.device)
        dist.broadcast(told, src=self.session.keeper)
        return int(told)

    def save(self, run: Run, done: int) -> None:
        """One rank of each stage writes its shard; when all have, the keeper of the record publishes them."""
        held = training_state(self.session)
        if self.session.keeps_stage:
            state.write_shard(state.draft_of(run.folder, done), self.session.engine.stage_id, held)
        dist.barrier()
        if self.keeps_record:
            run.publish(done)
        dist.barrier()


def train(request: TrainRequest) -> None:
    """Train to the end, or to ``request.steps``, whichever comes first."""
    session = open_session(request, "train")
    experiment = session.experiment
    total = min(experiment.total_steps, request.steps or experiment.total_steps)
    run = Run(request.out, session.record, speaks=session.keeps_record, keeps=request.keep)
    with claimed(request.out) if session.keeps_record else nullcontext(), heeding(request.out, anew=by_user()):
        # All ranks choose their state before the one that keeps the record touches the folder.
        dist.barrier()
        latest = latest_state(request.out, experiment, request.goes_on)
        dist.barrier()
        with run.recorded() if session.keeps_record else nullcontext():
            start = run.resume(latest, fallen=request.fallen, write=session.keeps_record)
            dist.barrier()
            if latest:
                load_state(session, latest, start)
            session.optimizer.keeps_norms = request.observe
            observer = Observer(Trainee(session)) if request.observe else None
            training.train(Trainee(session), run, range(start, total), observer, request.save_minutes)
            if session.keeps_record:
                shapes = experiment.network.parameter_shapes()
                last = state.states(run.folder)[-1]
                if request.oracle and total == experiment.total_steps:
                    both = shapes | {f"momentum.{name}": shape for name, shape in shapes.items()}
                    run.hold(request.oracle, experiment, state.read_tensors(last, both))
                run.finish(state.read_tensors(last, shapes))

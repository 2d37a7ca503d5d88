"""What the network makes of test images."""

import deepspeed.comm as dist
import numpy as np
import torch

from deepspeed_impl import feed
from deepspeed_impl.session import Session
from protocol.runs import evaluation


def predictor(session: Session) -> evaluation.Predict:
    """Images (batch, 3, crop, crop) -> logits (batch, classes) on every rank, without dropout."""
    engine = session.engine

    def predict(images: np.ndarray) -> np.ndarray:
        size = session.micro.size
        pieces = feed.micro_batches(images, np.zeros(len(images), np.int64), size, session.dtype, engine.device)
        # DeepSpeed adds evaluation's outputs to a total that training left behind, of another shape.
        engine.total_loss = None
        outputs = engine.eval_batch(
            iter(pieces), compute_loss=False, reduce_output=None, bcast_loss=False, num_micro_batches=len(pieces)
        )
        engine.total_loss = None
        if engine.is_last_stage():
            logits = torch.cat(outputs)
        else:
            logits = torch.empty(len(images), session.experiment.case.classes, dtype=session.dtype)
        logits = logits.to(engine.device)
        dist.broadcast(logits, src=session.keeper)
        return logits.cpu().numpy()

    return predict


def features(session: Session, images: np.ndarray) -> np.ndarray:
    """Images (batch, 3, crop, crop) -> outputs of the last hidden layer (batch, units of fc7), without dropout."""
    seen: list[torch.Tensor] = []
    last = session.stage.get_submodule(session.experiment.network.layers[-1].name)
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predictor(session)(images)
    finally:
        hook.remove()
    return torch.cat(seen).flatten(1).cpu().numpy()

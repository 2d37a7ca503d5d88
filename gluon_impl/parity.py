"""Carry out the oracle's steps and measure how far each quantity is from the oracle's.

python -m gluon_impl parity --case parity --placement columns --oracle results/runs/oracle/parity/single/seed0
"""

from mxnet import autograd

from gluon_impl import feed
from gluon_impl.imposed import Imposition
from gluon_impl.network import make_block
from gluon_impl.session import open_session
from gluon_impl.train import cross_entropy
from protocol import probe
from protocol.probe import Probe
from protocol.request import Request
from protocol.run import Run, claimed, oracle_of


def parity(request: Request) -> None:
    """Write the distances of every quantity into the run's record."""
    folder = oracle_of(request)
    imposition = Imposition(request.case.batch)
    session = open_session(request, "parity", imposition.make if request.imposed else make_block)
    experiment, network = session.experiment, session.network
    choices = probe.read_tensors(folder / "choices.safetensors") if request.imposed else {}
    seen = Probe()
    with claimed(request.out):
        run = Run(request.out, session.record)
        with run.recorded():
            for step in range(experiment.total_steps):
                batch = feed.training_batch(experiment, network, step)
                if request.imposed:
                    imposition.impose(choices, step)
                with autograd.record():
                    logits = network(batch.images, batch.masks)
                    losses = cross_entropy(logits, batch.labels)
                losses.backward()
                seen.losses.append(float(losses.mean().asscalar()))
                if step == 0:
                    seen.logits = logits.asnumpy()
                    # Gluon's gradients are those of the summed loss; its Trainer divides by the batch.
                    summed = network.assemble(lambda parameter: parameter.grad())
                    seen.gradients = {name: value / len(losses) for name, value in summed.items()}
                session.optimizer.step(experiment.rate(step), len(losses))
            seen.weights = network.assemble(lambda parameter: parameter.data())
            run.finish_parity(seen, folder, experiment)

"""What every verb starts from: the experiment, this rank's stage in DeepSpeed's engine, and the record to fill."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import deepspeed
import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.pipe import LayerSpec, PipelineModule
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology

from deepspeed_impl import placement, precision
from deepspeed_impl.launch import meet
from deepspeed_impl.network import Loss, MakeModule, Stage, StepPart, make_module
from deepspeed_impl.optimizer import PaperSGD
from deepspeed_impl.response_norm import implementation
from deepspeed_impl.share import Averaging, Group, Share
from deepspeed_impl.stopwatch import layer_seconds
from paper.architecture import Layer
from protocol.base.errors import Misuse
from protocol.base.provenance import sources_of, surroundings
from protocol.experiment.experiment import Experiment, open_experiment
from protocol.placement.cuts import cut_evenly
from protocol.runs.record import Record
from protocol.runs.request import PlacedRequest
from protocol.runs.run import check_out

PACKAGES = ("deepspeed", "torch", "numpy")
SOURCES = sources_of("deepspeed_impl")  # as this process loads them; files may change while it runs


@dataclass(frozen=True)
class Session:
    """``stage``: this rank's layers; ``engine`` drives them.

    Column 0 of the last stage, where the loss is, keeps the record, in the first of the replicas.
    """

    experiment: Experiment
    engine: deepspeed.runtime.pipe.engine.PipelineEngine
    stages: tuple[tuple[Layer, ...], ...]
    stage: Stage
    optimizer: PaperSGD
    loss: Loss
    micro: StepPart
    replicas: Group
    dtype: torch.dtype
    record: Record

    @property
    def keeper(self) -> int:
        """The rank that keeps the record."""
        return self.engine.grid.topology().get_rank(pipe=self.engine.num_stages - 1, data=0, model=0)

    @property
    def keeps_record(self) -> bool:
        return dist.get_rank() == self.keeper

    @property
    def keeps_stage(self) -> bool:
        """Whether this rank stands for all that hold the same layers."""
        return self.micro.share.index == 0 and self.replicas.index == 0

    @property
    def device(self) -> str:
        return self.record.devices[dist.get_rank()]


def check_request(request: PlacedRequest) -> PlacedRequest:
    """Check what depends on this backend, and complete the devices.

    Raises:
        Misuse: the placement, the network or the micro-batch does not suit.
    """
    devices = request.devices or tuple(placement.default_devices(request.grid))
    placement.check_devices(request.grid, list(devices))
    placement.check_network(request.case.network(), request.grid)
    if request.precision == "tf32" and devices[0].startswith("cpu"):
        raise Misuse("tf32 is a GPU's arithmetic, and this run is on the processor, which has fp32, fp64 and bf16")
    return replace(request, devices=devices)


def open_session(
    request: PlacedRequest, kind: Literal["train", "parity", "bench"], make: MakeModule = make_module
) -> Session:
    """Build this rank's part of the network a request asks for, with the weights of step 0."""
    request = check_request(request)
    arithmetic = precision.settle(request.precision)
    experiment = open_experiment(request.case, request.data, request.seed, request.start)
    # DeepSpeed would compile a collective for inference, which nothing here calls. A run killed meanwhile leaves that
    # build's lock behind, and every run after it waits for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = get_accelerator().communication_backend_name()
    if not torch.distributed.is_initialized():
        meet(backend, request.out)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    dtype = getattr(torch, request.dtype)
    grid = request.grid
    if dist.get_world_size() != grid.devices:
        raise Misuse(
            f"placement {grid.name} lies on {grid.devices} device(s), but {dist.get_world_size()} rank(s) were launched"
        )
    topology = PipeModelDataParallelTopology(num_pp=grid.stages, num_mp=grid.columns, num_dp=grid.replicas)
    columns, replicas = Group.along(topology, "model"), Group.along(topology, "data")
    batch, size = request.case.batch, request.micro_batch
    lowered = torch.bfloat16 if request.precision == "bf16" else None
    count = request.micro_batches
    micro = StepPart(request.seed, size, count, replicas.index * size * count, Share(columns), lowered)
    stages: tuple[tuple[Layer, ...], ...] = (experiment.network.layers,)
    if grid.stages > 1:
        # Where they are cut changes no bit, so it is measured.
        seconds = layer_seconds(experiment.network, experiment.recipe, micro, dtype)
        stages = cut_evenly(experiment.network.layers, list(seconds.values()), grid.stages)
    loss = Loss()
    # One block a stage and "uniform" put each cut exactly where we want it.
    with _told_to(request.out):
        module = PipelineModule(
            [LayerSpec(Stage, part, micro, make) for part in stages],
            topology=topology,
            loss_fn=loss,
            partition_method="uniform",
        )
        (stage,) = (part for part in module.modules() if isinstance(part, Stage))
        module.to(dtype)
        stage.load(experiment.weights())
        optimizer = PaperSGD(stage.canonical(), experiment.recipe)
        engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config={
                "train_batch_size": batch,
                "train_micro_batch_size_per_gpu": size,
                # DeepSpeed clips gradients to a norm of 1 unless told not to; the paper does not clip.
                "gradient_clipping": 0.0,
                "steps_per_print": None,
                # What a stage sends on is its own column's, not one tensor that all columns hold.
                "pipeline": {"use_reentrant": False, "pipe_partitioned": False, "grad_partitioned": False},
            },
        )
    engine.module.to(dtype)  # DeepSpeed makes everything float32
    # DeepSpeed averages gradients over replicas in float32 only.
    engine.pipeline_enable_backward_allreduce = False
    optimizer.register_step_pre_hook(lambda *_: stage.finish_gradients())
    averaging = Averaging(replicas, stage.parameters(), at_once=micro.count == 1)
    optimizer.register_step_pre_hook(lambda *_: averaging.finish())
    held = sum(parameter.numel() for parameter in stage.canonical().values())
    counts = torch.zeros(len(request.devices), dtype=torch.int64, device=engine.device)
    counts[dist.get_rank()] = held
    dist.all_reduce(counts)
    record = Record(
        kind=kind,
        backend="deepspeed",
        placement=request.placement,
        devices=list(request.devices),
        case=request.case.content(),
        seed=request.seed,
        precision=request.precision,
        threads=torch.get_num_threads(),
        plan_hash=experiment.plan_hash(),
        norm=implementation(),
        arithmetic=arithmetic,
        parameters=dict(zip(request.devices, counts.tolist(), strict=True)),
        result={"micro_batch": size, "stages": [part[0].name for part in stages]},
        sources=SOURCES,
        **surroundings(PACKAGES),
    )
    return Session(experiment, engine, stages, stage, optimizer, loss, micro, replicas, dtype, record)


@contextmanager
def _told_to(folder: Path) -> Iterator[None]:
    """Let what DeepSpeed prints of its topology and settings meanwhile go to a log in the run's folder."""
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".claim").touch()
    with (folder / "deepspeed.log").open("a") as log, redirect_stdout(log):
        yield

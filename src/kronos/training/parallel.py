"""Device, processes and precision of a run: a thin layer over accelerate, DDP and FSDP2.

Started plainly it is one process. Under torchrun or ``accelerate launch`` the processes share each step's batch: the
weights are copied to all (DDP) or divided among them (FSDP2), and the mean of their gradients is that of one process
with the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import torch
from torch import Tensor, nn
from torch import distributed as dist

from kronos.errors import ConfigError, MissingExtraError
from kronos.model.layers import TransformerBlock
from kronos.model.tokenizer import BatchMean, BinarySphericalQuantizer
from kronos.training.config import RunConfig
from kronos.training.stages import Objective, Stage, TrainingBatch

#: Time that a process waits for the others: the first may be turning terabytes of bars into arrays, or judging by
#: forecasts. One that dies is noticed at once, by the launcher.
_PATIENCE = timedelta(hours=24)
_PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def restarted() -> bool:
    """Whether torchrun has started this process again after another one failed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def is_main() -> bool:
    """Whether this process reports: the only one, or the first of those that were launched together."""
    return int(os.environ.get("RANK", "0")) == 0


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def windows_a_step(config: RunConfig, stage: str) -> int:
    """How many windows a step of a stage has, over all processes."""
    optim = config.optim_of(stage)
    return optim.batch_size * optim.accumulation * _world_size()


def effective_batch(config: RunConfig, stage: str) -> str:
    """How many windows a step of a stage has, what they are made up of, how many steps, how much is validated on."""
    optim, ranks = config.optim_of(stage), _world_size()
    made_of = f"{optim.batch_size} × {optim.accumulation} accumulated × {ranks} process" + ("es" if ranks > 1 else "")
    validated = config.validation_batches * optim.batch_size * ranks
    steps = f"{optim.steps:,} steps in all, {validated:,} windows in each validation"
    return f"{windows_a_step(config, stage)} windows a step: {made_of}; {steps}."


@contextmanager
def main_first(*, cpu: bool = False) -> Iterator[None]:
    """The first of the processes goes ahead, the others wait until it is done; nothing for a single process.

    ``cpu``: the processes compute on the CPU; counts where they meet for the first time.
    """
    if _world_size() <= 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=_on_cpu(cpu), timeout=_PATIENCE).main_process_first():
        yield


def leave_group() -> None:
    """Parts from the other processes at the end of the program."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class Processes:
    """The processes that share a stage's run, seen from one of them: ``rank`` of ``ranks``; a context manager.

    Raises:
        ConfigError: the device, precision or way of sharing cannot be had here.
        MissingExtraError: accelerate is not installed.
    """

    def __init__(self, config: RunConfig, accumulation: int = 1) -> None:
        self.config = config
        try:
            from accelerate import Accelerator, InitProcessGroupKwargs
        except ImportError as error:
            raise MissingExtraError("accelerate", "train", "Training") from error
        try:
            self.accelerator = Accelerator(
                cpu=_on_cpu(config.device == "cpu"),
                mixed_precision=_PRECISION[config.dtype],
                kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
            )
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"this process cannot train on {config.device} in {config.dtype}: {reason}") from error
        self.accelerator.gradient_accumulation_steps = accumulation  # not what the launcher's environment says
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.sharded = config.parallel == "fsdp" and self.ranks > 1  # the weights are divided among the processes
        try:
            self.device = self._device()
        except ConfigError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Frees accelerate's settings, so that a later run in this program may have another device or precision."""
        from accelerate.state import AcceleratorState

        self.accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=self.ranks == 1)

    def _device(self) -> torch.device:
        name, found = self.config.device, self.accelerator.device
        try:
            wanted = found if name == "auto" else torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device is '{name}'; write auto, cpu, mps or cuda[:index]") from error
        if wanted.type != found.type:
            raise ConfigError(f"device is '{name}', but torch finds no such device here; write auto or cpu")
        if self.ranks > 1 and wanted.index is not None and wanted != found:
            raise ConfigError(f"device is '{name}', but each of {self.ranks} processes takes its own; write auto")
        fsdp = self.config.parallel == "fsdp"
        if self.config.dtype == "float16" and (wanted.type == "cpu" or fsdp):
            raise ConfigError("dtype float16 needs a GPU and, with parallel: fsdp, is not supported; take bfloat16")
        if fsdp and self.config.compile:
            raise ConfigError("compile and parallel: fsdp do not go together here; leave one of them out")
        return found if self.ranks > 1 or wanted.type == "cpu" else wanted

    def prepare(self, stage: Stage) -> nn.Module:
        """Moves a stage to the device; returns its loss as a module whose gradients are those of all processes."""
        stage.place(self.device, self.config.compile)
        for module in list(stage.module.modules()):
            if isinstance(module, TransformerBlock):
                module.recompute = self.config.checkpoint_activations
            if isinstance(module, BinarySphericalQuantizer) and self.ranks > 1:
                module.batch_mean = MeanOverProcesses(self.ranks)
        objective = Objective(stage)
        if not self.sharded:
            return self.accelerator.prepare_model(objective, device_placement=False)  # type: ignore[no-any-return]
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # FSDP2: each process keeps a part of every weight, and of its gradient and optimizer state; a block's weights
        # are put together when the block is computed, and let go after it
        mesh = init_device_mesh(self.device.type, (self.ranks,))
        for module in objective.modules():
            if isinstance(module, TransformerBlock):
                fully_shard(module, mesh=mesh)
        return fully_shard(objective, mesh=mesh)  # type: ignore[return-value]

    def loss(
        self, objective: nn.Module, stage: Stage, batch: TrainingBatch, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and parts of this process's windows, weighted so that their mean over all processes is the batch's."""
        batch = batch.to(self.device)
        total = self.accelerator.reduce(stage.counted(batch).sum(), "mean") if self.ranks > 1 else None
        with self.accelerator.autocast():
            return objective(batch, step, total)  # type: ignore[no-any-return]

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes, the same on all of them."""
        if self.ranks == 1:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        reduced = self.accelerator.reduce(numbers, "mean")
        return dict(zip(values, reduced.tolist(), strict=True))

    def from_main(self, values: dict[str, float]) -> dict[str, float]:
        """What the first process holds, on all of them."""
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        if self.ranks > 1:
            dist.broadcast(numbers, 0)
        return dict(zip(values, numbers.tolist(), strict=True))


class MeanOverProcesses(BatchMean):
    """The mean over a batch that several processes share, with its gradient."""

    def __init__(self, processes: int) -> None:
        super().__init__()
        self.processes = processes

    def forward(self, mean: Tensor) -> Tensor:
        from torch.distributed.nn.functional import all_reduce

        # every process's loss holds this mean, and their gradients are averaged afterwards
        return all_reduce(mean) / self.processes  # type: ignore[no-any-return, no-untyped-call]


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor put together from its shards, where it is divided; each process has to call."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def divided_like(tensor: Tensor, other: Tensor) -> Tensor:
    """This process's shard of a whole tensor, where ``other`` is divided; else the tensor, on the other's device."""
    if not hasattr(other, "full_tensor"):
        return tensor.to(other.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(other, DTensor)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)


def _on_cpu(wanted: bool) -> bool:
    """Whether to tell accelerate that the processes are on the CPU; else it does not find each other's there."""
    return wanted or not torch.accelerator.is_available()

"""The engine under the loop: which device, how many processes, at what precision. A thin layer over accelerate.

Started plainly it is one process. Under torchrun or ``accelerate launch`` the processes share each step's batch: the
weights are copied to all (DDP) or divided among them (FSDP2), and the mean of their gradients is that of one process
with the whole batch. The loop above knows ranks only through this class.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from kronos.errors import ConfigError, MissingExtraError
from kronos.training.config import RunConfig
from kronos.training.parallel import mean_over_ranks, recompute_blocks, shard
from kronos.training.stages import Batch, Objective, Stage

if TYPE_CHECKING:
    from accelerate import Accelerator

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


def windows_a_step(config: RunConfig, stage: str) -> int:
    """How many windows a step of a stage has, over all processes."""
    optim = config.optim_of(stage)
    return optim.batch_size * optim.accumulation * int(os.environ.get("WORLD_SIZE", "1"))


def effective_batch(config: RunConfig, stage: str) -> str:
    """How many windows a step of a stage has, and what they are made up of, in a sentence."""
    optim, ranks = config.optim_of(stage), int(os.environ.get("WORLD_SIZE", "1"))
    processes = f"{ranks} process" + ("es" if ranks > 1 else "")
    windows = windows_a_step(config, stage)
    return f"{windows} windows a step: {optim.batch_size} × {optim.accumulation} accumulated × {processes}."


@contextmanager
def main_first(*, cpu: bool = False) -> Iterator[None]:
    """The first of the processes goes ahead, the others wait until it is done; nothing for a single process.

    Args:
        cpu: the processes compute on the CPU; asked where they meet for the first time.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=_on_cpu(cpu), timeout=_PATIENCE).main_process_first():
        yield


def leave() -> None:
    """Parts from the other processes at the end of the program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Engine:
    """Device, processes and precision of one stage's run; a context manager.

    Attributes:
        device: where this process computes.
        rank, ranks: which process this is, of how many.

    Raises:
        ConfigError: the device, precision or way of sharing cannot be had here.
        MissingExtraError: accelerate is not installed.
    """

    def __init__(self, config: RunConfig, accumulation: int = 1) -> None:
        self.config = config
        self.accelerator = _accelerator(config)
        self.accelerator.gradient_accumulation_steps = accumulation  # not what the launcher's environment says
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        try:
            self.device = self._device()
            self._check()
        except ConfigError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees accelerate's settings, so that a later run in this program may have another device or precision."""
        from accelerate.state import AcceleratorState

        self.accelerator.free_memory()
        AcceleratorState._reset_state(reset_partial_state=self.ranks == 1)

    def _check(self) -> None:
        if self.config.dtype == "float16" and (self.device.type == "cpu" or self.config.parallel == "fsdp"):
            raise ConfigError("dtype float16 needs a GPU and, with parallel: fsdp, is not supported; take bfloat16")
        if self.config.parallel == "fsdp" and self.config.compile:
            raise ConfigError("compile and parallel: fsdp do not go together here; leave one of them out")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports."""
        return bool(self.rank == 0)

    @property
    def sharded(self) -> bool:
        """Whether the weights are divided among the processes."""
        return self.config.parallel == "fsdp" and self.ranks > 1

    def _device(self) -> torch.device:
        name, own = self.config.device, self.accelerator.device
        try:
            asked = own if name == "auto" else torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device is '{name}'; write auto, cpu, mps or cuda[:index]") from error
        if asked.type != own.type:
            raise ConfigError(f"device is '{name}', but torch finds no such device here; write auto or cpu")
        if self.ranks > 1 and asked.index is not None and asked != own:
            raise ConfigError(f"device is '{name}', but each of {self.ranks} processes takes its own; write auto")
        return own if self.ranks > 1 or asked.type == "cpu" else asked

    def place(self, stage: Stage) -> None:
        """Moves a stage's modules to the device, as the settings want them."""
        stage.place(self.device, self.config.compile)
        if self.config.checkpoint_activations:
            recompute_blocks(stage.module)
        if self.ranks > 1:
            for module in stage.module.modules():
                if hasattr(module, "over_all"):  # an entropy of a batch is no mean over its windows
                    module.over_all = mean_over_ranks  # type: ignore[assignment]
                    module.processes = self.ranks

    def share_out(self, stage: Stage) -> nn.Module:
        """The stage's loss as a module whose gradients are those of all processes; made before its optimizer."""
        objective = Objective(stage)
        if self.sharded:
            return shard(objective, self.device)
        return self.accelerator.prepare_model(objective, device_placement=False)  # type: ignore[no-any-return]

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimizer with its gradients scaled where float16 needs it."""
        return self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def loss(self, objective: nn.Module, stage: Stage, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and parts of this process's windows, weighted so that their mean over all processes is the batch's."""
        batch = batch.to(self.device)
        total = self.accelerator.reduce(stage.counted(batch).sum(), "mean") if self.ranks > 1 else None
        with self.accelerator.autocast():
            return objective(batch, step, total)  # type: ignore[no-any-return]

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of one of a step's batches."""
        self.accelerator.backward(loss)

    def exchange(self, objective: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients go to the other processes once a step: with the last of its batches."""
        return nullcontext() if last or self.sharded else self.accelerator.no_sync(objective)

    def clip(self, optimizer: Any, module: nn.Module, longest: float) -> Tensor:
        """Shortens the gradient; returns its length before."""
        self.accelerator.unscale_gradients(optimizer)
        norm = nn.utils.clip_grad_norm_(module.parameters(), longest)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes, the same on all of them."""
        if self.ranks == 1:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        reduced = self.accelerator.reduce(numbers, "mean")
        return dict(zip(values, reduced.tolist(), strict=True))

    def from_main(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """What the first process holds, on all of them."""
        if self.ranks == 1:
            return values
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(numbers, 0)
        return tuple(numbers.tolist())

    def meet(self) -> None:
        """Waits until all processes are here."""
        self.accelerator.wait_for_everyone()

    def scaler_state(self) -> dict[str, Any]:
        """What float16's scaling of gradients remembers; empty otherwise."""
        return {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()

    def restore_scaler(self, state: dict[str, Any]) -> None:
        if self.accelerator.scaler is not None and state:
            self.accelerator.scaler.load_state_dict(state)


def _on_cpu(asked: bool) -> bool:
    """Whether to tell accelerate that processes are on the CPU; unless told, it takes those there for strangers."""
    return asked or not torch.accelerator.is_available()


def _accelerator(config: RunConfig) -> Accelerator:
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as error:
        raise MissingExtraError("accelerate", "train", "Training") from error
    try:
        return Accelerator(
            cpu=_on_cpu(config.device == "cpu"),
            mixed_precision=_PRECISION[config.dtype],
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"this process cannot train on {config.device} in {config.dtype}: {reason}") from error

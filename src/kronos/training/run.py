"""The training loop: one for both stages.

Notable:
- batch k is drawn from (seed, k) and dropout is seeded by k, so a resumed run is the run that never stopped;
- several processes share each batch (see :mod:`kronos.training.parallel`); the first one alone writes and reports;
- validation windows are later bars of held-apart symbols, always the same ones;
- the best weights, by validation loss or by the CRPS of real forecasts, are kept beside the last ones.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kronos.bars.windows import prefetch
from kronos.errors import ConfigError
from kronos.files import clear_leftovers, digest_of_file, writing
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import WEIGHTS_FILE, change_config, state_cutoffs
from kronos.training.config import OptimSettings, RunConfig
from kronos.training.data import cutoffs_of, open_arrays, samplers
from kronos.training.log import Log, Report
from kronos.training.parallel import Processes, full_tensor, is_main, main_first, restarted
from kronos.training.stages import STAGES, ModelStage, TokenizerStage, TrainingBatch, measured_gain
from kronos.training.state import (
    PREVIOUS_FILE,
    STATE_FILE,
    DamagedStateWarning,
    identity,
    load_state,
    save_state,
    whole_state,
)

_ONE_CYCLE_START, _ONE_CYCLE_END = 0.1, 1e-5  # shares of the peak, as in the published fine-tuning code
_GAIN_BARS = 10_000  # below which a measured move_gain would be noise
_GAIN_BATCHES = 16  # of training windows, from which a tokenizer's move_gain is measured


@dataclass(frozen=True)
class ForecastScores:
    """How real forecasts of the validation period did; what a :data:`Judge` answers.

    ``crps`` and ``crps_to_last_close`` are shares of the CRPS of a resampled random walk and of the last close;
    ``coverage_90`` is how often the truth lay in the 90 % interval; ``slope`` is that of predicted on past moves.
    """

    crps: float
    crps_to_last_close: float
    coverage_90: float
    slope: float


Judge = Callable[[Kronos, KronosTokenizer], ForecastScores]


@dataclass(frozen=True)
class RunResult:
    """Where the weights are and how they did.

    ``best_validation`` is the loss of the kept weights, or the CRPS where they were chosen by it.
    """

    folder: Path
    steps: int
    best_validation: float
    chosen_by: str = "loss"


def train(
    stage_name: str,
    config: RunConfig,
    *,
    resume: bool = False,
    progress: Report | None = None,
    judge: Judge | None = None,
) -> RunResult:
    """Runs one stage to its last step; the checkpoint appears in ``config.out / stage_name``.

    Args:
        stage_name: "tokenizer", or "model" for the network on a frozen tokenizer.
        resume: go on from the saved state, if there is one; so does a run that torchrun started again.
        progress: called with each logged record: step, losses, rate; by the first process only. A run that goes on
            tells its ``step`` first, with ``resumed_from``.
        judge: scores real forecasts of the validation period, at each validation of the second stage.

    Raises:
        ConfigError: settings that contradict each other, or ``choose_by: crps`` without a judge.
        DataError: no usable windows for training or validation.
        CapacityError: a full disk; what was saved before stays whole.
        CheckpointError: the state to resume from is damaged or of another run.
        MissingExtraError: accelerate, or a tracker that the settings name, is not installed.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder, resume = config.out / stage_name, resume or restarted()
    if not resume and any((folder / name).exists() for name in (STATE_FILE, PREVIOUS_FILE)):
        raise ConfigError(
            f"{folder} holds a run already; go on with --resume, name another `out`, or delete the folder"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Processes(config, config.optim_of(stage_name).accumulation) as processes:
        if is_main():
            clear_leftovers(folder)
        return _Run(processes, stage_name, config, judge).run(resume, progress)


class _Run:
    """One stage under way."""

    def __init__(self, processes: Processes, stage_name: str, config: RunConfig, judge: Judge | None) -> None:
        self.stage = stage = STAGES[stage_name](config)
        with main_first():
            arrays = open_arrays(config)
        self.processes, self.config, self.folder = processes, config, config.out / stage_name
        self.optim = config.optim_of(stage_name)
        self.judge = judge if isinstance(stage, ModelStage) else None
        self.chosen_by = config.choose_by if isinstance(stage, ModelStage) else "loss"
        if self.chosen_by == "crps" and self.judge is None:
            raise ConfigError("choose_by: crps needs a judge of forecasts; pass one to train(), or choose by loss")
        self.training, self.validation = samplers(
            config, arrays, self.optim.batch_size, rank=processes.rank, ranks=processes.ranks
        )
        self.cutoffs = cutoffs_of(config.data, arrays)
        self.objective = processes.prepare(stage)
        self.optimizer = build_optimizer(stage.module, self.optim, processes.device)
        # with its gradients scaled where float16 needs it
        self.stepper: Any = processes.accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self.identity = identity(config, stage, arrays, processes.ranks)
        self.best, self.since = math.inf, 0  # the best validation so far, and how many ago it was
        self.kept = ""  # a hash of the weights that had it, as they were written
        self.bars, self.clock = 0, time.perf_counter()  # since the last record, validations left out

    def run(self, resume: bool, progress: Report | None) -> RunResult:
        """From the first step, or the saved one, to the last."""
        start = self._restore() if resume else 0
        if start and progress is not None and is_main():
            progress({"step": start, "resumed_from": start})
        workers, device = self.config.workers, self.processes.device
        first, end = (step * self.optim.accumulation for step in (start, self.optim.steps))
        batches = prefetch(lambda k: self.stage.batch(self.training(k)), first, end, workers, 2 * workers + 2)
        with (
            Log(self.folder, self.config, start, progress, is_main()) as self.log,
            contextlib.closing(batches),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            for step in range(start, self.optim.steps):
                # dropout of this step, resumed or not; each process has its own
                seed = self.config.seed * 1_000_003 + step
                torch.manual_seed(seed * self.processes.ranks + self.processes.rank)
                if step == 0 and self.config.validate_first:
                    self._validate(0)
                if self.config.patience is not None and self.since >= self.config.patience:
                    break
                self._advance(step, batches)
            else:
                step = self.optim.steps
                if start == step and self.best == math.inf:
                    self._validate(step)  # what it had kept is lost
        if is_main() and isinstance(self.stage, ModelStage):
            ends = {group: np.datetime_as_string(np.datetime64(end, "s")) for group, end in self.cutoffs.items()}
            state_cutoffs(self.folder, ends)
        # what only a trained tokenizer knows of itself; too few bars tell nothing, then what its start states is better
        if (
            is_main()
            and isinstance(self.stage, TokenizerStage)
            and self.stage.tokenizer.config.bar_transform == "running"
        ):
            windows = (self.stage.batch(self.training(k)) for k in range(_GAIN_BATCHES))
            gain = measured_gain(KronosTokenizer.from_pretrained(self.folder), windows, _GAIN_BARS)
            if gain is not None:
                change_config(self.folder, move_gain=gain)
        self.processes.accelerator.wait_for_everyone()  # whoever goes on reads what the first process has written
        return RunResult(self.folder, step, self.best, self.chosen_by)

    def _advance(self, step: int, batches: Iterator[TrainingBatch]) -> None:
        """One step, and what is due after it: a record, a validation, a saved state."""
        sums, norm = self._step(step, batches)
        done, last = step + 1, step + 1 == self.optim.steps
        if done % (self.config.log_every or min(50, max(1, self.optim.steps // 20))) == 0 or last:
            figures = self.processes.mean({name: float(value) for name, value in sums.items()})
            if not math.isfinite(figures["loss"]):
                raise ConfigError(
                    f"the loss is {figures['loss']} at step {done}; lower optim.lr or optim.clip_norm and start afresh"
                )
            now = time.perf_counter()
            rate = {"lr": learning_rate(step, self.optim), "norm": float(norm)}
            self.log({"step": done, **figures, **rate, "bars_per_s": self.bars / (now - self.clock)})
            self.bars, self.clock = 0, now
        if done % self.config.validate_every == 0 or last:
            began = time.perf_counter()
            self._validate(done)
            self.clock += time.perf_counter() - began
        if done % self.config.save_every == 0 or last:
            extra = {"best": self.best, "since_best": self.since, "kept": self.kept, **self.identity}
            if (scaler := self.processes.accelerator.scaler) is not None:  # float16's, of the gradients
                extra["scaler"] = scaler.state_dict()
            save_state(self.folder, done, self.stage.module, self.optimizer, extra, write=is_main())

    def _step(self, step: int, batches: Iterator[TrainingBatch]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimizer: mean losses of this process's windows, and the length of the gradient."""
        processes, optim, accelerator = self.processes, self.optim, self.processes.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, optim)
        self.stepper.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(optim.accumulation):
            batch = next(batches)
            # gradients go to the other processes once a step: with the last of its batches
            alone = part + 1 < optim.accumulation and not processes.sharded
            with accelerator.no_sync(self.objective) if alone else contextlib.nullcontext():
                loss, parts = processes.loss(self.objective, self.stage, batch, step)
                accelerator.backward(loss)
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / optim.accumulation
            self.bars += batch.features.shape[0] * batch.features.shape[1] * processes.ranks
        accelerator.unscale_gradients(self.stepper)
        norm = full_tensor(nn.utils.clip_grad_norm_(self.stage.module.parameters(), optim.clip_norm))
        self.stepper.step()
        return sums, norm

    def _validate(self, done: int) -> None:
        """Validation losses, and real forecasts where a judge is there; the best weights so far are written."""
        scores = self._losses()
        state = None
        if self.judge is not None and isinstance(self.stage, ModelStage):
            state, found = whole_state(self.stage.module), ForecastScores(math.inf, math.inf, math.nan, math.nan)
            if is_main():  # the others hear of it
                found = self.judge(self.stage.checkpoint(state), copy.deepcopy(self.stage.tokenizer).cpu().eval())
            scores |= self.processes.from_main(asdict(found))
        better = scores[self.chosen_by] < self.best
        self.since = 0 if better else self.since + (done > 0)
        if better:
            self.best = scores[self.chosen_by]
            state = state or whole_state(self.stage.module)
            if is_main():
                self.stage.checkpoint(state).save_pretrained(self.folder)
                self.kept = digest_of_file(self.folder / WEIGHTS_FILE)
        self.log({"step": done, **{f"val_{k}": v for k, v in scores.items()}, "kept": better})

    @torch.no_grad()
    def _losses(self) -> dict[str, float]:
        """Mean losses over the validation batches, in eval mode."""
        totals: dict[str, float] = {}
        count, sampler = self.config.validation_batches, self.validation
        self.objective.eval()
        try:
            batches = prefetch(lambda k: self.stage.batch(sampler(k), later=True), 0, count, self.config.workers)
            for step, batch in enumerate(batches):
                loss, parts = self.processes.loss(self.objective, self.stage, batch, step)
                for name, value in {"loss": loss, **parts}.items():
                    totals[name] = totals.get(name, 0.0) + float(value) / count
        finally:
            self.objective.train()
        return self.processes.mean(totals)

    def _restore(self) -> int:
        found = load_state(self.folder, self.stage.module, self.optimizer, self.identity)
        if found is None:
            return 0
        step, extra = found
        self.best, self.since = float(extra["best"]), int(extra.get("since_best", 0))
        self.kept = str(extra.get("kept", ""))
        # the weights may have been written after the state that is gone on from, or be damaged
        if self.kept and self.kept != digest_of_file(self.folder / WEIGHTS_FILE):
            self.best = math.inf
            lost = "are not those that the saved state speaks of; the next validation writes them anew"
            warnings.warn(f"the weights in {self.folder} {lost}", DamagedStateWarning, stacklevel=2)
        if (scaler := self.processes.accelerator.scaler) is not None and "scaler" in extra:
            scaler.load_state_dict(extra["scaler"])
        return step


def learning_rate(step: int, settings: OptimSettings) -> float:
    """The rate of a step, counted from 0: a warm-up to the peak, then what ``schedule`` says.

    - ``cosine``: a straight warm-up from ``initial_lr``, then a cosine down to ``final_lr``, shares of the peak;
    - ``one_cycle``: up from a tenth of the peak and down to next to nothing, both along cosines;
    - ``constant``: a straight warm-up, then the peak.
    """

    def cosine(start: float, end: float, done: float) -> float:
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))

    s = settings
    warmup = max(1, round(s.warmup if s.warmup >= 1 else s.warmup * s.steps))
    if s.schedule == "one_cycle":
        # the turning points of torch's OneCycleLR: the peak stands at the last step of the warm-up
        up = warmup - 1
        if step <= up:
            return s.lr * cosine(_ONE_CYCLE_START, 1.0, step / up if up else 1.0)
        return s.lr * cosine(1.0, _ONE_CYCLE_END, (step - up) / max(1, s.steps - 1 - up))
    if step < warmup:
        return s.lr * s.initial_lr * (1 - (step + 1) / warmup) + s.lr * (step + 1) / warmup
    if s.schedule == "constant":
        return s.lr
    return s.lr * cosine(1.0, s.final_lr, (step - warmup) / max(1, s.steps - warmup))


def build_optimizer(module: nn.Module, settings: OptimSettings, device: torch.device) -> torch.optim.AdamW:
    """AdamW; only matrices decay, not biases, norms or embeddings."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decay if parameter.ndim > 1 and id(parameter) not in embeddings else keep).append(parameter)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=device.type == "cuda")

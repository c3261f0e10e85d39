"""The training loop: one for both stages.

Notable:
- batch k is drawn from (seed, k) and dropout is seeded by k, so a resumed run is the run that never stopped;
- several processes share each batch (see :mod:`kronos.training.engine`); the first one alone writes and reports;
- validation windows are later bars of held-apart symbols, always the same ones;
- the best weights, by validation loss or by the CRPS of real forecasts, are kept beside the last ones.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kronos.bars.arrays import BarArrays
from kronos.bars.windows import WindowSampler, prefetch
from kronos.errors import ConfigError
from kronos.model import Kronos, KronosTokenizer
from kronos.model.checkpoint import WEIGHTS_FILE
from kronos.training.config import RunConfig
from kronos.training.data import open_arrays, samplers
from kronos.training.engine import Engine, main_first, restarted
from kronos.training.gain import measured_gain
from kronos.training.log import Log
from kronos.training.schedule import build_optimizer, learning_rate
from kronos.training.stages import STAGES, Batch, ModelStage, Stage, TokenizerStage
from kronos.training.state import (
    PREVIOUS_FILE,
    STATE_FILE,
    DamagedStateWarning,
    change_config,
    digest_of,
    load_state,
    save_state,
    whole_state,
    writing,
)

Report = Callable[[dict[str, Any]], None]

_GAIN_BARS = 10_000  # below which a measured move_gain would be noise
_GAIN_BATCHES = 16  # of training windows, from which a tokenizer's move_gain is measured


@dataclass(frozen=True)
class Forecasts:
    """How real forecasts of the validation period did; what a :data:`Judge` answers.

    ``crps`` and ``crps_to_last_close`` are shares of the CRPS of a resampled random walk and of the last close;
    ``coverage_90`` is how often the truth lay in the 90 % interval; ``slope`` is that of predicted on past moves.
    """

    crps: float
    crps_to_last_close: float
    coverage_90: float
    slope: float


Judge = Callable[[Kronos, KronosTokenizer], Forecasts]


@dataclass(frozen=True)
class RunResult:
    """Where the weights are and how they did.

    ``best_validation`` is the loss of the kept weights, or the CRPS where they were chosen by it.
    """

    folder: Path
    steps: int
    best_validation: float
    chosen_by: str = "loss"


def train_tokenizer(config: RunConfig, resume: bool = False, progress: Report | None = None) -> RunResult:
    """Stage one: trains the tokenizer; its checkpoint appears in ``config.out / "tokenizer"``."""
    return train("tokenizer", config, resume=resume, progress=progress)


def train_model(config: RunConfig, resume: bool = False, progress: Report | None = None) -> RunResult:
    """Stage two: trains the network on a frozen tokenizer; its checkpoint appears in ``config.out / "model"``."""
    return train("model", config, resume=resume, progress=progress)


def train(
    stage_name: str,
    config: RunConfig,
    *,
    resume: bool = False,
    progress: Report | None = None,
    judge: Judge | None = None,
) -> RunResult:
    """Runs one stage to its last step.

    Args:
        stage_name: "tokenizer" or "model".
        resume: go on from the saved state, if there is one; so does a run that torchrun started again.
        progress: called with each logged record: step, losses, rate; by the first process only.
        judge: scores real forecasts of the validation period, at each validation of the second stage.

    Raises:
        ConfigError: settings that contradict each other, or ``choose_by: crps`` without a judge.
        DataError: no usable windows for training or validation.
        CapacityError: a full disk; what was saved before stays whole.
        CheckpointError: the state to resume from is damaged or of another run.
        MissingExtraError: accelerate, or a tracker that is asked for, is not installed.
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
    with Engine(config, config.optim_of(stage_name).accumulation) as engine:
        stage = STAGES[stage_name](config)
        with main_first():
            arrays = open_arrays(config)
        return _Run(engine, stage, config, arrays, folder, judge).go(resume, progress)


class _Run:
    """One stage under way."""

    def __init__(
        self, engine: Engine, stage: Stage, config: RunConfig, arrays: BarArrays, folder: Path, judge: Judge | None
    ) -> None:
        self.engine, self.stage, self.config, self.folder = engine, stage, config, folder
        self.optim = config.optim_of(stage.name)
        self.judge = judge if isinstance(stage, ModelStage) else None
        self.chosen_by = config.choose_by if isinstance(stage, ModelStage) else "loss"
        if self.chosen_by == "crps" and self.judge is None:
            raise ConfigError("choose_by: crps needs a judge of forecasts; pass one to train(), or choose by loss")
        self.training, self.validation = samplers(
            config, arrays, self.optim.batch_size, rank=engine.rank, ranks=engine.ranks
        )
        engine.place(stage)
        self.objective = engine.share_out(stage)
        self.optimizer = build_optimizer(stage.module, self.optim, engine.device)
        self.stepper = engine.prepare_optimizer(self.optimizer)
        self.identity = identity(config, stage, arrays, engine.ranks)
        self.best, self.since = math.inf, 0  # the best validation so far, and how many ago it was
        self.kept = ""  # a hash of the weights that had it, as they were written
        self.clock = _Clock()

    def go(self, resume: bool, progress: Report | None) -> RunResult:
        """From the first step, or the saved one, to the last."""
        start = self._restore() if resume else 0
        accumulation, workers, device = self.optim.accumulation, self.config.workers, self.engine.device
        batches = prefetch(
            lambda k: self.stage.batch(self.training(k)),
            start * accumulation,
            self.optim.steps * accumulation,
            workers,
            2 * workers + 2,
        )
        with (
            Log(self.folder, self.config, start, progress, self.engine.is_main) as self.log,
            contextlib.closing(batches),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            for step in range(start, self.optim.steps):
                # dropout of this step, resumed or not; each process has its own
                torch.manual_seed((self.config.seed * 1_000_003 + step) * self.engine.ranks + self.engine.rank)
                if step == 0 and self.config.validate_first:
                    self._validate(0)
                if self.config.patience is not None and self.since >= self.config.patience:
                    break
                self._advance(step, batches)
            else:
                step = self.optim.steps
                if start == step and self.best == math.inf:
                    self._validate(step)  # what it had kept is lost
        if self.engine.is_main:
            self._finish()
        self.engine.meet()  # whoever goes on reads what the first process has written
        return RunResult(self.folder, step, self.best, self.chosen_by)

    def _finish(self) -> None:
        """States in a tokenizer's config what only the trained one knows of itself."""
        if not isinstance(self.stage, TokenizerStage) or self.stage.tokenizer.config.bar_transform != "running":
            return
        kept = KronosTokenizer.from_pretrained(self.folder)
        batches = (self.stage.batch(self.training(k)) for k in range(_GAIN_BATCHES))
        gain = measured_gain(kept, batches, _GAIN_BARS)
        if gain is not None:  # else what the start states of itself is better
            change_config(self.folder, move_gain=gain)

    def _advance(self, step: int, batches: Iterator[Batch]) -> None:
        """One step, and what is due after it: a record, a validation, a saved state."""
        sums, norm = self._step(step, batches)
        done, last = step + 1, step + 1 == self.optim.steps
        if done % min(50, max(1, self.optim.steps // 20)) == 0 or last:
            figures = self.engine.mean({name: float(value) for name, value in sums.items()})
            _check_finite(figures["loss"], done)
            rate = {"lr": learning_rate(step, self.optim), "norm": float(norm), "bars_per_s": self.clock.rate()}
            self.log({"step": done, **figures, **rate})
        if done % self.config.validate_every == 0 or last:
            with self.clock.stopped():
                self._validate(done)
        if done % self.config.save_every == 0 or last:
            self._save(done)

    def _step(self, step: int, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the optimizer: mean losses of this process's windows, and the length of the gradient."""
        engine, optim = self.engine, self.optim
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, optim)
        self.stepper.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(optim.accumulation):
            batch = next(batches)
            with engine.exchange(self.objective, last=part + 1 == optim.accumulation):
                loss, parts = engine.loss(self.objective, self.stage, batch, step)
                engine.backward(loss)
            for name, value in {"loss": loss, **parts}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / optim.accumulation
            self.clock.add(batch.features.shape[0] * batch.features.shape[1] * engine.ranks)
        norm = engine.clip(self.stepper, self.stage.module, optim.clip_norm)
        self.stepper.step()
        return sums, norm

    def _validate(self, done: int) -> None:
        """Validation losses, and real forecasts where a judge is there; the best weights so far are written."""
        scores = validate(self.engine, self.stage, self.objective, self.validation, self.config)
        state = None
        if self.judge is not None:
            state = whole_state(self.stage.module)
            scores |= self._forecasts(state)
        better = scores[self.chosen_by] < self.best
        self.since = 0 if better else self.since + (done > 0)
        if better:
            self.best = scores[self.chosen_by]
            state = state or whole_state(self.stage.module)
            if self.engine.is_main:
                with writing(self.folder / f"{WEIGHTS_FILE}.tmp"):
                    self.stage.checkpoint(state).save_pretrained(self.folder)
                self.kept = digest_of(self.folder / WEIGHTS_FILE)
        self.log({"step": done, **{f"val_{k}": v for k, v in scores.items()}, "kept": better})

    def _forecasts(self, state: dict[str, Tensor]) -> dict[str, float]:
        """What the judge says of the weights; the first process asks, all hear."""
        assert isinstance(self.stage, ModelStage)
        assert self.judge is not None
        found = Forecasts(math.inf, math.inf, math.nan, math.nan)
        if self.engine.is_main:
            found = self.judge(self.stage.checkpoint(state), copy.deepcopy(self.stage.tokenizer).cpu().eval())
        names = tuple(vars(found))
        return dict(zip(names, self.engine.from_main(tuple(vars(found).values())), strict=True))

    def _save(self, done: int) -> None:
        extra = {"best": self.best, "since_best": self.since, "kept": self.kept, **self.identity}
        if scaler := self.engine.scaler_state():
            extra["scaler"] = scaler
        save_state(self.folder, done, self.stage.module, self.optimizer, extra, write=self.engine.is_main)

    def _restore(self) -> int:
        found = load_state(self.folder, self.stage.module, self.optimizer, self.identity)
        if found is None:
            return 0
        step, extra = found
        self.best, self.since = float(extra["best"]), int(extra.get("since_best", 0))
        self.kept = str(extra.get("kept", ""))
        if self.kept and self.kept != digest_of(self.folder / WEIGHTS_FILE):  # of a lost past, or damaged
            self.best = math.inf
            lost = "are not those that the saved state speaks of; the next validation writes them anew"
            warnings.warn(f"the weights in {self.folder} {lost}", DamagedStateWarning, stacklevel=2)
        self.engine.restore_scaler(extra.get("scaler", {}))
        return step


def identity(config: RunConfig, stage: Stage, arrays: BarArrays, ranks: int = 1) -> dict[str, str]:
    """What a state must agree on to be gone on from: bars, windows, shapes, losses, rates, and what chooses weights.

    How many steps there are may change, where the run computes, and how often it saves, validates and reports. Two
    processes go on where one with twice the batch size has stopped: they draw the same windows.
    """
    decisive = config.model_dump(mode="json", include={"seed", "dtype", "loss", "tokenizer", "model"})
    decisive["data"] = config.data.model_dump(mode="json", exclude={"arrays", "bars", "on_defect"})
    decisive["optim"] = config.optim_of(stage.name).model_dump(mode="json", exclude={"steps"})
    decisive["optim"]["batch_size"] *= ranks
    # Settings that were added later count only where they are used, so that older states can be gone on from.
    for name, without in (("schedule", "cosine"), ("initial_lr", 0.0)):
        if decisive["optim"][name] == without:
            del decisive["optim"][name]
    decisive |= config.model_dump(
        mode="json", include={"dropout", "lora", "choose_by", "time_features"}, exclude_defaults=True
    )
    if config.choose_by == "crps" and isinstance(stage, ModelStage):
        decisive["forecasts"] = config.forecasts.model_dump(mode="json")
    tokens = hashlib.blake2b(digest_size=16)
    if isinstance(stage, ModelStage):
        if stage.tokenizer.config.bar_transform != "returns":
            tokens.update(stage.tokenizer.config.bar_transform.encode())
        for name, tensor in stage.tokenizer.state_dict().items():
            tokens.update(name.encode() + tensor.cpu().numpy().tobytes())
    settings = hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16)
    return {"data_hash": arrays.data_hash, "settings": settings.hexdigest(), "tokenizer": tokens.hexdigest()}


@torch.no_grad()
def validate(
    engine: Engine, stage: Stage, objective: nn.Module, sampler: WindowSampler, config: RunConfig
) -> dict[str, float]:
    """Mean losses over the validation batches, in eval mode."""
    totals: dict[str, float] = {}
    objective.eval()
    try:
        make = prefetch(lambda k: stage.batch(sampler(k), later=True), 0, config.validation_batches, config.workers)
        for step, batch in enumerate(make):
            loss, parts = engine.loss(objective, stage, batch, step)
            for name, value in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0.0) + float(value) / config.validation_batches
    finally:
        objective.train()
    return engine.mean(totals)


class _Clock:
    """Bars a second since it was last asked, validations left out."""

    def __init__(self) -> None:
        self._bars, self._since = 0, time.perf_counter()

    def add(self, bars: int) -> None:
        self._bars += bars

    def rate(self) -> float:
        now = time.perf_counter()
        rate = self._bars / (now - self._since)
        self._bars, self._since = 0, now
        return rate

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ConfigError(f"the loss is {loss} at step {step}; lower optim.lr or optim.clip_norm and start afresh")

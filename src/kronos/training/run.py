"""The training loop: one for both stages.

Notable:
- batch k is drawn from (seed, k) and dropout is seeded by k, so a resumed run is the run that never stopped;
- validation windows are later bars of held-apart symbols, always the same ones;
- the best weights by validation loss are kept beside the last ones.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kronos.bars.arrays import BarArrays
from kronos.bars.windows import WindowPlan, WindowSampler, prefetch
from kronos.errors import ConfigError
from kronos.training.config import OptimSettings, RunConfig
from kronos.training.split import split_segments
from kronos.training.stages import STAGES, Stage
from kronos.training.state import STATE_FILE, load_state, save_state

Report = Callable[[dict[str, Any]], None]

_VALIDATION_SEED = 20_240_701  # any constant: validation is the same in every run


@dataclass(frozen=True)
class RunResult:
    """Where the weights are and how they did."""

    folder: Path
    steps: int
    best_validation: float


def train_tokenizer(config: RunConfig, resume: bool = False, progress: Report | None = None) -> RunResult:
    """Stage one: trains the tokenizer; its checkpoint appears in ``config.out / "tokenizer"``."""
    return train("tokenizer", config, resume=resume, progress=progress)


def train_model(config: RunConfig, resume: bool = False, progress: Report | None = None) -> RunResult:
    """Stage two: trains the network on a frozen tokenizer; its checkpoint appears in ``config.out / "model"``."""
    return train("model", config, resume=resume, progress=progress)


def train(stage_name: str, config: RunConfig, *, resume: bool = False, progress: Report | None = None) -> RunResult:
    """Runs one stage to its last step.

    Args:
        stage_name: "tokenizer" or "model".
        resume: go on from the saved state, if there is one.
        progress: called with each logged record: step, losses, rate.

    Raises:
        ConfigError: settings that contradict each other.
        DataError: no usable windows for training or validation.
        CheckpointError: the state to resume from is damaged or of another run.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = _device(config.device)
    stage = STAGES[stage_name](config)
    stage.place(device, config.compile)
    training, validation = _samplers(config)
    optimizer = build_optimizer(stage.module, config.optim, device)
    folder = config.out / stage_name
    folder.mkdir(parents=True, exist_ok=True)
    start, best = 0, math.inf
    if resume and (folder / STATE_FILE).exists():
        start, extra = load_state(folder, stage.module, optimizer)
        best = float(extra["best"])
    log = _Log(folder / "log.jsonl", progress, fresh=start == 0)
    (folder / "run.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")

    optim = config.optim
    seen, clock = 0, time.perf_counter()
    batches = prefetch(lambda k: stage.batch(training(k)), start, optim.steps, config.workers, 2 * config.workers + 2)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step, batch in enumerate(batches, start):
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout of this step, resumed or not
            rate = learning_rate(step, optim)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with _autocast(device, config.dtype):
                loss, parts = stage.loss(batch.to(device), step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(stage.module.parameters(), optim.clip_norm)
            optimizer.step()
            seen += batch.features.shape[0] * batch.features.shape[1]
            last = step + 1 == optim.steps
            if (step + 1) % 50 == 0 or last:
                elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                log({"step": step + 1, "loss": loss, **parts, "lr": rate, "norm": norm, "bars_per_s": seen / elapsed})
                seen = 0
            if (step + 1) % config.validate_every == 0 or last:
                scores = validate(stage, validation, config, device)
                log({"step": step + 1, **{f"val_{k}": v for k, v in scores.items()}})
                if scores["loss"] < best:
                    best = scores["loss"]
                    stage.save(folder)
                clock = time.perf_counter()
            if (step + 1) % config.save_every == 0 or last:
                save_state(folder, step + 1, stage.module, optimizer, {"best": best})
    return RunResult(folder, optim.steps, best)


@torch.no_grad()
def validate(stage: Stage, sampler: WindowSampler, config: RunConfig, device: torch.device) -> dict[str, float]:
    """Mean losses over the validation batches, in eval mode."""
    totals: dict[str, float] = {}
    stage.module.eval()
    try:
        make = prefetch(lambda k: stage.batch(sampler(k)), 0, config.validation_batches, config.workers)
        for step, batch in enumerate(make):
            with _autocast(device, config.dtype):
                loss, parts = stage.loss(batch.to(device), step)
            for name, value in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0.0) + float(value) / config.validation_batches
    finally:
        stage.module.train()
    return totals


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


def learning_rate(step: int, settings: OptimSettings) -> float:
    """Linear warm-up to the peak, then a cosine down to ``final_lr`` of it."""
    warmup = max(1, round(settings.warmup * settings.steps))
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, settings.steps - warmup)
    return settings.lr * (settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * done)))


def _samplers(config: RunConfig) -> tuple[WindowSampler, WindowSampler]:
    data = config.data
    arrays = BarArrays.open(data.arrays)
    context = data.boundary[1]
    training, validation = split_segments(arrays, context)
    plan = WindowPlan(data.window, data.boundary, data.volume_dropout, data.aggregate, data.group_power)
    fixed = WindowPlan(data.window, (context, context), group_power=data.group_power)
    size = config.optim.batch_size
    return (
        WindowSampler(arrays.select(training), plan, size, config.seed),
        WindowSampler(arrays.select(validation), fixed, size, _VALIDATION_SEED),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device is '{name}'; write auto, cpu, mps or cuda[:index]") from error


def _autocast(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[Any]:
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))


class _Log:
    """Appends records to a file of JSON lines and hands them on."""

    def __init__(self, path: Path, progress: Report | None, *, fresh: bool) -> None:
        self.path, self.progress = path, progress
        if fresh:
            path.unlink(missing_ok=True)

    def __call__(self, record: dict[str, Any]) -> None:
        plain = {k: float(v.detach()) if isinstance(v, Tensor) else v for k, v in record.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        if self.progress is not None:
            self.progress(plain)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, in order."""
    with (folder / "log.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)

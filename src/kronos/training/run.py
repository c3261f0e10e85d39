"""The training loop: one for both stages.

Notable:
- batch k is drawn from (seed, k) and dropout is seeded by k, so a resumed run is the run that never stopped;
- validation windows are later bars of held-apart symbols, always the same ones;
- the best weights by validation loss are kept beside the last ones.
"""

from __future__ import annotations

import contextlib
import hashlib
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
from kronos.bars.windows import WindowSampler, prefetch
from kronos.errors import CapacityError, ConfigError
from kronos.model.checkpoint import WEIGHTS_FILE
from kronos.training.config import OptimSettings, RunConfig
from kronos.training.data import open_arrays, samplers
from kronos.training.stages import STAGES, ModelStage, Stage
from kronos.training.state import load_state, save_state, writing

Report = Callable[[dict[str, Any]], None]


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
        CapacityError: a full disk; what was saved before stays whole.
        CheckpointError: the state to resume from is damaged or of another run.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = config.out / stage_name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    device = _device(config.device)
    stage = STAGES[stage_name](config)
    stage.place(device, config.compile)
    optim = config.optim_of(stage_name)
    arrays = open_arrays(config)
    training, validation = samplers(config, arrays, optim.batch_size)
    optimizer = build_optimizer(stage.module, optim, device)
    start, best, since = 0, math.inf, 0
    identity = _identity(config, stage, arrays)
    if resume and (state := load_state(folder, stage.module, optimizer, identity)):
        start, best, since = state[0], float(state[1]["best"]), int(state[1].get("since_best", 0))
    log = _Log(folder / "log.jsonl", progress, start)
    with writing(folder / "run.json"):
        (folder / "run.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")

    if config.validate_first and start == 0:
        scores = validate(stage, validation, config, device)
        log({"step": 0, **{f"val_{k}": v for k, v in scores.items()}})
        best = scores["loss"]
        with writing(folder / f"{WEIGHTS_FILE}.tmp"):
            stage.save(folder)
    log_every = min(50, max(1, optim.steps // 20))
    seen, clock, total = 0, time.perf_counter(), optim.steps * optim.accumulation
    first = start * optim.accumulation
    batches = prefetch(lambda k: stage.batch(training(k)), first, total, config.workers, 2 * config.workers + 2)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), contextlib.closing(batches):
        for step in range(start, optim.steps):
            if config.patience is not None and since >= config.patience:
                return RunResult(folder, step, best)
            torch.manual_seed(config.seed * 1_000_003 + step)  # dropout of this step, resumed or not
            rate = learning_rate(step, optim)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            sums: dict[str, Tensor] = {}
            for _ in range(optim.accumulation):
                batch = next(batches)
                with _autocast(device, config.dtype):
                    loss, parts = stage.loss(batch.to(device), step)
                (loss / optim.accumulation).backward()  # type: ignore[no-untyped-call]
                for name, value in {"loss": loss, **parts}.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / optim.accumulation
                seen += batch.features.shape[0] * batch.features.shape[1]
            norm = nn.utils.clip_grad_norm_(stage.module.parameters(), optim.clip_norm)
            optimizer.step()
            done, last = step + 1, step + 1 == optim.steps
            if done % log_every == 0 or last:
                _check_finite(sums["loss"], done)
                elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                log({"step": done, **sums, "lr": rate, "norm": norm, "bars_per_s": seen / elapsed})
                seen = 0
            if done % config.validate_every == 0 or last:
                scores = validate(stage, validation, config, device)
                log({"step": done, **{f"val_{k}": v for k, v in scores.items()}})
                since += 1
                if scores["loss"] < best:
                    best, since = scores["loss"], 0
                    with writing(folder / f"{WEIGHTS_FILE}.tmp"):
                        stage.save(folder)
                clock = time.perf_counter()
            if done % config.save_every == 0 or last:
                save_state(folder, done, stage.module, optimizer, {"best": best, "since_best": since, **identity})
    return RunResult(folder, optim.steps, best)


def _identity(config: RunConfig, stage: Stage, arrays: BarArrays) -> dict[str, str]:
    """What a state must agree on to be gone on from. How long and how fast a run goes may change, nothing else."""
    decisive = config.model_dump(mode="json", include={"seed", "dtype", "loss", "tokenizer", "model"})
    decisive["data"] = config.data.model_dump(mode="json", exclude={"arrays", "bars"})
    decisive["optim"] = config.optim_of(stage.name).model_dump(mode="json", exclude={"steps"})
    tokens = hashlib.blake2b(digest_size=16)
    if isinstance(stage, ModelStage):
        for name, tensor in stage.tokenizer.state_dict().items():
            tokens.update(name.encode() + tensor.cpu().numpy().tobytes())
    settings = hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16)
    return {"data_hash": arrays.data_hash, "settings": settings.hexdigest(), "tokenizer": tokens.hexdigest()}


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


def _check_finite(loss: Tensor, step: int) -> None:
    if not bool(torch.isfinite(loss)):
        raise ConfigError(
            f"the loss is {float(loss)} at step {step}; lower optim.lr or optim.clip_norm and start afresh"
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
    """Appends records to a file of JSON lines and hands them on; records after ``start`` are of a lost past."""

    def __init__(self, path: Path, progress: Report | None, start: int) -> None:
        self.path, self.progress = path, progress
        kept = [r for r in read_log(path.parent) if r["step"] <= start] if start and path.exists() else []
        with writing(path.with_suffix(".tmp")):
            path.with_suffix(".tmp").write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
            path.with_suffix(".tmp").replace(path)

    def __call__(self, record: dict[str, Any]) -> None:
        plain = {k: float(v.detach()) if isinstance(v, Tensor) else v for k, v in record.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(plain) + "\n")
        except OSError as error:
            raise CapacityError(f"{self.path} cannot be written ({error.strerror}); make room and resume") from error
        if self.progress is not None:
            self.progress(plain)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a run, in order; a line that a kill cut short is left out."""
    with (folder / "log.jsonl").open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)

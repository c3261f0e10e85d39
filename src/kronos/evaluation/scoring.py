"""From paths and truth to numbers, in jobs of one forecaster on one batch of windows, here or in other processes.

Finished jobs can be kept in a folder, so that an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation import metrics
from kronos.evaluation.baselines import context_rng
from kronos.evaluation.windows import Window
from kronos.files import replacing, write_text
from kronos.protocol import CLOSE, OPEN, FloatArray, Forecaster, WorkEngine, check_paths
from kronos.spec import ForecastSpec

#: Quantile levels of the pinball loss in the long table.
PINBALL_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Windows that are forecast together, and the most work that an interruption can lose per process.
BATCH = 32
KEY = ["forecaster_id", "window_id"]

_made: dict[str, Forecaster] = {}  # in a worker process: what its recipes gave, so that weights are loaded once


@dataclass(frozen=True, eq=False)
class WindowScore:
    """The scores of one forecaster on one window.

    ``steps`` holds one (H,) array per metric; ``whole`` one number per metric. "σ" is the context's one-bar
    volatility; prices enter as logs relative to the last close, divided by σ.
    """

    steps: dict[str, FloatArray]
    whole: dict[str, float]


def score_window(window: Window, paths: FloatArray, seed: int = 0) -> WindowScore:
    """All metrics of one window.

    Args:
        window: context and truth, H bars.
        paths: (S, H, 6) forecast.
        seed: of the random ranks of the PIT, drawn per (seed, context).

    Returns:
        ``steps``: crps [σ], absolute_error [σ], absolute_scaled_error (no unit, mean = MASE on prices),
        pinball_05 … pinball_95 [σ], energy [σ, joint open-high-low-close], hit (0, ½, 1), pit (0–1, NaN for a
        single path), covered_50/80/90 (0, 1), width_50/80/90 [σ], predicted_move and true_move [σ, since the last
        close, predicted = mean path].

        ``whole``: first_gap [σ, median over paths of |ln first open / last close|] and true_first_gap, invalid (share
        of bars), past_move [σ, over the last H bars], volatility (mean over paths) and true_volatility [realised over
        the horizon, log return], variance (mean of the paths' realised variance), context_volatility = σ, num_samples.
    """
    context, truth = window.context, window.truth
    sigma, start = context.volatility(), np.log(context.last_close)
    unit = sigma if sigma > 0 else np.nan
    # volume does not enter: the sample axis goes last, (H, S) and (H, S, 4)
    prices = (np.log(np.moveaxis(paths[..., : CLOSE + 1], 0, 1)) - start) / unit
    real = (np.log(truth[:, : CLOSE + 1]) - start) / unit
    close, true_close = prices[..., CLOSE], real[:, CLOSE]
    rng = context_rng(seed + 1, context)
    steps: dict[str, FloatArray] = {
        "crps": metrics.crps(true_close, close),
        "absolute_error": metrics.absolute_error(true_close, close),
        "absolute_scaled_error": metrics.absolute_error(truth[:, CLOSE], paths[..., CLOSE].T)
        / metrics.mase_scale(context.values[:, CLOSE]),
        "energy": metrics.energy_score(real, prices),
        "hit": metrics.direction_hit(true_close, close),
        "pit": metrics.randomised_pit(true_close, close, rng) if len(paths) > 1 else np.full(len(truth), np.nan),
        "predicted_move": close.mean(axis=1),
        "true_move": true_close,
    }
    quantiles = metrics.sample_quantile(close, PINBALL_LEVELS)
    for column, level in enumerate(PINBALL_LEVELS):
        steps[f"pinball_{round(level * 100):02d}"] = metrics.pinball(true_close, quantiles[:, column], level)
    for level in metrics.LEVELS:
        tag = f"{round(level * 100)}"
        steps[f"covered_{tag}"] = metrics.covered(true_close, close, level)
        steps[f"width_{tag}"] = metrics.interval_width(close, level)
    logs, closes = np.log(paths[..., CLOSE]), np.log(context.values[:, CLOSE])
    volatility = metrics.realised_volatility(np.column_stack([np.full(len(logs), start), logs]))
    whole = {
        "first_gap": np.median(np.abs(prices[0, :, OPEN])),
        "true_first_gap": np.abs(np.log(truth[0, OPEN]) - start) / unit,
        "invalid": metrics.invalid_bars(paths).mean(),
        "past_move": (closes[-1] - closes[-1 - min(len(truth), len(closes) - 1)]) / unit,
        "volatility": volatility.mean(),
        "variance": (volatility**2).mean(),
        "true_volatility": metrics.realised_volatility(np.concatenate([[start], np.log(truth[:, CLOSE])])),
        "context_volatility": sigma,
        "num_samples": len(paths),
    }
    return WindowScore(steps, {name: float(value) for name, value in whole.items()})


def identity(forecaster: Forecaster) -> str:
    """What distinguishes a forecaster's stored scores: its name and, where it has one, its fingerprint."""
    return f"{forecaster.name}|{getattr(forecaster, 'fingerprint', '')}"


def window_id(window: Window, num_samples: int, seed: int) -> str:
    """Digest of everything that a window's scores depend on but the forecaster."""
    digest = hashlib.blake2b(digest_size=12)
    context = window.context
    zone = [] if context.zone is None else [str(context.zone)]
    for text in (window.group, context.symbol, str(num_samples), str(seed), *zone):
        digest.update(text.encode() + b"\0")
    for array in (context.timestamps, context.values, context.future_timestamps, window.truth):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """One forecaster on one batch of windows of equal horizon.

    Args:
        forecaster: None where it is made anew by ``recipe`` in another process.
        identity: of the forecaster that was meant.
    """

    forecaster: Forecaster | None
    name: str
    identity: str
    recipe: Callable[[], Forecaster] | None
    windows: Sequence[Window]
    num_samples: int
    seed: int

    @property
    def portable(self) -> bool:
        """Whether another process can do it: by a recipe, or with a copy of the forecaster."""
        return self.recipe is not None or bool(getattr(self.forecaster, "parallel", False))


def jobs_of(forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int) -> list[ScoringJob]:
    """Batches of at most ``BATCH`` windows of one horizon."""
    runs = [list(run) for _, run in groupby(windows, key=lambda window: len(window.truth))]
    batches = [run[start : start + BATCH] for run in runs for start in range(0, len(run), BATCH)]
    recipe, name = getattr(forecaster, "recipe", None), forecaster.name
    return [ScoringJob(forecaster, name, identity(forecaster), recipe, some, num_samples, seed) for some in batches]


def run_jobs(jobs: Sequence[ScoringJob], workers: int, engine: WorkEngine | None = None) -> Iterator[pd.DataFrame]:
    """Scores of each job as it is finished.

    With an engine, or several workers, portable jobs run there, or in processes of one thread each; then the others
    run here.
    """
    away = [job for job in jobs if job.portable]
    if engine is None and not len(away) > workers > 1:  # starting processes would cost more than it brings
        away = []
    if away:
        packed = [job if job.recipe is None else replace(job, forecaster=None) for job in away]  # without the weights
        yield from _in_processes(packed, workers) if engine is None else engine.map(_worker, packed)
    yield from (score_job(job) for job in jobs if job not in away)


def _worker() -> Callable[[ScoringJob], pd.DataFrame]:
    """A worker of an engine; it loads what its first jobs need."""
    return score_job


def _in_processes(jobs: Sequence[ScoringJob], workers: int) -> Iterator[pd.DataFrame]:
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, get_context("spawn"), _use_one_thread)
    try:
        for future in as_completed([pool.submit(score_job, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # interrupted: what runs is finished, what waits is dropped


def _use_one_thread() -> None:
    """Before torch is imported in a worker: as many processes as cores leave no core for a second thread."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def score_job(job: ScoringJob) -> pd.DataFrame:
    """One row per window and step."""
    forecaster, windows, seed = job.forecaster or _made_here(job), job.windows, job.seed
    contexts, horizon = [window.context for window in windows], len(windows[0].truth)
    before = getattr(forecaster, "fallbacks", 0)
    spec = ForecastSpec(horizon=horizon, num_samples=job.num_samples, seed=seed)
    answer = check_paths(forecaster.sample_paths(contexts, spec), contexts, horizon, forecaster.name)
    fell_back = getattr(forecaster, "fallbacks", 0) - before
    nats_of = getattr(forecaster, "nats", None)  # called only after the forecast is in
    tables = []
    for window, paths in zip(windows, answer, strict=True):
        score = score_window(window, paths, seed)
        columns: dict[str, Any] = {
            "group": window.group,
            "symbol": window.context.symbol,
            "date": window.date,
            "cutoff": window.context.cutoff,
            "timestamp": window.context.future_timestamps,
            "step": np.arange(1, horizon + 1),
            "forecaster": forecaster.name,
            "forecaster_id": job.identity,
            "window_id": window_id(window, job.num_samples, seed),
            **score.steps,
            "nats": np.full(horizon, np.nan) if nats_of is None else nats_of(window.context, window.truth),
            **score.whole,
            "fallback": fell_back / len(windows),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _made_here(job: ScoringJob) -> Forecaster:
    """In a worker: a forecaster made by its recipe, once."""
    if job.identity not in _made:
        assert job.recipe is not None
        forecaster = job.recipe()
        forecaster.name = job.name
        if identity(forecaster) != job.identity:
            raise ConfigError(
                f"forecaster {job.name!r} was changed after it was loaded, or its checkpoint is another one on the "
                "worker's machine, so it cannot be made anew there; set its recipe to None, or use one worker"
            )
        _made[job.identity] = forecaster
    return _made[job.identity]


class ResultStore:
    """Rows of scores in a folder of Parquet parts, or in memory where no folder is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._parts: list[pd.DataFrame] = []
        self._number = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            paths = sorted(folder.glob("part-*.parquet"))
            self._parts = [pd.read_parquet(path) for path in paths]
            self._number = max((int(path.stem.split("-")[1]) for path in paths), default=0)

    def done(self) -> set[tuple[str, str]]:
        """(forecaster_id, window_id) of everything that is stored."""
        unique = (part[KEY].drop_duplicates() for part in self._parts)
        return {pair for part in unique for pair in part.itertuples(index=False, name=None)}

    def add(self, rows: pd.DataFrame) -> None:
        """Keep a part; on disk it appears at once and whole."""
        self._parts.append(rows)
        if self._folder is not None:
            self._number += 1
            with replacing(self._folder / f"part-{self._number:06d}.parquet") as part:
                rows.to_parquet(part, index=False, compression="zstd")

    def read(self, forecaster_ids: list[str], window_ids: list[str]) -> pd.DataFrame:
        """All rows of the wanted forecasters and windows."""
        if not self._parts:
            return pd.DataFrame(columns=KEY)
        rows = pd.concat(self._parts, ignore_index=True)
        wanted = rows["forecaster_id"].isin(forecaster_ids) & rows["window_id"].isin(window_ids)
        return rows[wanted].drop_duplicates([*KEY, "step"]).reset_index(drop=True)

    def figures(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Figures that belong to a set of windows as a whole: those kept under a key, or new ones, kept from now on."""
        path = None if self._folder is None else self._folder / f"figures-{key}.json"
        if path is not None and path.exists():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        made = make()
        if path is not None:
            write_text(path, json.dumps(made))  # NaN stays NaN
        return made

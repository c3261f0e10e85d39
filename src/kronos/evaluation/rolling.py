"""Rolling evaluation: many cutoffs, many symbols, many forecasters, one long table of scores.

Work is done in jobs of one forecaster on one batch of windows, here or in other processes. Finished jobs can be kept
in a folder, so that an interrupted evaluation goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation import metrics
from kronos.evaluation.drawing import context_rng
from kronos.evaluation.touches import touch_scores
from kronos.evaluation.training_dates import LeakWarning, warn_of_leaks
from kronos.evaluation.windows import BarsInput, Window, as_series, common_cutoffs, required_windows, rolling_windows
from kronos.files import digest, replacing, write_text
from kronos.protocol import CLOSE, OPEN, FloatArray, Forecaster, Progress, WorkEngine, are_mirrors, check_paths
from kronos.spec import ForecastSpec

__all__ = ["LeakWarning", "as_series", "common_cutoffs", "cross_validate", "rolling_windows", "score_windows"]

#: Quantile levels of the pinball loss in the long table.
PINBALL_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Of what is scored: scores that an earlier version stored are not gone on with.
SCORES = 2
#: Windows that are forecast together, and the most work that an interruption can lose per process.
BATCH = 32
KEY = ["forecaster_id", "window_id"]

_made: dict[str, Forecaster] = {}  # in a worker process: what its recipes gave, so that weights are loaded once


class WindowScore(NamedTuple):
    """The scores of one forecaster on one window: (H,) arrays by metric, and one number a metric."""

    steps: dict[str, FloatArray]
    whole: dict[str, float]


def score_window(window: Window, paths: FloatArray, seed: int = 0) -> WindowScore:
    """All metrics of one window.

    "σ" is the context's one-bar volatility; prices enter as logs relative to the last close, divided by σ.

    Args:
        window: context and truth, H bars.
        paths: (S, H, 6) forecast; mirrored paths (see :mod:`kronos.evaluation.metrics`) are told by themselves.
        seed: of the random ranks of the PIT, drawn per (seed, context).

    Returns:
        ``steps``: crps [σ], absolute_error [σ], absolute_scaled_error (no unit, mean = MASE on prices),
        pinball_05 … pinball_95 [σ], energy [σ, joint open-high-low-close], hit (0, ½, 1), pit (0–1, NaN for a
        single path), covered_50/80/90 (0, 1), width_50/80/90 [σ], predicted_move and true_move [σ, since the last
        close, predicted = mean path].

        ``whole``: first_gap [σ, median over paths of |ln first open / last close|] and true_first_gap, invalid (share
        of bars), past_move [σ, over the last H bars], volatility (mean over paths) and true_volatility [realised over
        the horizon, log return], variance (mean of the paths' realised variance), context_volatility = σ, num_samples,
        and what :func:`~kronos.evaluation.touches.touch_scores` says of barriers.
    """
    context, truth = window.context, window.truth
    sigma, start = context.volatility(), np.log(context.last_close)
    unit = sigma if sigma > 0 else np.nan
    # volume does not enter: the sample axis goes last, (H, S) and (H, S, 4)
    prices = (np.log(np.moveaxis(paths[..., : CLOSE + 1], 0, 1)) - start) / unit
    real = (np.log(truth[:, : CLOSE + 1]) - start) / unit
    close, true_close = prices[..., CLOSE], real[:, CLOSE]
    mirrored, ranked, quoted = are_mirrors(close.T, unit), close, paths[..., CLOSE].T  # as ranks and medians take them
    if mirrored:
        ranked, quoted = metrics.with_centre(close), metrics.with_centre(quoted, context.last_close)
    rng, scale = context_rng(seed + 1, context), metrics.mase_scale(context.values[:, CLOSE])
    steps: dict[str, FloatArray] = {
        "crps": metrics.crps(true_close, close, mirrored=mirrored),
        "absolute_error": metrics.absolute_error(true_close, ranked),
        "absolute_scaled_error": metrics.absolute_error(truth[:, CLOSE], quoted) / scale,
        "energy": metrics.energy_score(real, prices, mirrored=mirrored),
        "hit": metrics.direction_hit(true_close, ranked),
        "pit": metrics.randomised_pit(true_close, ranked, rng) if len(paths) > 1 else np.full(len(truth), np.nan),
        "predicted_move": np.zeros(len(truth)) if mirrored else close.mean(axis=1),
        "true_move": true_close,
    }
    for level, quantile in zip(PINBALL_LEVELS, metrics.sample_quantile(ranked, PINBALL_LEVELS).T, strict=True):
        steps[f"pinball_{round(level * 100):02d}"] = metrics.pinball(true_close, quantile, level)
    for level in metrics.LEVELS:
        steps[f"covered_{level * 100:.0f}"] = metrics.covered(true_close, ranked, level)
        steps[f"width_{level * 100:.0f}"] = metrics.interval_width(ranked, level)
    whole = _whole(window, paths, prices, real)
    return WindowScore(steps, {name: float(value) for name, value in whole.items()})


def _whole(window: Window, paths: FloatArray, prices: FloatArray, real: FloatArray) -> dict[str, Any]:
    """What :func:`score_window` says of the whole window; prices (H, S, 4) and real ones (H, 4) in its units."""
    context, truth = window.context, window.truth
    sigma, start = context.volatility(), np.log(context.last_close)
    unit = sigma if sigma > 0 else np.nan
    logs, closes = np.log(paths[..., CLOSE]), np.log(context.values[:, CLOSE])
    volatility = metrics.realised_volatility(np.column_stack([np.full(len(logs), start), logs]))
    return {
        "first_gap": np.median(np.abs(prices[0, :, OPEN])),
        "true_first_gap": np.abs(real[0, OPEN]),
        "invalid": metrics.invalid_bars(paths).mean(),
        "past_move": (closes[-1] - closes[-1 - min(len(truth), len(closes) - 1)]) / unit,
        "volatility": volatility.mean(),
        "variance": (volatility**2).mean(),
        "true_volatility": metrics.realised_volatility(np.concatenate([[start], np.log(truth[:, CLOSE])])),
        "context_volatility": sigma,
        "num_samples": len(paths),
        **touch_scores(context, truth, paths),
    }


def identity(forecaster: Forecaster) -> str:
    """What distinguishes a forecaster's stored scores: its name and, where it has one, its fingerprint."""
    return f"{forecaster.name}|{getattr(forecaster, 'fingerprint', '')}"


def window_id(window: Window, num_samples: int, seed: int) -> str:
    """Digest of everything that a window's scores depend on but the forecaster."""
    context = window.context
    arrays = (context.timestamps, context.values, context.future_timestamps, window.truth)
    return digest(SCORES, window.group, context.symbol, num_samples, seed, str(context.zone), *arrays, size=12)


@dataclass(frozen=True, eq=False)
class ScoringJob:
    """One forecaster on one batch of windows of equal horizon."""

    forecaster: Forecaster | None  # None where it is made anew by ``recipe`` in another process
    name: str
    identity: str  # of the forecaster that was meant
    recipe: Callable[[], Forecaster] | None
    windows: Sequence[Window]
    num_samples: int
    seed: int


def run_jobs(jobs: Sequence[ScoringJob], workers: int, engine: WorkEngine | None = None) -> Iterator[pd.DataFrame]:
    """Scores of each job as it is finished.

    With an engine, or several workers, jobs that another process can do run there, or in processes of one thread each:
    those with a recipe, or with a forecaster that may be copied. Then the others run here.
    """
    away = [job for job in jobs if job.recipe is not None or getattr(job.forecaster, "parallel", False)]
    if engine is None and not len(away) > workers > 1:  # starting processes would cost more than it brings
        away = []
    packed = [job if job.recipe is None else replace(job, forecaster=None) for job in away]  # without the weights
    if packed and engine is not None:
        yield from engine.map(_worker, packed)
    elif packed:
        pool, whole = ProcessPoolExecutor(workers, get_context("spawn"), _alone), False
        try:
            for future in as_completed([pool.submit(score_job, job) for job in packed]):
                yield future.result()
            whole = True
        finally:
            if not whole:  # interrupted: a batch may take minutes, and is done again
                for process in list((getattr(pool, "_processes", None) or {}).values()):
                    process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
    yield from (score_job(job) for job in jobs if job not in away)


def _worker() -> Callable[[ScoringJob], pd.DataFrame]:
    """A worker of an engine; it loads what its first jobs need."""
    return score_job


def _alone() -> None:
    """Before torch is imported in a worker: one thread, as there are as many processes as cores; and no Ctrl-C, which
    a terminal sends to all of a command's processes: the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        self._folder, self._number = folder, 0
        self._parts: list[pd.DataFrame] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            paths = sorted(folder.glob("part-*.parquet"))
            self._parts = [pd.read_parquet(path) for path in paths]
            self._number = max((int(path.stem.split("-")[1]) for path in paths), default=0)

    def done(self) -> set[tuple[str, str]]:
        """(forecaster_id, window_id) of everything that is stored."""
        return {pair for part in self._parts for pair in part[KEY].drop_duplicates().itertuples(index=False, name=None)}

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


def score_windows(
    windows: Sequence[Window],
    forecasters: Sequence[Forecaster],
    num_samples: int = 50,
    seed: int = 0,
    *,
    store: ResultStore | None = None,
    workers: int = 1,
    engine: WorkEngine | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Scores of every forecaster on every window: one row per (forecaster, window, step).

    Args:
        windows: test windows; horizons may differ.
        forecasters: their names must differ.
        num_samples, seed: given to every forecaster.
        store: where finished batches are kept; what it holds already is not computed again.
        workers: processes of one thread each, for forecasters that can be copied or made anew there (baselines,
            checkpoints on the CPU); others run in this process.
        engine: computes those instead of processes.
        progress: called with (done, total) pairs of (forecaster, window).

    Returns:
        The long table. Columns: group, symbol, date (the common cutoff), cutoff (the context's last bar), timestamp,
        step (1…H), forecaster, the step metrics of :func:`score_window`, and its whole-window numbers repeated on
        each step.
    """
    names = [forecaster.name for forecaster in forecasters]
    if len(set(names)) != len(names):
        raise ConfigError(f"forecasters need different names, found {', '.join(names)}")
    store = ResultStore() if store is None else store
    ids = {id(window): window_id(window, num_samples, seed) for window in windows}
    ready, jobs, left = store.done(), [], 0
    for one, key in ((one, identity(one)) for one in forecasters):
        missing = [window for window in windows if (key, ids[id(window)]) not in ready]
        left += len(missing)
        for run in (list(same) for _, same in groupby(missing, key=lambda window: len(window.truth))):
            batches = (run[start : start + BATCH] for start in range(0, len(run), BATCH))
            recipe = getattr(one, "recipe", None)
            jobs += [ScoringJob(one, one.name, key, recipe, batch, num_samples, seed) for batch in batches]
    total = len(windows) * len(forecasters)
    for rows in run_jobs(jobs, workers, engine):
        store.add(rows)
        left -= int((rows["step"] == 1).sum())
        if progress is not None:
            progress(total - left, total)
    table = store.read([identity(one) for one in forecasters], list(ids.values()))
    if table.empty:
        return table
    order = ["forecaster", "date", "group", "symbol", "step"]
    place = {name: number for number, name in enumerate(names)}  # forecasters as given, the rest by value
    return table.sort_values(
        order, key=lambda x: x.map(place) if x.name == "forecaster" else x, kind="stable", ignore_index=True
    )


def cross_validate(
    bars: BarsInput,
    forecasters: Sequence[Forecaster],
    horizon: int,
    *,
    context: int = 256,
    num_samples: int = 50,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Rolling evaluation of forecasters on bars.

    Every forecaster sees, at each cutoff and for each symbol, a read-only copy of the last ``context`` bars, and is
    scored on the ``horizon`` bars that follow.

    Args:
        num_samples, seed, workers, progress: as for :func:`score_windows`.
        how: ``n_windows`` or ``cutoffs``, ``step``, ``after``, ``embargo``, as for :func:`rolling_windows`.

    Returns:
        The long table of :func:`score_windows`: symbol, cutoff, step, forecaster, metrics.

    Raises:
        DataError: no window fits; the message says why candidates were refused.

    Example:
        >>> table = cross_validate(bars, make_baselines(["ewma", "garch"]), 24, n_windows=20)
        >>> table.groupby("forecaster")["crps"].mean()
    """
    windows, _ = required_windows(bars, context, horizon, **how)
    warn_of_leaks(forecasters, windows)
    return score_windows(windows, forecasters, num_samples, seed, workers=workers, progress=progress)

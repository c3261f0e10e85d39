"""The work of an evaluation in pieces: one forecaster on one batch of windows, here or in other processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation.protocol import Forecaster, check_paths
from kronos.evaluation.scoring import score_window
from kronos.evaluation.store import window_id
from kronos.evaluation.windows import Window

#: Windows that are forecast together, and the most work that an interruption can lose per process.
BATCH = 32
Job = tuple[Forecaster, list[Window]]

_made: dict[str, Forecaster] = {}  # in a worker process: what its recipes gave, so that weights are loaded once


def identity(forecaster: Forecaster) -> str:
    """What distinguishes a forecaster's stored scores: its name and, where it has one, its fingerprint."""
    return f"{forecaster.name}|{getattr(forecaster, 'fingerprint', '')}"


def score_batch(forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int) -> pd.DataFrame:
    """Forecast one batch of windows of equal horizon and score it: one row per window and step."""
    contexts = [window.context for window in windows]
    horizon = len(windows[0].truth)
    fell_back = getattr(forecaster, "fallbacks", 0)
    answer = check_paths(forecaster.forecast(contexts, horizon, num_samples, seed), contexts, horizon, forecaster.name)
    fell_back = getattr(forecaster, "fallbacks", 0) - fell_back
    tables = []
    nats_of = getattr(forecaster, "nats", None)  # asked only after the forecast is in
    for window, paths in zip(windows, answer, strict=True):
        score = score_window(window, paths, seed)
        score.steps["nats"] = np.full(horizon, np.nan) if nats_of is None else nats_of(window.context, window.truth)
        table = pd.DataFrame(
            {
                "group": window.group,
                "symbol": window.context.symbol,
                "date": window.date,
                "cutoff": window.context.cutoff,
                "timestamp": window.context.future_timestamps,
                "step": np.arange(1, horizon + 1),
                "forecaster": forecaster.name,
                "forecaster_id": identity(forecaster),
                "window_id": window_id(window, num_samples, seed),
            }
        )
        columns: dict[str, Any] = {**score.steps, **score.whole, "fallback": fell_back / len(windows)}
        tables.append(pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1))
    return pd.concat(tables, ignore_index=True)


def batches(windows: Sequence[Window], size: int = BATCH) -> Iterator[list[Window]]:
    """Runs of windows of one horizon, at most ``size`` long."""
    batch: list[Window] = []
    for window in windows:
        if batch and (len(batch) == size or len(window.truth) != len(batch[0].truth)):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def score_jobs(jobs: Sequence[Job], num_samples: int, seed: int, workers: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Scores of each job as it is finished, and its number of windows.

    With several workers, jobs whose forecaster can travel run in processes of one thread each; then the others run
    here.
    """
    travelling = [job for job in jobs if workers > 1 and _travels(job[0])]
    if len(travelling) <= workers:  # starting processes would cost more than it brings
        travelling = []
    yield from _in_processes(travelling, num_samples, seed, workers)
    gone = {id(batch) for _, batch in travelling}
    for forecaster, batch in jobs:
        if id(batch) not in gone:
            yield score_batch(forecaster, batch, num_samples, seed), len(batch)


def _travels(forecaster: Forecaster) -> bool:
    return getattr(forecaster, "recipe", None) is not None or bool(getattr(forecaster, "parallel", False))


def _in_processes(jobs: Sequence[Job], num_samples: int, seed: int, workers: int) -> Iterator[tuple[pd.DataFrame, int]]:
    if not jobs:
        return
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread)
    try:
        running = {}
        for forecaster, batch in jobs:
            recipe = getattr(forecaster, "recipe", None)
            if recipe is None:
                future = pool.submit(score_batch, forecaster, batch, num_samples, seed)
            else:
                future = pool.submit(
                    _score_made, recipe, forecaster.name, identity(forecaster), batch, num_samples, seed
                )
            running[future] = len(batch)
        for future in as_completed(running):
            yield future.result(), running[future]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # interrupted: what runs is finished, what waits is dropped


def _use_one_thread() -> None:
    """Before torch is imported in a worker: as many processes as cores leave no core for a second thread."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _score_made(
    recipe: Callable[[], Forecaster], name: str, who: str, batch: Sequence[Window], num_samples: int, seed: int
) -> pd.DataFrame:
    """In a worker process: a batch by a forecaster made there."""
    if who not in _made:
        forecaster = recipe()
        forecaster.name = name
        if identity(forecaster) != who:
            raise ConfigError(
                f"forecaster {name!r} was changed after it was loaded, so it cannot be made anew in another process; "
                "set its recipe to None, or use one worker"
            )
        _made[who] = forecaster
    return score_batch(_made[who], batch, num_samples, seed)

"""The work of an evaluation in pieces: one forecaster on one batch of windows, here or in other processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation.scoring import score_window
from kronos.evaluation.store import window_id
from kronos.evaluation.windows import Window
from kronos.protocol import Forecaster, check_paths
from kronos.spec import ForecastSpec

#: Windows that are forecast together, and the most work that an interruption can lose per process.
BATCH = 32
Job = tuple[Forecaster, list[Window]]
P = TypeVar("P")
R = TypeVar("R")


class Engine(Protocol):
    """Computes pieces of work elsewhere, in any order; ``kronos.scale`` has some."""

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """The results of all pieces as they are finished; ``make`` builds a worker."""
        ...


_made: dict[str, Forecaster] = {}  # in a worker process: what its recipes gave, so that weights are loaded once


def identity(forecaster: Forecaster) -> str:
    """What distinguishes a forecaster's stored scores: its name and, where it has one, its fingerprint."""
    return f"{forecaster.name}|{getattr(forecaster, 'fingerprint', '')}"


def score_batch(forecaster: Forecaster, windows: Sequence[Window], num_samples: int, seed: int) -> pd.DataFrame:
    """Forecast one batch of windows of equal horizon and score it: one row per window and step."""
    contexts = [window.context for window in windows]
    horizon = len(windows[0].truth)
    fell_back = getattr(forecaster, "fallbacks", 0)
    spec = ForecastSpec(horizon=horizon, num_samples=num_samples, seed=seed)
    answer = check_paths(forecaster.sample_paths(contexts, spec), contexts, horizon, forecaster.name)
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


def score_jobs(
    jobs: Sequence[Job], num_samples: int, seed: int, workers: int, engine: Engine | None = None
) -> Iterator[tuple[pd.DataFrame, int]]:
    """Scores of each job as it is finished, and its number of windows.

    With an engine, or several workers, jobs whose forecaster can travel run there, or in processes of one thread each;
    then the others run here.
    """
    able = sum(_travels(forecaster) for forecaster, _ in jobs)
    worth = engine is not None or able > workers > 1  # else starting processes would cost more than it brings
    away: list[Piece] = []
    here: list[Piece] = []
    for forecaster, windows in jobs:
        leaves = worth and _travels(forecaster)
        (away if leaves else here).append(Piece.of(forecaster, windows, num_samples, seed, here=not leaves))
    if away:
        yield from _in_processes(away, workers) if engine is None else engine.map(_scorer, away)
    yield from map(score_piece, here)


@dataclass(frozen=True)
class Piece:
    """A job as it travels: with the recipe of its forecaster, or the forecaster itself where that is small or stays."""

    recipe: Callable[[], Forecaster] | None
    forecaster: Forecaster | None
    name: str
    identity: str
    windows: list[Window]
    num_samples: int
    seed: int

    @classmethod
    def of(cls, forecaster: Forecaster, windows: list[Window], num_samples: int, seed: int, *, here: bool) -> Piece:
        """``here``: it is not going to travel."""
        recipe = None if here else getattr(forecaster, "recipe", None)
        own = forecaster if recipe is None else None
        return cls(recipe, own, forecaster.name, identity(forecaster), windows, num_samples, seed)


def score_piece(piece: Piece) -> tuple[pd.DataFrame, int]:
    """Scores of a piece and its number of windows, wherever it has come to."""
    forecaster = piece.forecaster or _made_here(piece)
    return score_batch(forecaster, piece.windows, piece.num_samples, piece.seed), len(piece.windows)


def _scorer() -> Callable[[Piece], tuple[pd.DataFrame, int]]:
    """A worker of an engine; it loads what its first pieces need."""
    return score_piece


def _travels(forecaster: Forecaster) -> bool:
    return getattr(forecaster, "recipe", None) is not None or bool(getattr(forecaster, "parallel", False))


def _in_processes(pieces: Sequence[Piece], workers: int) -> Iterator[tuple[pd.DataFrame, int]]:
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_use_one_thread)
    try:
        for future in as_completed([pool.submit(score_piece, piece) for piece in pieces]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # interrupted: what runs is finished, what waits is dropped


def _use_one_thread() -> None:
    """Before torch is imported in a worker: as many processes as cores leave no core for a second thread."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _made_here(piece: Piece) -> Forecaster:
    """In a worker: a forecaster made of its recipe, once."""
    if piece.identity not in _made:
        assert piece.recipe is not None
        forecaster = piece.recipe()
        forecaster.name = piece.name
        if identity(forecaster) != piece.identity:
            raise ConfigError(
                f"forecaster {piece.name!r} was changed after it was loaded, or its checkpoint is another one on the "
                "worker's machine, so it cannot be made anew there; set its recipe to None, or use one worker"
            )
        _made[piece.identity] = forecaster
    return _made[piece.identity]

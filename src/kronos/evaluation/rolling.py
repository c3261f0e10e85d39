"""Rolling evaluation: many cutoffs, many symbols, many forecasters, one long table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kronos.errors import ConfigError
from kronos.evaluation.scoring import ResultStore, ScoringJob, identity, jobs_of, run_jobs, window_id
from kronos.evaluation.windows import (
    NO_TIME,
    BarsInput,
    Window,
    as_series,
    common_cutoffs,
    required_windows,
    rolling_windows,
)
from kronos.protocol import Forecaster, Progress, WorkEngine

__all__ = ["LeakWarning", "as_series", "common_cutoffs", "cross_validate", "rolling_windows", "score_windows"]


class LeakWarning(UserWarning):
    """A test date lies before the end of a forecaster's training: its scores may be remembered, not forecast."""


def training_end(forecaster: Forecaster, market: str) -> np.datetime64[Any] | None:
    """The last date of what a forecaster was trained on, as far as a market is concerned; None: it states none.

    Where ``training_cutoffs`` gives dates by group, those of the same market count (the name up to its last
    underscore: ``crypto_1h`` and ``crypto_15m`` share their moves), and those of groups that name no market: what the
    weights started from, and bars known by their size alone (``1d``), which may be of any. A market that is not among
    the groups, or none that is named, gets ``training_cutoff``, the latest of all.
    """
    by_group = getattr(forecaster, "training_cutoffs", None) or {}
    name, named, _ = market.rpartition("_")
    same = [date for group, date in by_group.items() if named and group.rpartition("_")[0] == name]
    if same:
        return np.datetime64(max([*same, *(date for group, date in by_group.items() if "_" not in group)]))
    end = getattr(forecaster, "training_cutoff", None)
    return None if end is None else np.datetime64(end)


def warn_of_leaks(forecasters: Sequence[Forecaster], windows: Sequence[Window]) -> list[str]:
    """One sentence, and a :class:`LeakWarning`, for each forecaster whose training reaches into the test dates.

    A forecaster states the end of its training in an attribute ``training_cutoff`` (datetime64), and by market in
    ``training_cutoffs``. One whose attribute is None was trained, but says not until when: that is noted too. One
    without the attribute makes no claim and gets no warning.
    """
    notes = []
    for forecaster in forecasters:
        if not windows or not hasattr(forecaster, "training_cutoff"):
            continue
        ends = {market: training_end(forecaster, market) for market in {w.group for w in windows}}
        first_dates = [(ends[w.group], w.context.future_timestamps[0], w.group) for w in windows]
        early = [(end, group) for end, first, group in first_dates if end is not None and first <= end]
        if early:
            last = np.datetime_as_string(max(end for end, _ in early), unit="D")
            where = ", ".join(sorted({group for _, group in early} - {""}))
            notes.append(
                f"{forecaster.name} was trained on bars up to {last}: {len(early)} of {len(windows)} test windows "
                f"begin before{f' ({where})' if where else ''}; their scores may be memory, not skill"
            )
        elif all(end is None for end in ends.values()):
            notes.append(
                f"{forecaster.name} does not state until when it was trained: nobody can say which of the test windows "
                "it has seen"
            )
        else:
            continue
        warnings.warn(notes[-1], LeakWarning, stacklevel=2)
    return notes


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
        step (1…H), forecaster, the step metrics of :func:`~kronos.evaluation.scoring.score_window`, and its
        whole-window numbers repeated on each step.
    """
    names = [forecaster.name for forecaster in forecasters]
    if len(set(names)) != len(names):
        raise ConfigError(f"forecasters need different names, found {', '.join(names)}")
    store = ResultStore() if store is None else store
    ids = {id(window): window_id(window, num_samples, seed) for window in windows}
    ready, total = store.done(), len(windows) * len(forecasters)
    jobs: list[ScoringJob] = []
    for one in forecasters:
        jobs += jobs_of(one, [w for w in windows if (identity(one), ids[id(w)]) not in ready], num_samples, seed)
    done = total - sum(len(job.windows) for job in jobs)
    for rows in run_jobs(jobs, workers, engine):
        store.add(rows)
        done += int((rows["step"] == 1).sum())
        if progress is not None:
            progress(done, total)
    table = store.read([identity(f) for f in forecasters], list(ids.values()))
    if table.empty:
        return table
    table = table.assign(_order=table["forecaster"].map(names.index))
    ordered = table.sort_values(["_order", "date", "group", "symbol", "step"], kind="stable", ignore_index=True)
    return ordered.drop(columns="_order")


def cross_validate(
    bars: BarsInput,
    forecasters: Sequence[Forecaster],
    horizon: int,
    *,
    n_windows: int | None = None,
    cutoffs: Sequence[Any] | None = None,
    step: int | None = None,
    context: int = 256,
    after: np.datetime64[Any] | None = None,
    embargo: np.timedelta64 = NO_TIME,
    num_samples: int = 50,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Rolling evaluation of forecasters on bars.

    Every forecaster sees, at each cutoff and for each symbol, a read-only copy of the last ``context`` bars, and is
    scored on the ``horizon`` bars that follow. Arguments are those of :func:`rolling_windows` and
    :func:`score_windows`.

    Returns:
        The long table of :func:`score_windows`: symbol, cutoff, step, forecaster, metrics.

    Raises:
        DataError: no window fits; the message says why candidates were refused.

    Example:
        >>> table = cross_validate(bars, make_baselines(["ewma", "garch"]), 24, n_windows=20)
        >>> table.groupby("forecaster")["crps"].mean()
    """
    windows, _ = required_windows(
        bars, context, horizon, n_windows=n_windows, cutoffs=cutoffs, step=step, after=after, embargo=embargo
    )
    warn_of_leaks(forecasters, windows)
    return score_windows(windows, forecasters, num_samples, seed, workers=workers, progress=progress)

"""Times as frames that other libraries' models take: known and future covariates from the trading calendar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kronos.bars.arrays import time_features
from kronos.bars.schema import TIME_FEATURES
from kronos.errors import DataError
from kronos.protocol import NAMELESS

COVARIATES = (*TIME_FEATURES, "days_since_last")
"""What a calendar says of a bar beforehand: its clock and date, and the days since the bar before."""


def with_timestamps(history: Any) -> Any:
    """A history as it is where it carries its times plainly; what only ``read_bars`` understands as a bars table.

    Those are rows (as of ccxt), dicts, tables of other libraries, and frames under other names; ``ds`` with or without
    ``unique_id`` is taken for what it says, even without prices beside it.
    """
    if isinstance(history, pd.DataFrame):
        if "timestamp" in history.columns:
            plain = not pd.api.types.is_numeric_dtype(history["timestamp"].dtype)
        elif "ds" in history.columns and pd.api.types.is_datetime64_any_dtype(history["ds"].dtype):
            names = {"ds": "timestamp", "unique_id": "symbol"}
            return history[[name for name in names if name in history.columns]].rename(columns=names)
        else:
            plain = isinstance(history.index, pd.DatetimeIndex)
    elif isinstance(history, (list, tuple)):
        plain = not history or not isinstance(history[0], (list, tuple, Mapping))
    else:
        plain = not isinstance(history, Mapping) and not hasattr(history, "columns")
    if plain:
        return history
    from kronos.bars.reading import read_bars  # the readers look at calendars themselves

    return read_bars(history)


def by_series(history: Any) -> dict[str, Any]:
    """The times of each series of a bars table by symbol; of anything else, and of one without symbols, one series."""
    if isinstance(history, pd.DataFrame) and "symbol" in history.columns:
        return {str(name): rows["timestamp"] for name, rows in history.groupby("symbol", sort=False, observed=True)}
    return {NAMELESS: history}


def nixtla_frame(series: Mapping[str, tuple[pd.DatetimeIndex, pd.Timestamp | None]]) -> pd.DataFrame:
    """``unique_id, ds`` and ``COVARIATES``, one row a bar: of each series its times and the time of the bar before.

    ``ds`` is wall time, as the series writes it. Of a first bar that none precedes the commonest step stands in.
    """
    frames = []
    for name, (times, before) in series.items():
        known = times if before is None else times.insert(0, before)
        days = np.diff(known.as_unit("ns").asi8) / 86_400e9
        if before is None:
            days = np.insert(days, 0, np.median(days) if len(days) else 0.0)
        columns = dict(zip(TIME_FEATURES, time_features(times).T, strict=True))
        frame = pd.DataFrame({"unique_id": name, "ds": times.tz_localize(None), **columns})
        frames.append(frame.assign(days_since_last=days))
    return pd.concat(frames, ignore_index=True)


def calendar_covariates(bars: pd.DataFrame) -> pd.DataFrame:
    """Of the bars so far, the frame that ``future_timestamps(layout="nixtla")`` gives of those to come.

    Args:
        bars: a bars table, of one symbol or of many.

    Raises:
        DataError: no ``timestamp`` column.
    """
    if "timestamp" not in bars.columns:
        raise DataError(f"A bars table has the column timestamp; this one has {', '.join(map(str, bars.columns))}.")
    found = by_series(bars) if "symbol" in bars.columns else {NAMELESS: bars["timestamp"]}
    return nixtla_frame({name: (pd.DatetimeIndex(times), None) for name, times in found.items()})

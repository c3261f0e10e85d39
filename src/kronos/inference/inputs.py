"""From a caller's table to what the engine reads: one series, checked, cut, with the times of its future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar import future_times
from kronos.bars.reading import as_bars, read_bars
from kronos.bars.schema import to_table
from kronos.errors import DataError, KronosError
from kronos.protocol import FEATURES
from kronos.spec import ForecastSpec

CALENDAR_BARS = 4096  # enough history to recognise a calendar by; more only costs time


@dataclass(frozen=True)
class PastBars:
    """The context of one series.

    Attributes:
        symbol: its name, if it has one.
        bars: the context as a bars table, cut to what the model reads.
        times: timestamps of the whole history.
    """

    symbol: str | None
    bars: pd.DataFrame
    times: pd.DatetimeIndex

    @property
    def context_times(self) -> pd.DatetimeIndex:
        """(T,) of the context alone."""
        return self.times[-len(self.bars) :]

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """(T, 6) in the order of ``FEATURES``."""
        return self.bars[list(FEATURES)].to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class ForecastTimes:
    """The times of the bars to come."""

    times: pd.DatetimeIndex
    calendar: str
    frequency: str | None = None
    estimated: int = 0  # how many lie beyond the calendar's end
    notes: tuple[str, ...] = ()


def past_bars(table: Any, least: int, most: int | None = None, name: str | None = None) -> PastBars:
    """Checks a table of one symbol and keeps its last bars.

    Args:
        least: refuse fewer bars.
        most: bars to keep; None: all.
        name: what to call the series, over what the table says.

    Raises:
        DataError: no bars, defective bars, several symbols, or too few bars.
    """
    bars = as_bars(table)
    if bars is None:
        bars = read_bars(table)
    symbols: list[object] = list(bars["symbol"].unique()) if "symbol" in bars.columns else []
    if len(symbols) > 1:
        raise DataError(
            f"the table holds {len(symbols)} symbols ({', '.join(map(str, symbols[:3]))} …); forecast one of them, "
            "or all with forecast_many"
        )
    symbol = name if name is not None else str(symbols[0]) if len(symbols) else None
    if len(bars) < least:
        label = f"'{symbol}' has" if symbol else "the table has"
        count = f"{len(bars)} bar{'s' * (len(bars) != 1)}"
        raise DataError(f"{label} {count}; this model needs at least {least} as context")
    context = bars if most is None or len(bars) <= most else bars.iloc[-most:].reset_index(drop=True)
    return PastBars(symbol, context, pd.DatetimeIndex(bars["timestamp"]))


def future_of(past: PastBars, spec: ForecastSpec, given: Any = None) -> ForecastTimes:
    """The next timestamps: those given, or the calendar's."""
    if given is not None:
        return ForecastTimes(_given_times(given, spec.horizon, past.times[-1]), "given")
    known = past.times[-CALENDAR_BARS:]
    found = future_times(known, spec.horizon, spec.calendar, spec.frequency, spec.stamp, past.symbol)
    estimated = int(np.count_nonzero(found.estimated))
    return ForecastTimes(found.timestamps, found.calendar, found.frequency, estimated, tuple(found.notes))


def _given_times(given: Any, horizon: int, cutoff: pd.Timestamp) -> pd.DatetimeIndex:
    times = as_times(given, "future")
    if len(times) != horizon:
        raise DataError(f"future has {len(times)} timestamps for a horizon of {horizon} bars; give one a bar")
    if (times.tz is None) != (cutoff.tz is None):
        raise DataError("future and the bars must both have a time zone, or neither")
    if not times.is_monotonic_increasing or not times.is_unique or times[0] <= cutoff:
        raise DataError(f"future must increase and start after the last bar ({cutoff})")
    return times


def as_times(given: Any, name: str) -> pd.DatetimeIndex:
    """A Series, index, array or list of times as an index; what is no time is refused with its position."""
    try:
        times = pd.DatetimeIndex(pd.Series(given).to_numpy() if not isinstance(given, pd.Series | pd.Index) else given)
    except (TypeError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{name} holds something that is no timestamp: {str(error)[:120]}") from error
    if times.hasnans:
        position = int(np.flatnonzero(times.isna())[0])
        raise DataError(f"{name} has no timestamp at position {position}")
    return times


# -- many series ------------------------------------------------------------------------------------------------------


def tables_of(source: Any) -> list[tuple[str, Any]]:
    """(name, table) of every series of a mapping or of a long table with a ``symbol`` column, in input order."""
    if isinstance(source, Mapping):
        found = [(str(name), table) for name, table in source.items()]
    else:
        frame = to_table(source)
        if "symbol" not in frame.columns:
            raise DataError(
                "forecast_many takes a mapping {symbol: bars} or one long table with a 'symbol' column; this table "
                "has none. For one series use forecast"
            )
        found = [(str(name), rows) for name, rows in frame.groupby("symbol", sort=False)]
    if not found:
        raise DataError("there is no series to forecast: the mapping or table is empty")
    return found


def futures_of(tables: list[tuple[str, Any]], given: Any) -> dict[str, Any]:
    """The given future times by series name, which must be those of the tables; empty where none are given."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DataError(f"future is a {type(given).__name__}; forecast_many takes a mapping {{symbol: timestamps}}")
    times = {str(name): entry for name, entry in given.items()}
    names = {name for name, _ in tables}
    if lacking := sorted(names - {name for name, entry in times.items() if entry is not None}):
        raise DataError(f"future has no timestamps for series '{lacking[0]}'; give all series theirs, or none")
    if unknown := sorted(times.keys() - names):
        raise DataError(f"future has timestamps for '{unknown[0]}', which is none of the series")
    return times


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Every error from within says which series it is about."""
    try:
        yield
    except KronosError as error:
        error.args = (f"series '{name}': {error}",)
        raise

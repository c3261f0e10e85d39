"""What is accepted but worth knowing of a series: gaps, breaks, filler, bars outside the sessions of its calendar."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Final

import numpy as np
import pandas as pd

from kronos.bars.breaks import find_breaks
from kronos.bars.calendar.frequency import BarSize, on_the_minute
from kronos.bars.calendar.grid import intraday_stamps
from kronos.bars.calendar.guess import Fit
from kronos.bars.calendar.markets import RULES, market
from kronos.bars.calendar.missing import missing_before
from kronos.bars.filler import flat_filler, named_days, suspended_days
from kronos.bars.reading.defects import Finding, Mask, Rows
from kronos.bars.report import Defect

_MANY: Final = 1000.0  # units that are usually traded, in whole numbers, where a volume below one is broken
_WEEKENDS: Final = 0.2  # a series with more of its bars on weekends trades then


def oddities(bars: pd.DataFrame, rows: Rows, size: BarSize, calendar: str | None, fit: Fit | None) -> list[Defect]:
    """Warnings about one series.

    Args:
        bars: a bars table of one symbol.
        rows: the row number of each bar in its file.
        size, calendar, fit: the bar size, the calendar, and how intraday times lie on its bars.
    """
    times = pd.DatetimeIndex(bars["timestamp"]).as_unit("ns")
    found = _gaps(times, rows, size, calendar, fit)
    symbol = str(bars["symbol"].iloc[0]) if "symbol" in bars.columns else None
    breaks = sorted(find_breaks(bars, symbol, calendar), key=lambda one: one.kind)
    for kind, group in groupby(breaks, key=lambda one: one.kind):
        some = list(group)
        column = "volume" if kind == "volume_step" else None
        found.append(Finding(kind, np.array([one.row for one in some]), column, some[0].text).defect(rows))
    closed = _outside(times, size, calendar, fit)
    halted = suspended_days(bars) & ~closed & (size.unit == "d")
    if len(days := np.flatnonzero(halted)):
        found.append(Finding("suspended_day", days, None, named_days(times[days])).defect(rows))
    flat = np.flatnonzero(flat_filler(bars) & ~halted)
    if len(flat):
        while_closed = f", {int(closed[flat].sum())} while the market is closed" if closed[flat].any() else ""
        example = f"{len(flat) / len(bars):.0%} of the bars, the first {times[flat[0]]}{while_closed}"
        found.append(Finding("flat_filler", flat, None, example).defect(rows))
    if closed.any():
        places = np.flatnonzero(closed)
        where = calendar or ("weekends" if not size.intraday else "sessions")
        found.append(Finding("outside_session", places, "timestamp", f"{where}, {times[places[0]]}").defect(rows))
    if size.intraday and len(beside := np.flatnonzero(times != on_the_minute(times))):
        found.append(Finding("off_grid", beside, "timestamp", str(times[beside[0]])).defect(rows))
    if len(tiny := _tiny_volumes(bars["volume"].to_numpy())):
        example = f"{bars['volume'].iloc[tiny[0]]:.6g}"
        found.append(Finding("tiny_volume", tiny, "volume", example).defect(rows))
    return found


def _gaps(times: pd.DatetimeIndex, rows: Rows, size: BarSize, calendar: str | None, fit: Fit | None) -> list[Defect]:
    missing = missing_before(times, size, calendar, fit)
    if missing is None or not missing.any():
        return []
    places = np.flatnonzero(missing)
    example = f"{int(missing[places[0]])} before {times[places[0]]}, {len(places)} places"
    return [replace(Finding("gap", places, None, example).defect(rows), count=int(missing.sum()))]


def _outside(times: pd.DatetimeIndex, size: BarSize, calendar: str | None, fit: Fit | None) -> Mask:
    """Bars at times at which the market of the calendar does not trade; where none is known, on weekends."""
    none = np.zeros(len(times), dtype=bool)
    if fit is not None:
        nanos = fit.clock.to_utc(times)
        due, _ = intraday_stamps(fit.market.sessions_around(nanos), size, fit.grid, fit.market.zone)
        step = int(size.delta.value)
        place = np.searchsorted(due, nanos, side="right") - 1
        # Off the grid but within a bar of it is another matter than outside the session.
        return (place < 0) | (nanos - due[np.maximum(place, 0)] >= step)
    if size.unit != "d":
        return none
    days = times.tz_localize(None).normalize()
    if calendar is None:
        weekend = np.asarray(days.day_of_week >= 5)
        return weekend if weekend.mean() <= _WEEKENDS else none
    if calendar in RULES or size.count != 1:
        return none
    return ~np.isin(days.as_unit("ns").asi8, market(calendar).days(days[0], days[-1]).dates)


def _tiny_volumes(volume: np.ndarray) -> Rows:
    """Positive volumes below one unit in a series that counts thousands of whole ones: broken, not small."""
    tiny = (volume > 0) & (volume < 1)
    others = volume[volume >= 1]
    if not tiny.any() or len(others) == 0 or np.median(others) < _MANY or np.mean(others == np.round(others)) < 0.99:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(tiny)

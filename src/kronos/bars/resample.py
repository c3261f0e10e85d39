"""Larger bars from smaller ones, within sessions: no bar spans a lunch break, a night or a weekend."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize, infer_frequency, parse_frequency
from kronos.bars.calendar.grid import Clock, Grid, Stamp, intraday_stamps
from kronos.bars.calendar.guess import Fit, fit_intraday, guess_calendar, symbol_hint
from kronos.bars.calendar.markets import ALWAYS, FX, OBSERVED, STEP, market, resolve_calendar
from kronos.bars.report import BarsReport
from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError, DataError

Nanos = npt.NDArray[np.int64]

_AGGREGATES: Final = {
    "open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "amount": "sum",
}  # fmt: skip
_FX_DAY: Final = 7  # a currency day ends at 17:00 in New York, which is midnight seven hours ahead of it


def resample_bars(
    bars: pd.DataFrame,
    to: str,
    *,
    calendar: str | None = None,
    stamp: Stamp | None = None,
    keep_forming: bool = False,
) -> pd.DataFrame:
    """Bars of a larger size.

    Intraday bars start again with each session and after each lunch break. Days are sessions of the
    exchange (for FX, the day that ends at 17:00 in New York; for 24/7, the day of the timestamps' own
    clock). Weeks and months are labelled with the date of their last bar, or their first where ``stamp``
    is ``start``.

    Args:
        bars: a bars table of one symbol or many.
        to: the new size, a multiple of the old one.
        calendar: as in ``future_timestamps``; inferred when None.
        stamp: the end of the bar that timestamps name; inferred for intraday bars, kept in the result.
        keep_forming: keep the last bar although its time is not over in the data.

    Returns:
        A bars table with its report in ``attrs``.

    Raises:
        ConfigError: the new size is not a larger multiple of the old one.
        DataError: the bar size cannot be told.
    """
    target = parse_frequency(to)
    if "symbol" not in bars.columns:
        table, forming, rule = _one(bars, target, calendar, stamp, keep_forming, None)
    else:
        parts: list[pd.DataFrame] = []
        forming, rule = False, ""
        for name, part in bars.groupby("symbol", sort=True):
            done, cut, rule = _one(part, target, calendar, stamp, keep_forming, str(name))
            done.insert(1, "symbol", str(name))
            parts.append(done)
            forming |= cut
        table = pd.concat(parts, ignore_index=True)
    table.attrs = {}
    before = bars.attrs.get("report")
    report = before if isinstance(before, BarsReport) else BarsReport()
    notes = [f"resampled from {report.frequency or 'smaller bars'} by {rule}"]
    if forming:
        notes.append("the last bar is not over in the data: left out")
    table.attrs["report"] = report.noted(
        *notes,
        rows=len(table),
        frequency=str(target),
        first=table["timestamp"].min() if len(table) else None,
        last=table["timestamp"].max() if len(table) else None,
        warnings=(),
    )
    return table


def _one(
    bars: pd.DataFrame,
    target: BarSize,
    calendar: str | None,
    stamp: Stamp | None,
    keep_forming: bool,
    symbol: str | None,
) -> tuple[pd.DataFrame, bool, str]:
    """The larger bars of one series, whether a forming one was left out, and the rule that cut them."""
    times = pd.DatetimeIndex(bars["timestamp"]).as_unit("ns")
    size = infer_frequency(times)
    if size is None:
        raise DataError("The bar size cannot be told from the timestamps, so the bars cannot be resampled.")
    _check_sizes(size, target)
    guess = _calendar(times, size, calendar, stamp, symbol)
    rule = guess.market.name if isinstance(guess, Fit) else guess
    if target.intraday:
        labels, over = _intraday_labels(times, size, target, guess, stamp)
    else:
        labels, over = _day_labels(times, size, target, guess, stamp)
    # Rows that belong to no bar of the market (before the open, after the close) are left out.
    inside = ~np.asarray(labels.isna())
    grouped = bars.loc[inside, list(FEATURES)].groupby(labels[inside], sort=True)
    table = grouped.agg(_AGGREGATES)
    table.index.name = "timestamp"
    forming = not over and not keep_forming and len(table) > 0
    if forming:
        table = table.iloc[:-1]
    return table.reset_index(), forming, rule or "wall clock"


def _check_sizes(size: BarSize, target: BarSize) -> None:
    if target.delta <= size.delta:
        raise ConfigError(f"Bars of {size} cannot be resampled to {target}: choose a larger size.")
    if target.intraday and target.delta.value % size.delta.value:
        raise ConfigError(f"{target} is not a multiple of {size}. Choose a size that the bars fill evenly.")
    if size.unit == "w" and target.unit == "mo":
        raise ConfigError("Weeks do not fill months evenly. Resample from daily bars.")


def _calendar(
    times: pd.DatetimeIndex, size: BarSize, calendar: str | None, stamp: Stamp | None, symbol: str | None
) -> Fit | str | None:
    if calendar is None:
        return guess_calendar(times, size, symbol_hint(symbol))
    name = resolve_calendar(calendar)
    if name in (ALWAYS, OBSERVED, STEP) or not size.intraday:
        return name
    return fit_intraday(times, size, market(name), (stamp,) if stamp else ("start", "end"))[0]


def _starts(times: pd.DatetimeIndex, size: BarSize, stamp: str | None) -> pd.DatetimeIndex:
    return times - size.delta if stamp == "end" else times


def _intraday_labels(
    times: pd.DatetimeIndex, size: BarSize, target: BarSize, guess: Fit | str | None, stamp: Stamp | None
) -> tuple[pd.DatetimeIndex, bool]:
    """The new timestamp of each row (NaT outside the sessions), and whether the last bar is over."""
    if not isinstance(guess, Fit):
        starts = _starts(times, size, stamp)
        wall = starts.tz_localize(None)
        floors = starts - (wall - wall.normalize()) % target.delta  # counted from each midnight
        over = bool(starts[-1] + size.delta >= floors[-1] + target.delta)
        return (floors + target.delta if stamp == "end" else floors), over
    nanos = guess.clock.to_utc(times)
    sessions = guess.market.sessions_around(nanos, rest=False)
    zone, anchor = guess.market.zone, guess.grid.anchor
    begin, _ = intraday_stamps(sessions, target, Grid(anchor, "start"), zone)
    end, _ = intraday_stamps(sessions, target, Grid(anchor, "end"), zone)
    starting = guess.grid.stamp == "start"
    inner = nanos if starting else nanos - 1  # a start stamp lies in [begin, end), an end stamp in (begin, end]
    place = np.searchsorted(begin, inner, side="right") - 1
    safe = np.maximum(place, 0)
    outside = (place < 0) | (inner >= end[safe])
    labels = pd.DatetimeIndex(guess.clock.from_utc((begin if starting else end)[safe], times).where(~outside))
    return labels, bool(inner[-1] + (size.delta.value if starting else 1) >= end[safe[-1]])


def _day_labels(
    times: pd.DatetimeIndex, size: BarSize, target: BarSize, guess: Fit | str | None, stamp: Stamp | None
) -> tuple[pd.DatetimeIndex, bool]:
    if not size.intraday:
        wall = times.tz_localize(None)
        return _periods(times, wall, target, stamp), _period_over(wall[-1], target, guess)
    if isinstance(guess, Fit):
        days, over = _session_days(times, size, guess)
    else:
        starts = _starts(times, size, stamp)
        wall = starts.tz_localize(None)
        days = wall.normalize()
        over = bool(wall[-1] + size.delta >= days[-1] + pd.Timedelta(days=1))
    dated = days if times.tz is None else days.tz_localize(times.tz, ambiguous=True, nonexistent="shift_forward")
    if target.unit == "d":
        if target.count > 1:
            raise ConfigError("Days are resampled to 1d, weeks or months, not to several days.")
        return dated, over
    last = days[~np.asarray(days.isna())][-1]
    return _periods(dated, days, target, stamp), over and _period_over(last, target, guess)


def _session_days(times: pd.DatetimeIndex, size: BarSize, guess: Fit) -> tuple[pd.DatetimeIndex, bool]:
    """The session date of each row, and whether the last session is over."""
    starting = guess.grid.stamp == "start"
    inner = guess.clock.to_utc(times) - (0 if starting else 1)
    finish = inner[-1] + (size.delta.value if starting else 1)
    if guess.market.name == FX:
        ahead = Clock("", guess.market.zone, _FX_DAY).from_utc(inner, times.tz_localize(None))
        midnight = ahead[-1].normalize() + pd.Timedelta(days=1)
        return ahead.normalize(), bool(ahead[-1] + pd.Timedelta(finish - inner[-1]) >= midnight)
    sessions = guess.market.sessions_around(inner)
    place = np.maximum(np.searchsorted(sessions.opens, inner, side="right") - 1, 0)
    outside = (inner < sessions.opens[place]) | (inner >= sessions.closes[place])
    days = pd.DatetimeIndex(pd.DatetimeIndex(sessions.dates[place].view("datetime64[ns]")).where(~outside))
    return days, bool(finish >= sessions.closes[place[-1]])


def _period_over(last: pd.Timestamp, target: BarSize, guess: Fit | str | None) -> bool:
    """True when the next trading day belongs to the next week or month."""
    name = guess.market.name if isinstance(guess, Fit) else guess
    if name == ALWAYS:
        following = last + pd.Timedelta(days=1)
    elif name is None or name in (OBSERVED, STEP):
        following = last + pd.offsets.BusinessDay(1)
    else:
        days = market(name).days(last + pd.Timedelta(days=1), last + pd.Timedelta(days=20)).dates
        following = pd.Timestamp(int(days[0]))
    keys = _period_keys(pd.DatetimeIndex([last, following]), target)
    return bool(keys[0] != keys[1])


def _period_keys(wall: pd.DatetimeIndex, target: BarSize) -> npt.NDArray[np.int64]:
    """A number for each week or month."""
    if target.unit == "w":
        monday = wall.normalize().as_unit("ns") - pd.to_timedelta(wall.day_of_week, unit="D")
        return pd.DatetimeIndex(monday).as_unit("ns").asi8 // (7 * 86400 * 10**9 * target.count)
    if target.unit == "mo":
        return wall.to_period("M").asi8 // target.count
    raise ConfigError(f"Bars of a day or more are resampled to weeks or months, not to {target}.")


def _periods(times: pd.DatetimeIndex, wall: pd.DatetimeIndex, target: BarSize, stamp: Stamp | None) -> pd.DatetimeIndex:
    """Weeks and months, named by the timestamp of their last (or first) row."""
    groups = pd.Series(times).groupby(_period_keys(wall, target))
    return pd.DatetimeIndex(groups.transform("first") if stamp == "start" else groups.transform("last"))

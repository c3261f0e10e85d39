"""Timestamps of daily, weekly and monthly bars: what the observed ones name, and the next ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import Clock
from kronos.bars.calendar.markets import FX, Market, Sessions, localize
from kronos.errors import CalendarError

Flags = npt.NDArray[np.bool_]
_RECENT = 300


def future_days(
    times: pd.DatetimeIndex, horizon: int, size: BarSize, market: Market
) -> tuple[pd.DatetimeIndex, Flags, str | None]:
    """The next timestamps of bars of a day or more; also which are estimated, and the stamp if it shows."""
    recent = times[-_RECENT:]
    dates, write, stamp = read_dates(recent, market)
    last = dates[-1]
    per = {"d": 1, "w": 5, "mo": 21}[size.unit] * size.count
    end = last + pd.Timedelta(days=int(horizon * per * 1.6) + 40)
    sessions = market.days(dates[0] - pd.Timedelta(days=40), end)
    labels, estimated = period_labels(sessions, dates, size)
    later = labels > last
    labels, estimated = labels[later], estimated[later]
    if size.unit == "d":
        labels, estimated = labels[size.count - 1 :: size.count], estimated[size.count - 1 :: size.count]
    if len(labels) < horizon:
        raise CalendarError(f"The calendar {market.name} gives only {len(labels)} bars after {last.date()}.")
    return write(labels[:horizon]), estimated[:horizon], stamp


Writer = Callable[[pd.DatetimeIndex], pd.DatetimeIndex]


def read_dates(times: pd.DatetimeIndex, market: Market) -> tuple[pd.DatetimeIndex, Writer, str | None]:
    """Which date each timestamp names, and how to write the timestamp of another date.

    A daily bar may be stamped with its date, with the exchange's midnight in another zone, with the open,
    with the close, or with a fixed time of day.
    """
    wall = times.tz_localize(None)
    if (wall == wall.normalize()).all():
        return wall.normalize(), lambda days: _localize(days, times), None
    clock = Clock(market.zone, market.zone)
    local = times.tz_convert(market.zone).tz_localize(None) if times.tz is not None else times
    dates = local.normalize()
    if (local == dates).all():
        return dates, lambda days: clock.from_utc(clock.to_utc(days), times), None
    nanos = clock.to_utc(times)
    if market.name != FX:
        sessions = market.sessions(dates[0], dates[-1])
        for stamp, edge in (("start", sessions.opens), ("end", sessions.closes)):
            if np.isin(nanos, edge).mean() >= 0.9:
                return dates, _edge_writer(market, clock, times, stamp), stamp
    time_of_day = wall[-1] - wall[-1].normalize()  # the last one stands for all
    return wall.normalize(), lambda days: _localize(days + time_of_day, times), None


def _localize(days: pd.DatetimeIndex, like: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return days if like.tz is None else localize(days, like.tz)


def _edge_writer(market: Market, clock: Clock, times: pd.DatetimeIndex, stamp: str) -> Writer:
    def write(days: pd.DatetimeIndex) -> pd.DatetimeIndex:
        sessions = market.sessions(days[0], days[-1])
        wanted = np.isin(sessions.dates, days.as_unit("ns").asi8)
        edge = sessions.opens if stamp == "start" else sessions.closes
        return clock.from_utc(edge[wanted], times)

    return write


def period_labels(sessions: Sessions, dates: pd.DatetimeIndex, size: BarSize) -> tuple[pd.DatetimeIndex, Flags]:
    """The label of every period in the sessions, in the convention that the observed dates follow best."""
    days = pd.DatetimeIndex(sessions.dates.view("datetime64[ns]"))
    if size.unit == "d":
        return days, sessions.estimated
    choices = _weekly(days, dates, size.count) if size.unit == "w" else _monthly(days, dates, size.count)
    fit = [float(np.isin(dates.as_unit("ns").asi8, labels.as_unit("ns").asi8).mean()) for labels in choices]
    labels = choices[int(np.argmax(fit))]
    known = days[~sessions.estimated]
    return labels, np.asarray(labels > known[-1]) if len(known) else np.ones(len(labels), dtype=bool)


def _weekly(days: pd.DatetimeIndex, dates: pd.DatetimeIndex, count: int) -> list[pd.DatetimeIndex]:
    monday = days - pd.to_timedelta(days.day_of_week, unit="D")
    if count > 1:  # every so many weeks, counted from the last label
        anchor = dates[-1] - pd.Timedelta(days=int(dates[-1].weekday()))
        kept = (monday - anchor).days // 7 % count == 0
        days, monday = days[kept], monday[kept]
    groups = pd.Series(days).groupby(monday)
    weeks = pd.DatetimeIndex(monday.unique())
    fixed = weeks + pd.Timedelta(days=int(dates[-1].weekday()))
    return [pd.DatetimeIndex(groups.max()), fixed, pd.DatetimeIndex(groups.min())]


def _monthly(days: pd.DatetimeIndex, dates: pd.DatetimeIndex, count: int) -> list[pd.DatetimeIndex]:
    month = days.to_period("M").to_timestamp()
    if count > 1:
        anchor = dates[-1].to_period("M").ordinal
        kept = (days.to_period("M").asi8 - anchor) % count == 0
        days, month = days[kept], month[kept]
    groups = pd.Series(days).groupby(month)
    starts = pd.DatetimeIndex(month.unique())
    ends = starts + pd.offsets.MonthEnd(1)
    return [pd.DatetimeIndex(groups.max()), starts, ends, pd.DatetimeIndex(groups.min())]

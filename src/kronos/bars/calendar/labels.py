"""The next timestamps without a grid of the day: sessions, weeks and months, a regular step, the hours seen so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import Clock
from kronos.bars.calendar.markets import FX, Market, Nanos, Sessions, localize
from kronos.errors import CalendarError

Flags = npt.NDArray[np.bool_]
Writer = Callable[[pd.DatetimeIndex], pd.DatetimeIndex]

_RECENT: Final = 300
_MINUTE: Final = 60 * 10**9
_WEEK: Final = 7 * 24 * 60 * _MINUTE
_WEEKS_SEEN: Final = 26
_MONTHS_SEEN: Final = 12


def future_days(
    times: pd.DatetimeIndex, horizon: int, size: BarSize, market: Market
) -> tuple[pd.DatetimeIndex, Flags, str | None]:
    """The next timestamps of bars of a day or more; also which are estimated, and the stamp if it shows."""
    dates, write, stamp = read_dates(times[-_RECENT:], market)
    last = dates[-1]
    per = {"d": 1, "w": 5, "mo": 21}[size.unit] * size.count
    end = last + pd.Timedelta(days=int(horizon * per * 1.6) + 40)
    labels, estimated = period_labels(market.days(dates[0] - pd.Timedelta(days=40), end), dates, size)
    nth = slice(size.count - 1, None, size.count) if size.unit == "d" else slice(None)
    later = np.flatnonzero(labels > last)[nth]
    if len(later) < horizon:
        raise CalendarError(f"The calendar {market.name} gives only {len(later)} bars after {last.date()}.")
    return write(labels[later[:horizon]]), estimated[later[:horizon]], stamp


def read_dates(times: pd.DatetimeIndex, market: Market) -> tuple[pd.DatetimeIndex, Writer, str | None]:
    """Which date each timestamp names, and how to write the timestamp of another date; also the stamp if it shows.

    A daily bar may be stamped with its date, with the exchange's midnight in another zone, with the open,
    with the close, or with a fixed time of day.
    """
    wall, clock = times.tz_localize(None), Clock(market.zone, market.zone)
    local = times.tz_convert(market.zone).tz_localize(None) if times.tz is not None else times
    dates = local.normalize()
    time_of_day = wall[-1] - wall[-1].normalize()  # the last one stands for all
    by_wall: tuple[pd.DatetimeIndex, Writer, str | None] = (
        wall.normalize(),
        lambda days: localize(days + time_of_day, times.tz),
        None,
    )
    if (wall == by_wall[0]).all():
        return by_wall
    if (local == dates).all():
        return dates, lambda days: clock.from_utc(clock.to_utc(days), times), None
    if market.name == FX:
        return by_wall
    nanos, sessions = clock.to_utc(times), market.sessions(dates[0], dates[-1])
    stamps = {"start": sessions.opens, "end": sessions.closes}
    stamp = next((name for name, edge in stamps.items() if np.isin(nanos, edge).mean() >= 0.9), None)
    if stamp is None:
        return by_wall

    def write(days: pd.DatetimeIndex) -> pd.DatetimeIndex:
        ahead = market.sessions(days[0], days[-1])
        edge = ahead.opens if stamp == "start" else ahead.closes
        return clock.from_utc(edge[np.isin(ahead.dates, days.as_unit("ns").asi8)], times)

    return dates, write, stamp


def period_labels(sessions: Sessions, dates: pd.DatetimeIndex, size: BarSize) -> tuple[pd.DatetimeIndex, Flags]:
    """The label of every period in the sessions, in the convention that the observed dates follow best."""
    days = pd.DatetimeIndex(sessions.dates.view("datetime64[ns]"))
    if size.unit == "d":
        return days, sessions.estimated
    known, last = days[~sessions.estimated], dates[-1]
    rule = "W" if size.unit == "w" else "M"
    periods = days.to_period(rule)
    # Every so many weeks or months are counted from the last label.
    counted = (periods.asi8 - dates[-1:].to_period(rule).asi8) % size.count == 0
    days, periods = days[counted], periods[counted]
    groups, starts = pd.Series(days).groupby(periods), periods.unique().to_timestamp().as_unit("ns")
    fixed = [starts + pd.Timedelta(days=last.weekday())] if rule == "W" else [starts, starts + pd.offsets.MonthEnd(1)]
    choices = [pd.DatetimeIndex(groups.max()), *fixed, pd.DatetimeIndex(groups.min())]
    fit = [float(np.isin(dates.as_unit("ns").asi8, labels.as_unit("ns").asi8).mean()) for labels in choices]
    labels = choices[int(np.argmax(fit))]
    return labels, np.asarray(labels > known[-1]) if len(known) else np.ones(len(labels), dtype=bool)


def regular_step(times: pd.DatetimeIndex, horizon: int, size: BarSize) -> pd.DatetimeIndex:
    """``horizon`` timestamps one bar apart; days and more keep their wall time through clock changes.

    Months go on from end to end where the last ones did: 28 February is followed by 31 March then.
    """
    wall = times.tz_localize(None)
    if size.unit == "mo":
        ends = wall[-_MONTHS_SEEN:].is_month_end.all()
        step = pd.offsets.MonthEnd(size.count) if ends else pd.DateOffset(months=size.count)
        return localize(pd.DatetimeIndex([wall[-1] + step * (k + 1) for k in range(horizon)]), times.tz)
    if size.intraday:
        return pd.date_range(times[-1], periods=horizon + 1, freq=size.delta)[1:]
    return localize(pd.date_range(wall[-1], periods=horizon + 1, freq=size.delta)[1:], times.tz)


def observed_hours(times: pd.DatetimeIndex, horizon: int, size: BarSize) -> pd.DatetimeIndex:
    """The next timestamps at the weekly hours that the bars have kept so far."""
    if len(times) < 2:
        raise CalendarError("The calendar 'observed' needs the index of the bars, not one timestamp.")
    if size.unit in ("w", "mo"):
        return regular_step(times, horizon, size)
    wall = times.tz_localize(None).as_unit("ns")
    monday = (wall[-1].normalize() - pd.Timedelta(days=wall[-1].weekday())).value
    slots = _weekly_slots(wall.asi8, monday - _WEEKS_SEEN * _WEEK)
    starts = monday + np.arange(horizon // len(slots) + 3, dtype=np.int64) * _WEEK
    future = (starts[:, None] + slots[None, :] * _MINUTE).ravel()
    future = future[future > wall[-1].value][:horizon]
    return localize(pd.DatetimeIndex(future.view("datetime64[ns]")), times.tz)


def _weekly_slots(nanos: Nanos, first: int) -> Nanos:
    """Minutes of the week (``first``, a Monday 00:00, is 0) at which bars are usual from then on, sorted."""
    nanos = nanos[nanos >= first]
    week, slot = (nanos - first) // _WEEK, (nanos - first) % _WEEK // _MINUTE
    if nanos[-1] - nanos[0] < 2 * _WEEK:  # every day is taken to be like the days seen, weekends only when seen
        minutes = np.unique(slot % 1440)
        days = np.arange(7) if (slot // 1440 >= 5).any() else np.arange(5)
        return (days[:, None] * 1440 + minutes[None, :]).ravel()
    used, counts = np.unique(slot, return_counts=True)
    days = used // 1440
    # A weekday counts over the weeks that traded on it, so holidays do not thin its hours.
    traded = np.array([len(np.unique(week[slot // 1440 == day])) for day in range(7)])
    usual_day = traded >= 0.5 * traded.max()
    keep = usual_day[days] & (counts >= 0.5 * traded[days])
    return used[keep] if keep.any() else used

"""Future timestamps where no exchange is known: a regular step, or the weekly hours seen in the bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.markets import localize
from kronos.errors import CalendarError

_MINUTE = 60 * 10**9
_WEEK = 7 * 24 * 60 * _MINUTE
_WEEKS_SEEN = 26
_MONTHS_SEEN = 12


def regular_step(times: pd.DatetimeIndex, horizon: int, size: BarSize) -> pd.DatetimeIndex:
    """``horizon`` timestamps one bar apart; days and more keep their wall time through clock changes.

    Months go on from end to end where the last ones did: 28 February is followed by 31 March then.
    """
    last, wall = times[-1], times.tz_localize(None)
    if size.unit == "mo":
        ends = wall[-_MONTHS_SEEN:].is_month_end.all()
        step = pd.offsets.MonthEnd(size.count) if ends else pd.DateOffset(months=size.count)
        return _like(pd.DatetimeIndex([wall[-1] + step * (k + 1) for k in range(horizon)]), last)
    if size.intraday:
        return pd.date_range(last, periods=horizon + 1, freq=size.delta)[1:]
    return _like(pd.date_range(wall[-1], periods=horizon + 1, freq=size.delta)[1:], last)


def _like(wall: pd.DatetimeIndex, last: pd.Timestamp) -> pd.DatetimeIndex:
    return wall if last.tzinfo is None else localize(wall, last.tzinfo)


def observed_hours(times: pd.DatetimeIndex, horizon: int, size: BarSize) -> pd.DatetimeIndex:
    """The next timestamps at the weekly hours that the bars have kept so far."""
    if len(times) < 2:
        raise CalendarError("The calendar 'observed' needs the index of the bars, not one timestamp.")
    if size.unit in ("w", "mo"):
        return regular_step(times, horizon, size)
    wall = times.tz_localize(None).as_unit("ns")
    slots = weekly_slots(wall)
    monday = wall[-1].normalize() - pd.Timedelta(days=wall[-1].weekday())
    weeks = horizon // len(slots) + 3
    starts = monday.value + np.arange(weeks, dtype=np.int64) * _WEEK
    future = (starts[:, None] + slots[None, :] * _MINUTE).ravel()
    future = future[future > wall[-1].value][:horizon]
    return _like(pd.DatetimeIndex(future.view("datetime64[ns]")), times[-1])


def weekly_slots(wall: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    """Minutes of the week (Monday 00:00 is 0) at which bars are usual, sorted."""
    nanos = wall.asi8
    monday = wall[-1].normalize() - pd.Timedelta(days=wall[-1].weekday())
    first = monday.value - _WEEKS_SEEN * _WEEK
    nanos = nanos[nanos >= first]
    week = (nanos - first) // _WEEK
    slot = (nanos - first) % _WEEK // _MINUTE
    if nanos[-1] - nanos[0] < 2 * _WEEK:
        return _from_few_days(slot)
    used, counts = np.unique(slot, return_counts=True)
    days = used // 1440
    # A weekday counts over the weeks that traded on it, so holidays do not thin its hours.
    traded = np.array([len(np.unique(week[slot // 1440 == day])) for day in range(7)])
    usual_day = traded >= 0.5 * traded.max()
    keep = usual_day[days] & (counts >= 0.5 * traded[days])
    return used[keep] if keep.any() else used


def _from_few_days(slot: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Less than two weeks: every day is taken to be like the days seen, weekends only when seen."""
    minutes = np.unique(slot % 1440)
    days = np.unique(slot // 1440)
    week = np.arange(7) if (days >= 5).any() else np.arange(5)
    return (week[:, None] * 1440 + minutes[None, :]).ravel()

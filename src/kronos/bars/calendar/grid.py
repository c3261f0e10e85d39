"""How timestamps are written: bars of a session's day and their clock; days, weeks and months; and the rules that go on
without sessions, a regular step and the weekly hours seen so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.markets import FX, NO_BREAK, Market, Nanos, Sessions, localize
from kronos.errors import CalendarError

Flags = npt.NDArray[np.bool_]
Writer = Callable[[pd.DatetimeIndex], pd.DatetimeIndex]
Stamp = Literal["start", "end"]
Anchor = Literal["segment", "session", "clock"]

ANCHORS: Final[tuple[Anchor, ...]] = ("segment", "session", "clock")
"""Where bars are counted from: the open and again the end of lunch; the open only; the exchange's midnight."""
STAMPS: Final[tuple[Stamp, ...]] = ("start", "end")

_RECENT: Final = 300
_MINUTE: Final = 60 * 10**9
_DAY: Final = 24 * 60 * _MINUTE
_WEEK: Final = 7 * 24 * 60 * _MINUTE
_WEEKS_SEEN: Final = 26
_MONTHS_SEEN: Final = 12


@dataclass(frozen=True)
class Grid:
    """How a market's day is cut into bars: the anchor, and which end of a bar its timestamp names."""

    anchor: Anchor
    stamp: Stamp


def intraday_stamps(sessions: Sessions, size: BarSize, grid: Grid, zone: str) -> tuple[Nanos, Flags]:
    """Timestamps (nanoseconds of UTC) of every bar in the sessions, and whether each is estimated."""
    step = int(size.delta.value)
    begins, ends, noons, afters = sessions.opens, sessions.closes, sessions.break_starts, sessions.break_ends
    session = np.arange(len(sessions))
    if grid.anchor == "segment":  # two halves a session, of which one without a break leaves the second empty
        whole = noons == NO_BREAK
        begins = np.column_stack([begins, np.where(whole, ends, afters)]).ravel()
        ends = np.column_stack([np.where(whole, ends, noons), ends]).ravel()
        session = session.repeat(2)
    elif grid.anchor == "clock":
        local = pd.DatetimeIndex(begins.view("datetime64[ns]")).tz_localize("UTC").tz_convert(zone)
        begins = begins - (begins - local.normalize().asi8) % step
    counts = np.maximum(-((begins - ends) // step), 0)
    place = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)  # of a bar in its session
    starts, ends, session = begins.repeat(counts) + place * step, ends.repeat(counts), session.repeat(counts)
    # Bars that lie wholly in the break hold no trade.
    kept = (starts < noons[session]) | (starts + step > afters[session])
    starts, ends, session = starts[kept], ends[kept], session[kept]
    if grid.stamp == "end":
        starts = starts + step if grid.anchor == "clock" else np.minimum(starts + step, ends)
    return starts, sessions.estimated[session]


@dataclass(frozen=True)
class Clock:
    """Reads naive timestamps as wall time in ``zone`` plus ``shift`` hours.

    Aware timestamps know their own zone; for them the clock only serves to convert.
    """

    label: str
    zone: str
    shift: int = 0

    def to_utc(self, times: pd.DatetimeIndex) -> Nanos:
        """Nanoseconds of UTC, one a timestamp."""
        times = times.as_unit("ns")
        return (localize(times - pd.Timedelta(hours=self.shift), self.zone) if times.tz is None else times).asi8

    def from_utc(self, nanos: Nanos, like: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The same instants written as ``like`` is written: in its zone, or naive by this clock."""
        aware = pd.DatetimeIndex(np.asarray(nanos, dtype="datetime64[ns]")).tz_localize("UTC")
        if like.tz is not None:
            return aware.tz_convert(like.tz)
        return aware.tz_convert(self.zone).tz_localize(None) + pd.Timedelta(hours=self.shift)


def clocks_for(market: Market, times: pd.DatetimeIndex) -> list[Clock]:
    """The clocks that stamps for this market may be written by, likeliest first."""
    local, utc = Clock(market.zone, market.zone), Clock("UTC", "UTC")
    if times.tz is not None or len(times) < 2:
        return [utc if market.name == FX else local]
    if market.name == FX:
        server = Clock("New York + 7 h (MetaTrader server)", market.zone, 7)
        return [utc, local, server, Clock("Europe/Athens", "Europe/Athens")]
    return [local] if market.zone == "UTC" else [local, utc]


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
    # Bars of several weeks or months are counted from the last label.
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


def observed_hours(
    times: pd.DatetimeIndex, horizon: int, size: BarSize, within: Market | None = None
) -> tuple[pd.DatetimeIndex, Flags]:
    """The next timestamps at the weekly hours that the bars have kept so far, and which of them are estimated.

    Args:
        within: the exchange on whose sessions alone they fall; days past its calendar's end are estimated.
    """
    if len(times) < 2:
        raise CalendarError("The calendar 'observed' needs the index of the bars, not one timestamp.")
    if size.unit in ("w", "mo"):
        return regular_step(times, horizon, size), np.zeros(horizon, dtype=bool)
    if within is not None and times.tz is not None:
        found, estimated = observed_hours(
            times.tz_convert(within.zone).tz_localize(None).drop_duplicates(), horizon, size, within
        )
        return localize(found, within.zone).tz_convert(times.tz), estimated
    wall = times.tz_localize(None).as_unit("ns")
    monday = (wall[-1].normalize() - pd.Timedelta(days=wall[-1].weekday())).value
    slots = weekly_slots(wall, monday)
    weeks = int((horizon // len(slots) + 3) * (1 if within is None else 1.3)) + (0 if within is None else 3)
    future = ((monday + np.arange(weeks, dtype=np.int64) * _WEEK)[:, None] + slots[None, :] * _MINUTE).ravel()
    future = future[future > wall[-1].value]
    estimated = np.zeros(len(future), dtype=bool)
    if within is not None:
        days = future - future % _DAY
        sessions = within.days(pd.Timestamp(int(days[0])), pd.Timestamp(int(days[-1])))
        kept = np.isin(days, sessions.dates) & _before_early_closes(future, days, slots % 1440, sessions, within.zone)
        future, estimated = future[kept], np.isin(days[kept], sessions.dates[sessions.estimated])
    return localize(pd.DatetimeIndex(future[:horizon].view("datetime64[ns]")), times.tz), estimated[:horizon]


def _before_early_closes(future: Nanos, days: Nanos, minutes: Nanos, sessions: Sessions, zone: str) -> Flags:
    """Whether bars of longer hours still fall on days that close early, after whose close they end as soon as usual."""
    closes = pd.DatetimeIndex(sessions.closes.view("datetime64[ns]")).tz_localize("UTC").tz_convert(zone)
    closing = closes.tz_localize(None).as_unit("ns").asi8 - sessions.dates
    usual = int(np.median(closing))
    earlier = np.maximum(usual - closing, 0)[np.minimum(np.searchsorted(sessions.dates, days), len(sessions) - 1)]
    last = max(int(minutes.max()) * _MINUTE, usual)
    return np.asarray((earlier == 0) | (future - days <= last - earlier))


def weekly_slots(wall: pd.DatetimeIndex, monday: int) -> Nanos:
    """The minutes of a week, from Monday 00:00 on, at which bars usually fall; ``monday`` begins the last week."""
    first = monday - _WEEKS_SEEN * _WEEK
    nanos = wall.asi8[wall.asi8 >= first]
    week, slot = (nanos - first) // _WEEK, (nanos - first) % _WEEK // _MINUTE
    if nanos[-1] - nanos[0] < 2 * _WEEK:  # every day is taken to be like the days seen, weekends only when seen
        days = np.arange(7) if (slot // 1440 >= 5).any() else np.arange(5)
        return (days[:, None] * 1440 + np.unique(slot % 1440)).ravel()
    slots, counts = np.unique(slot, return_counts=True)
    # A weekday counts over the weeks that traded on it, so holidays do not thin its hours.
    traded = np.array([len(np.unique(week[slot // 1440 == day])) for day in range(7)])
    days = slots // 1440
    usual = (traded >= 0.5 * traded.max())[days] & (counts >= 0.5 * traded[days])
    return slots[usual] if usual.any() else slots

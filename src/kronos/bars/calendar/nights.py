"""China's futures: an evening before each trading day, to the small hours for some, and none before a holiday."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import Flags
from kronos.bars.calendar.markets import Nanos, localize, market

SESSIONS: Final = "XSHG"  # whose days are those of the futures exchanges
NIGHTS_GO_ON: Final = (
    f"evenings before the trading day are seen, as of China's futures: they go on, on the sessions of {SESSIONS}, "
    "and none before a holiday"
)
_ZONE: Final = "Asia/Shanghai"
_DAY: Final = 24 * 3600 * 10**9
_MINUTE: Final = 60 * 10**9
_RECENT: Final = pd.Timedelta(days=45)
_EVENING: Final = 20 * 60  # minutes of the day; nothing is traded from 15:15 on till then
_SMALL_HOURS: Final = 4 * 60
_USUAL: Final = 0.5  # share of the days on which a bar must have been seen to go on


def keeps_nights(times: pd.DatetimeIndex, size: BarSize) -> bool:
    """Whether intraday times are those of futures in China with night sessions."""
    if not size.intraday or len(times) < 10 or times[-1] - times[0] < pd.Timedelta(days=2):
        return False
    wall = _wall(times)
    minute = _minutes(wall)
    evening, small, day = minute >= _EVENING, minute < _SMALL_HOURS, (minute >= 9 * 60) & (minute <= 15 * 60 + 15)
    if not evening.any() or not day.any() or not (evening | small | day).all() or (minute[evening] < 21 * 60).any():
        return False
    weekday = np.asarray(wall.day_of_week)
    if (weekday == 6).any() or (weekday[~small] == 5).any():
        return False
    dates = wall[day].normalize().unique().as_unit("ns")
    sessions = market(SESSIONS).days(dates[0], dates[-1]).dates
    return bool(np.isin(dates.asi8, sessions).all() and len(dates) >= 0.9 * len(sessions))


def night_hours(times: pd.DatetimeIndex, horizon: int, size: BarSize) -> tuple[pd.DatetimeIndex, Flags]:
    """The next timestamps at the hours of the last weeks, by trading day; and which lie past the calendar's end."""
    wall = _wall(times)
    recent = wall[wall >= wall[-1] - _RECENT]
    night, day = _usual_minutes(recent)
    last, per = wall[-1], max(len(night) + len(day), 1)
    end = last.normalize() + pd.Timedelta(days=int(horizon / per * 2) + 30)
    sessions = market(SESSIONS).days(last.normalize() - pd.Timedelta(days=15), end)
    found: list[Nanos] = []
    for before, date in zip(sessions.dates[:-1], sessions.dates[1:], strict=True):
        found += [before + night * _MINUTE] if date == _next_weekday(before) else []
        found.append(date + day * _MINUTE)
    ahead = np.sort(np.concatenate(found))
    ahead = ahead[ahead > last.as_unit("ns").value][:horizon]
    beyond = sessions.dates[sessions.estimated]
    estimated = ahead >= beyond[0] if len(beyond) else np.zeros(len(ahead), dtype=bool)
    index = pd.DatetimeIndex(ahead.view("datetime64[ns]"))
    return index if times.tz is None else localize(index, _ZONE).tz_convert(times.tz), estimated


def _usual_minutes(wall: pd.DatetimeIndex) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Minutes at which bars usually fall: of the night, from midnight of the day on which it begins, and of the day."""
    minute = _minutes(wall)
    night = (minute >= _EVENING) | (minute < _SMALL_HOURS)
    since = np.where(minute < _SMALL_HOURS, minute + 24 * 60, minute)
    begun = (wall - pd.to_timedelta((minute < _SMALL_HOURS).astype(int), unit="D")).normalize()
    parts = []
    for part in (night, ~night):
        minutes, counts = np.unique(since[part], return_counts=True)
        usual = counts >= _USUAL * begun[part].nunique()
        parts.append(minutes[usual] if usual.any() else minutes)  # of a contract that hardly trades, all
    return parts[0], parts[1]


def _next_weekday(nanos: int) -> int:
    """The Monday to Friday after a day."""
    weekday = (nanos // _DAY + 3) % 7  # 1970-01-01 was a Thursday
    return int(nanos + _DAY * (3 if weekday == 4 else 1))


def _wall(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    local = times if times.tz is None else times.tz_convert(_ZONE).tz_localize(None)
    return local.as_unit("ns")


def _minutes(wall: pd.DatetimeIndex) -> npt.NDArray[np.int64]:
    return np.asarray(wall.hour * 60 + wall.minute, dtype=np.int64)

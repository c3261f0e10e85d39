"""Where bars are missing: between two bars, the calendar (or the regular step) knows more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import intraday_stamps
from kronos.bars.calendar.guess import Fit
from kronos.bars.calendar.labels import read_dates
from kronos.bars.calendar.markets import ALWAYS, RULES, Market, Nanos, market


def missing_before(times: pd.DatetimeIndex, size: BarSize, calendar: Fit | str | None) -> Nanos | None:
    """How many bars are missing just before each timestamp; None where no calendar says what is due."""
    if size.unit in ("w", "mo"):
        return None
    if isinstance(calendar, Fit):
        nanos = calendar.clock.to_utc(times)
        sessions = calendar.market.sessions_around(nanos)
        due, _ = intraday_stamps(sessions, size, calendar.grid, calendar.market.zone)
    elif calendar == ALWAYS:
        nanos = (times.tz_convert("UTC") if times.tz is not None else times).as_unit("ns").asi8
        return _before(np.round(np.diff(nanos) / size.delta.value).astype(np.int64) - 1)
    elif calendar is not None and calendar not in RULES and not size.intraday and size.count == 1:
        wall = times.tz_localize(None).normalize().as_unit("ns")
        nanos = wall.asi8
        due = market(calendar).days(wall[0], wall[-1]).dates
    else:
        return None
    # Of the bars due between two timestamps, those not present are missing.
    places = np.searchsorted(due, nanos)
    present = np.isin(nanos, due)
    return _before(np.diff(places) - present[:-1])


def _before(between: npt.NDArray[np.int64]) -> Nanos:
    return np.concatenate([[0], np.maximum(between, 0)])


def session_notes(times: pd.DatetimeIndex, where: Market) -> tuple[str, ...]:
    """In words, where daily bars and a market's sessions part: sessions without a bar, bars without a session."""
    dates, _, _ = read_dates(times, where)
    days = dates.as_unit("ns").asi8
    sessions = where.days(dates[0], dates[-1])
    missing = sessions.dates[~sessions.estimated & ~np.isin(sessions.dates, days)]
    spare = days[~np.isin(days, sessions.dates)]
    name = where.name
    told = (
        (missing, f"session of {name} has no bar", f"sessions of {name} have no bar"),
        (spare, f"bar lies on a day without a session of {name}", f"bars lie on days without a session of {name}"),
    )
    notes = []
    for found, one, many in told:
        if len(found):
            last = f"{pd.Timestamp(int(found[-1])):%Y-%m-%d}"
            notes.append(f"1 {one} ({last})" if len(found) == 1 else f"{len(found):,} {many}, the last {last}")
    return tuple(notes)

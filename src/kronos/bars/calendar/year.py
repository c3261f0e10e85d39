"""How many bars a year has, by the calendar of the bars: what figures a year are counted with."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
import pandas as pd

from kronos.bars.calendar.frequency import BarSize, parse_frequency
from kronos.bars.calendar.grid import Grid, intraday_stamps, weekly_slots
from kronos.bars.calendar.markets import ALWAYS, OBSERVED, STEP, market

SESSIONS_A_YEAR: Final = 252
"""Sessions of an exchange a year by convention, where none of its calendar is at hand."""
DAYS_A_YEAR: Final = 365
_MINUTE: Final = pd.Timedelta(minutes=1)  # what slots of a week are counted in
_YEARS: Final = 4  # of a calendar, over which its sessions are averaged: with one leap day

Basis = Literal["days", "sessions", "weeks", "months", "seen"]


class BarsAYear(NamedTuple):
    """Bars a year, and how they were counted.

    Attributes:
        bars: how many.
        basis: ``days`` (bars round the clock), ``sessions`` (of an exchange or of the currency week), ``weeks``,
            ``months``, or ``seen`` (the weekly hours of the bars themselves, holidays not counted).
        counted: the same in words.
    """

    bars: int
    basis: Basis
    counted: str


def bars_a_year(times: pd.DatetimeIndex, calendar: str | None, frequency: str) -> BarsAYear:
    """Bars a year of a series.

    Of an exchange, and of currencies, the sessions of the four whole years before the last bar are averaged, and of
    intraday bars as many are counted in each as fit into it, less the lunch break. ``24/7`` and a regular step have
    365 days.

    Args:
        times: (T,) of the bars, increasing; at least two where the calendar is neither a rule nor an exchange's.
        calendar: MIC code, ``FX``, ``24/7``, ``step`` or ``observed``; anything else, such as ``given``, and None are
            counted as seen.
        frequency: bar size, such as ``"5m"``.

    Raises:
        ConfigError: no bar size. CalendarError: an unknown calendar.
    """
    size = parse_frequency(frequency)
    if size.unit == "mo":
        return BarsAYear(max(1, round(12 / size.count)), "months", "12 months a year")
    if size.unit == "w":
        return BarsAYear(max(1, round(DAYS_A_YEAR / 7 / size.count)), "weeks", "52 weeks a year")
    if calendar in (ALWAYS, STEP):
        each = pd.Timedelta(days=1) / size.delta
        return BarsAYear(max(1, round(DAYS_A_YEAR * each)), "days", f"{DAYS_A_YEAR} days a year, round the clock")
    if calendar not in (None, OBSERVED, "given"):
        sessions, bars = _of_market(calendar, size, times[-1].year)
        if bars:
            return BarsAYear(bars, "sessions", f"{sessions} sessions a year of {calendar}")
    return _seen(times, size)


@lru_cache(maxsize=64)
def _of_market(name: str, size: BarSize, year: int) -> tuple[int, int]:
    """(sessions, bars) a year of a market, in the mean of the years before one."""
    where, first, last = market(name), pd.Timestamp(year - _YEARS, 1, 1), pd.Timestamp(year - 1, 12, 31)
    days = len(where.days(first, last))
    if not size.intraday:
        return round(days / _YEARS), round(days / _YEARS / size.count)
    bars, _ = intraday_stamps(where.sessions(first, last), size, Grid("segment", "start"), where.zone)
    return round(days / _YEARS), round(len(bars) / _YEARS)


def _seen(times: pd.DatetimeIndex, size: BarSize) -> BarsAYear:
    """Bars a year where weeks go on as they were seen."""
    wall = times.tz_localize(None).as_unit("ns")
    slots = weekly_slots(wall, (wall[-1].normalize() - pd.Timedelta(days=wall[-1].weekday())).value)
    days = len(np.unique(slots // (24 * 60)))
    bars = len(slots) * max(_MINUTE / size.delta, 1.0) if size.intraday else days / size.count
    return BarsAYear(max(1, round(bars * DAYS_A_YEAR / 7)), "seen", f"{days} days a week as seen, holidays not counted")

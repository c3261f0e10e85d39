"""How a market's sessions are cut into bars, and by which clock their timestamps are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.markets import FX, NO_BREAK, Market, Nanos, Sessions, localize

Stamp = Literal["start", "end"]
Anchor = Literal["segment", "session", "clock"]

ANCHORS: Final[tuple[Anchor, ...]] = ("segment", "session", "clock")
"""Where bars are counted from: the open and again the end of lunch; the open only; the exchange's midnight."""
STAMPS: Final[tuple[Stamp, ...]] = ("start", "end")


@dataclass(frozen=True)
class Grid:
    """How a market's day is cut into bars: the anchor, and which end of a bar its timestamp names."""

    anchor: Anchor
    stamp: Stamp


def intraday_stamps(sessions: Sessions, size: BarSize, grid: Grid, zone: str) -> tuple[Nanos, npt.NDArray[np.bool_]]:
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

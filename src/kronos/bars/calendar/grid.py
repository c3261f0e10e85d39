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

_SERVER: Final = "New York + 7 h (MetaTrader server)"


@dataclass(frozen=True)
class Grid:
    """How a market's day is cut into bars: the anchor, and which end of a bar its timestamp names."""

    anchor: Anchor
    stamp: Stamp


def intraday_stamps(sessions: Sessions, size: BarSize, grid: Grid, zone: str) -> tuple[Nanos, npt.NDArray[np.bool_]]:
    """Timestamps (nanoseconds of UTC) of every bar in the sessions, and whether each is estimated."""
    step = int(size.delta.value)
    parts = [_session_stamps(sessions, position, step, grid, zone) for position in range(len(sessions))]
    flags = np.repeat(sessions.estimated, [len(part) for part in parts])
    stamps = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return stamps, flags


def _session_stamps(sessions: Sessions, position: int, step: int, grid: Grid, zone: str) -> Nanos:
    begin, end = int(sessions.opens[position]), int(sessions.closes[position])
    noon, after = int(sessions.break_starts[position]), int(sessions.break_ends[position])
    if grid.anchor == "segment":
        halves = [(begin, end)] if noon == NO_BREAK else [(begin, noon), (after, end)]
        return np.concatenate([_cut(*half, step, grid.stamp) for half in halves])
    origin = begin
    if grid.anchor == "clock":
        midnight = pd.Timestamp(begin, tz="UTC").tz_convert(zone).normalize()
        origin = begin - (begin - int(midnight.value)) % step
    starts = _cut(origin, end, step, "start")
    if noon != NO_BREAK:  # bars that lie wholly in the break hold no trade
        starts = starts[(starts < noon) | (starts + step > after)]
    if grid.stamp == "start":
        return starts
    return starts + step if grid.anchor == "clock" else np.minimum(starts + step, end)


def _cut(begin: int, end: int, step: int, stamp: Stamp) -> Nanos:
    starts = np.arange(begin, end, step, dtype=np.int64)
    return starts if stamp == "start" else np.minimum(starts + step, end)


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
        if times.tz is not None:
            return times.asi8
        moved = times - pd.Timedelta(hours=self.shift)
        return localize(moved, self.zone).asi8

    def from_utc(self, nanos: Nanos, like: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The same instants written as ``like`` is written: in its zone, or naive by this clock."""
        aware = pd.DatetimeIndex(np.asarray(nanos, dtype="datetime64[ns]")).tz_localize("UTC")
        if like.tz is not None:
            return aware.tz_convert(like.tz)
        return aware.tz_convert(self.zone).tz_localize(None) + pd.Timedelta(hours=self.shift)


def clocks_for(market: Market, times: pd.DatetimeIndex) -> list[Clock]:
    """The clocks that stamps for this market may be written by, likeliest first."""
    local = Clock(market.zone, market.zone)
    if times.tz is not None or len(times) < 2:
        return [local if market.name != FX else Clock("UTC", "UTC")]
    utc = Clock("UTC", "UTC")
    if market.name == FX:
        return [utc, local, Clock(_SERVER, market.zone, 7), Clock("Europe/Athens", "Europe/Athens")]
    return [local] if market.zone == "UTC" else [local, utc]

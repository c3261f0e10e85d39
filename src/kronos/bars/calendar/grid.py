"""The bars that a market's sessions hold: their starts and ends, for a bar size and an anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.markets import NO_BREAK, Sessions

Nanos = npt.NDArray[np.int64]
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
    parts = [_session_stamps(sessions, position, step, grid, zone) for position in range(len(sessions))]
    flags = np.repeat(sessions.estimated, [len(part) for part in parts])
    stamps = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return stamps, flags


def _session_stamps(sessions: Sessions, position: int, step: int, grid: Grid, zone: str) -> Nanos:
    begin, end = int(sessions.opens[position]), int(sessions.closes[position])
    noon, after = int(sessions.break_starts[position]), int(sessions.break_ends[position])
    if grid.anchor == "segment":
        if noon == NO_BREAK:
            return _cut(begin, end, step, grid.stamp)
        morning = _cut(begin, noon, step, grid.stamp)
        return np.concatenate([morning, _cut(after, end, step, grid.stamp)])
    origin = begin
    if grid.anchor == "clock":
        midnight = pd.Timestamp(begin, tz="UTC").tz_convert(zone).normalize()
        origin = begin - (begin - int(midnight.value)) % step
    starts = np.arange(origin, end, step, dtype=np.int64)
    if noon != NO_BREAK:  # bars that lie wholly in the break hold no trade
        starts = starts[(starts < noon) | (starts + step > after)]
    return starts if grid.stamp == "start" else _ends(starts, step, end, grid.anchor)


def _cut(begin: int, end: int, step: int, stamp: Stamp) -> Nanos:
    starts = np.arange(begin, end, step, dtype=np.int64)
    return starts if stamp == "start" else np.minimum(starts + step, end)


def _ends(starts: Nanos, step: int, close: int, anchor: Anchor) -> Nanos:
    ends = starts + step
    return ends if anchor == "clock" else np.minimum(ends, close)

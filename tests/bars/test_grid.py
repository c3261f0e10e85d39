"""Bars of hand-made sessions, by each anchor and stamp."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars.calendar.frequency import parse_frequency
from kronos.bars.calendar.grid import Anchor, Grid, Stamp, intraday_stamps
from kronos.bars.calendar.markets import NO_BREAK, Sessions

ZONE = "Asia/Kolkata"  # half an hour off, so that its full hours are not those of UTC


def instant(day: str, time: str | None) -> int:
    return NO_BREAK if time is None else int(pd.Timestamp(f"{day} {time}", tz=ZONE).as_unit("ns").value)


def sessions(*days: tuple[str, str, str, str | None, str | None]) -> Sessions:
    """Each: date, open, close, and the ends of a break."""
    dates = pd.DatetimeIndex([day for day, *_ in days]).as_unit("ns").asi8
    edges = [np.array([instant(day[0], day[k]) for day in days], dtype=np.int64) for k in range(1, 5)]
    return Sessions(dates, *edges, np.arange(len(days)) % 2 == 1)


def bars(when: Sessions, size: str, anchor: Anchor, stamp: Stamp) -> list[str]:
    stamps, _ = intraday_stamps(when, parse_frequency(size), Grid(anchor, stamp), ZONE)
    return [f"{moment:%H:%M}" for moment in pd.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(ZONE)]


@pytest.mark.parametrize(
    ("anchor", "stamp", "wanted"),
    [
        ("segment", "start", "09:30 10:30 13:00 14:00"),
        ("segment", "end", "10:30 11:30 14:00 14:45"),
        ("session", "start", "09:30 10:30 12:30 13:30 14:30"),  # 11:30 to 12:30 lies in the break
        ("session", "end", "10:30 11:30 13:30 14:30 14:45"),
        ("clock", "start", "09:00 10:00 11:00 13:00 14:00"),  # 12:00 to 13:00, too
        ("clock", "end", "10:00 11:00 12:00 14:00 15:00"),  # the full hour, past the close
    ],
)
def test_a_day_with_a_break(anchor: Anchor, stamp: Stamp, wanted: str) -> None:
    day = sessions(("2024-06-20", "09:30", "14:45", "11:30", "13:00"))
    assert bars(day, "1h", anchor, stamp) == wanted.split()


@pytest.mark.parametrize(
    ("anchor", "stamp", "wanted"),
    [
        ("segment", "start", "09:30 11:30 13:30"),
        ("segment", "end", "11:30 13:30 15:00"),
        ("session", "start", "09:30 11:30 13:30"),
        ("session", "end", "11:30 13:30 15:00"),
        ("clock", "start", "08:00 10:00 12:00 14:00"),
        ("clock", "end", "10:00 12:00 14:00 16:00"),
    ],
)
def test_a_day_without_a_break(anchor: Anchor, stamp: Stamp, wanted: str) -> None:
    day = sessions(("2024-06-20", "09:30", "15:00", None, None))
    assert bars(day, "2h", anchor, stamp) == wanted.split()


def test_a_break_that_begins_with_a_bar_leaves_that_bar_out() -> None:
    day = sessions(("2024-06-20", "10:00", "15:00", "12:00", "13:00"))
    assert bars(day, "1h", "session", "start") == ["10:00", "11:00", "13:00", "14:00"]


def test_every_bar_is_as_estimated_as_its_session() -> None:
    days = sessions(("2024-06-20", "09:00", "11:00", None, None), ("2024-06-21", "09:00", "12:00", None, None))
    stamps, estimated = intraday_stamps(days, parse_frequency("1h"), Grid("segment", "start"), ZONE)
    assert estimated.tolist() == [False, False, True, True, True]
    assert (len(stamps), stamps.dtype) == (5, np.int64)
    nothing, none = intraday_stamps(sessions(), parse_frequency("1h"), Grid("segment", "start"), ZONE)
    assert (len(nothing), nothing.dtype, len(none)) == (0, np.int64, 0)

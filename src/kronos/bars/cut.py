"""Times as people write them, in the clock of the bars, and bars cut at one: what a replay forecasts from."""

from __future__ import annotations

import re

import pandas as pd

from kronos.errors import DataError

_DAY = re.compile(r"\d{4}-?\d\d-?\d\d")  # without a time of day


def as_written(text: str, bars: pd.DataFrame) -> pd.Timestamp:
    """A time in the clock of the bars: one without a zone is theirs, one with a zone is converted.

    Raises:
        DataError: no time, or not one moment in that clock.
    """
    try:
        moment = pd.Timestamp(text)
    except (ValueError, OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise DataError(f"'{text[:40]}' is no time; write it as 2024-07-01T15:30:00.") from error
    if pd.isna(moment):
        raise DataError(f"'{text[:40]}' is no time; write it as 2024-07-01T15:30:00.")
    zone = pd.DatetimeIndex(bars["timestamp"]).tz
    if zone is None or moment.tz is None:
        try:
            return moment.tz_localize(zone)
        except ValueError as error:  # an hour that a clock change skips or repeats
            raise DataError(f"{text[:40]} is not one moment in {zone}; write its offset too.") from error
    return moment.tz_convert(zone)


def up_to(until: str, bars: pd.DataFrame) -> pd.Series[bool]:
    """Which bars lie up to and including a time; a date without a time of day takes in the whole day.

    Raises:
        DataError: no time.
    """
    end, times = as_written(until, bars), bars["timestamp"]
    return times < end + pd.DateOffset(days=1) if _DAY.fullmatch(until.strip()) else times <= end


def cut_until(bars: pd.DataFrame, until: str) -> pd.DataFrame:
    """The bars up to and including a time; a date without a time of day takes in the whole day.

    The report of ``attrs``, if there is one, counts the bars that stay and notes how many were left out, if any.

    Raises:
        DataError: no time, or no bar so early.
    """
    kept = up_to(until, bars)
    if not kept.any():
        first = bars["timestamp"].min()
        raise DataError(f"There is no bar up to {until}: they begin at {first}. Give a later time (--until).")
    if kept.all():
        return bars
    cut = bars[kept].reset_index(drop=True)
    if (report := bars.attrs.get("report")) is not None:
        note = f"{len(bars) - len(cut):,} bars after {until} left out"
        cut.attrs["report"] = report.noted(note, rows=len(cut), last=cut["timestamp"].max())
    return cut

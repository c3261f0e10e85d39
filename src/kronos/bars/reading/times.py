"""A column of timestamps has one reading, which must fit (nearly) every row and is never decided by the first.

Where two readings fit, a DataError names the option that decides.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kronos.bars.reading.datetext import Stamps, parse_clock, parse_dates, refuse_two_zones, split_zone, to_days
from kronos.bars.report import ReadContext, name_columns, shown
from kronos.errors import ConfigError, DataError

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Epochs are accepted from 1971 to 2100. The lower edge keeps the four units apart by size alone.
_EPOCH_RANGE: Final = (365 * 86400, 130 * 365 * 86400)
_SERIAL_ORIGIN: Final = np.datetime64("1899-12-30", "ns")
LAST_SERIAL: Final = 75_000  # spreadsheets' day of the year 2105
_SERIAL_COMMA: Final = re.compile(r"\s*\d{5}(?:,\d+)?\s*")
_EARLIEST, _LATEST = np.datetime64("1700-01-01", "ns"), np.datetime64("2200-01-01", "ns")
_SHARE: Final = 0.9  # a reading must explain this share of the rows; the rest are reported as unparsable


def parse_times(
    values: Any, rows: npt.NDArray[np.int64], reading: ReadContext, *, clock: Any = None, header_zone: str | None = None
) -> tuple[pd.DatetimeIndex, str | None]:
    """Read a whole column, with times of day apart in ``clock``: the timestamps, aware where the zone is known and NaT
    where a row could not be read, and what stands in the first of those rows."""
    if reading.epoch is not None and reading.epoch not in _PER_SECOND:
        raise ConfigError(f"epoch must be one of {', '.join(_PER_SECOND)}, not '{reading.epoch}'.")
    column, zone = as_arrow(values), header_zone
    time_of_day = None if clock is None else as_arrow(clock)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None) or header_zone
        dated = column.cast(pa.timestamp("ms")) if pa.types.is_date(column.type) else column
        stamps = dated.to_numpy(zero_copy_only=False)
        if clock is not None:
            stamps = _nanoseconds(stamps) + parse_clock(time_of_day, reading)
    elif clock is None and (numbers := _numbers(column)) is not None:
        stamps, aware = _from_numbers(numbers, rows, reading)
        zone = header_zone or "UTC" if aware else header_zone
    elif clock is None and (plain := _iso(column)) is not None:
        stamps = plain
    else:
        stamps, zone = _from_text(column, time_of_day, header_zone, rows, reading)
    stamps, timezone = _nanoseconds(stamps), reading.timezone
    if zone == "UTC" and timezone is None and (dates := midnights_elsewhere(stamps, reading)) is not None:
        stamps, zone = dates, None
    index = pd.DatetimeIndex(stamps)
    if zone is not None:  # Arrow keeps aware times in UTC beside the zone's name
        index = index.tz_localize("UTC").tz_convert(timezone or ("UTC" if zone == "GMT" else zone))
    elif timezone is not None:
        reading.note(f"times without a zone are read as {timezone}")
        index = _localized(index, timezone)
    bad = np.flatnonzero(np.asarray(index.isna()))
    unread = column[int(bad[0])].as_py() if len(bad) else None
    return index, None if len(bad) == 0 else "nothing" if unread is None else shown(unread)


def _localized(index: pd.DatetimeIndex, timezone: str) -> pd.DatetimeIndex:
    """Wall times as instants; the hour that repeats in autumn is told apart by the order of the rows, either way."""
    for step in (1, -1):
        with suppress(ValueError):
            return index[::step].tz_localize(timezone, ambiguous="infer", nonexistent="NaT")[::step]
    return index.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")  # those rows are reported


def as_arrow(values: Any) -> Any:
    """A column as one Arrow array; objects of several kinds become text."""
    array = values
    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        series = pd.Series(values)
        if isinstance(series.dtype, pd.PeriodDtype):
            series = pd.Series(pd.PeriodIndex(series).to_timestamp())
        try:
            array = pa.Array.from_pandas(series)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            array = pa.array(series.astype(str).where(series.notna(), None), type=pa.string(), from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks else pa.array([], type=array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _nanoseconds(stamps: Stamps) -> Stamps:
    """Stamps of any unit as datetime64[ns]; NaT for what lies outside the years that bars can have."""
    # Compared in the column's own unit: a cast to nanoseconds first would wrap around.
    low, high = (edge.astype(stamps.dtype) for edge in (_EARLIEST, _LATEST))
    inside = (stamps > low) & (stamps < high)
    kept = stamps if inside.all() else np.where(inside, stamps, np.datetime64("NaT")).astype(stamps.dtype)
    return kept.astype("datetime64[ns]", copy=False)


def _numbers(column: Any) -> npt.NDArray[Any] | None:
    """The column as int64 or float64 when every filled row is a number, else None."""
    if pa.types.is_string(column.type):
        try:
            if (first := column.slice(0, 20).drop_null()) and _SERIAL_COMMA.fullmatch(first[0].as_py()):
                column = _with_points(column)
            for text in column.slice(0, 20).to_pylist():  # a quick look: most columns of words end here
                float(text or "0")
            text = _blank_to_null(column)
            try:
                column = pc.cast(text, pa.int64())
            except pa.ArrowInvalid:
                column = pc.cast(text, pa.float64())
        except ValueError:  # Arrow's error is one too
            return None
        if column.null_count == len(column):
            return None
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    numbers: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float64)


def _with_points(column: Any) -> Any:
    """Serial days with decimal commas in plain numbers, where all filled cells are."""
    fits = pc.match_substring_regex(column, rf"^(?:{_SERIAL_COMMA.pattern})?$")
    return pc.replace_substring(column, ",", ".") if pc.all(fits).as_py() else column


def _blank_to_null(column: Any) -> Any:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _from_numbers(numbers: npt.NDArray[Any], rows: Any, reading: ReadContext) -> tuple[Stamps, bool]:
    """Epoch in one of four units, compact dates, or spreadsheet serials; True when it is an instant (UTC)."""
    finite, epoch = np.isfinite(numbers), reading.epoch
    if not finite.any():
        raise DataError(f"{reading.where}: the timestamp column is empty.")
    if epoch is not None:
        return _from_epoch(numbers, epoch), True
    compact = _compact(numbers, finite)
    if compact is not None:
        reading.note("timestamps are compact dates (YYYYMMDD…)")
        return compact, False
    if (mixed := mixed_epochs(numbers, rows, reading)) is not None:
        return mixed, True
    filled = numbers[finite]
    units = [unit for unit in _PER_SECOND if _in_epoch(filled, unit).mean() >= _SHARE]
    if units:
        reading.note(f"timestamps are epoch {units[0]}, read as UTC")
        return _from_epoch(numbers, units[0]), True
    if np.mean((filled > 20000) & (filled < LAST_SERIAL)) < _SHARE:
        raise DataError(
            f"{reading.where}: the timestamp column holds numbers such as {filled[0]:g} that are no date and no "
            f"epoch from 1971 to 2100. Name the right column with {name_columns(timestamp='NAME')}."
        )
    reading.note("timestamps are spreadsheet serial days")
    fits = finite & (numbers > 0) & (numbers < LAST_SERIAL)
    stamps = _SERIAL_ORIGIN + np.round(np.where(fits, numbers, 0.0) * 86400).astype("timedelta64[s]")
    return np.where(fits, stamps, np.datetime64("NaT")), False


def mixed_epochs(numbers: npt.NDArray[Any], rows: Any, reading: ReadContext) -> Stamps | None:
    """Epochs whose unit changes, as Binance's files did in 2025, each by its own size; None: there is one unit.

    Raises:
        DataError: time does not run on across the change, so that size alone does not tell.
    """
    fits = {unit: inside for unit in _PER_SECOND if (inside := _in_epoch(numbers, unit)).any()}
    if len(fits) < 2:
        return None
    known: npt.NDArray[np.bool_] = np.logical_or.reduce(list(fits.values()))
    if known.sum() < _SHARE * np.isfinite(numbers).sum():
        return None
    stamps = np.full(len(numbers), np.datetime64("NaT", "ns"))
    for unit, inside in fits.items():
        stamps[inside] = _from_epoch(numbers[inside], unit)
    first = next(unit for unit, inside in fits.items() if inside[known.argmax()])
    place = int((known & ~fits[first]).argmax())
    second = next(unit for unit, inside in fits.items() if inside[place])
    steps = np.diff(stamps[known].astype(np.int64))
    if not ((steps >= 0).all() or (steps <= 0).all()):
        raise DataError(
            f"{reading.where}, row {rows[place]}, column timestamp: the epochs are in {first} before and in {second} "
            "here, and time does not run on across the change. Write all in one unit, or read each part alone."
        )
    reading.note(f"timestamps are epoch {first}, from row {rows[place]} on {second}, each read by its size as UTC")
    return stamps


def midnights_elsewhere(stamps: Stamps, reading: ReadContext) -> Stamps | None:
    """Days that a source stamps at its own midnight, as dates; None where they are nothing like it.

    Of each day there is one row, at an hour of winter and one of summer, or at 00:00, which is a date already.
    """
    filled = stamps[~np.isnat(stamps)]
    sample = filled[:: len(filled) // 1000 + 1]
    if len(filled) < 2 or len(np.unique(_minutes(sample))) > 3:  # intraday, mostly
        return None
    filled = np.unique(filled)
    minutes, day = _minutes(filled), filled.astype("datetime64[D]")
    hours = np.unique(minutes[minutes > 0]).tolist()
    if not 0 < len(hours) <= 2 or hours[-1] - hours[0] not in (0, 60) or len(np.unique(day)) < len(day):
        return None
    every = stamps.astype("datetime64[D]")
    if _in_the_east(day, minutes, hours):
        reading.note("timestamps are midnights of a zone east of UTC: read as dates")
        return _nanoseconds(np.where(stamps > every, every + 1, every))
    if _in_the_west(day, minutes, hours):
        reading.note("timestamps are midnights of a zone west of UTC, and of UTC: read as dates")
        return _nanoseconds(every)
    return None


def _minutes(stamps: Stamps) -> npt.NDArray[np.int64]:
    """The time of day in minutes."""
    minutes: npt.NDArray[np.int64] = (stamps - stamps.astype("datetime64[D]")).astype("timedelta64[m]").astype(np.int64)
    return minutes


def _in_the_east(day: Stamps, minutes: npt.NDArray[np.int64], hours: list[int]) -> bool:
    """18:30 is midnight in India; elsewhere weekdays tell: a session of Monday begins on Sunday in UTC, and none on
    Friday. 21:00 and 22:00 are left alone, where the days of currencies begin."""
    weekdays = (day[minutes > 0].astype(np.int64) + 3) % 7  # Monday 0
    told = 4 not in weekdays and (6 in weekdays or hours == [18 * 60 + 30])
    return told and hours[0] >= 14 * 60 and hours[-1] not in (21 * 60, 22 * 60)


def _in_the_west(day: Stamps, minutes: npt.NDArray[np.int64], hours: list[int]) -> bool:
    """Midnights of a zone that go on at UTC's, or the other way round; the date is the same by either."""
    if len(day) < 5 or (minutes > 0).all():
        return False
    turns = int(np.count_nonzero(np.diff(minutes == 0)))
    gaps = np.diff(day.astype(np.int64))
    daily = np.median(gaps) == 1 and turns <= 1 + gaps.sum() // 90
    return bool(daily and hours[-1] <= 12 * 60 and hours[0] % 30 == 0)


def clock_change(stamp: pd.Timestamp) -> str | None:
    """A zone whose clocks show this wall time twice, for errors about times that repeat; None: none of the usual."""
    if stamp.tz is not None:
        return None
    for zone in ("America/New_York", "Europe/London", "Europe/Berlin", "Europe/Athens", "Australia/Sydney"):
        first, second = (stamp.tz_localize(zone, ambiguous=fold, nonexistent="shift_forward") for fold in (True, False))
        if first != second:
            return zone
    return None


def _in_epoch(numbers: npt.NDArray[Any], unit: str) -> npt.NDArray[np.bool_]:
    low, high = (edge * _PER_SECOND[unit] for edge in _EPOCH_RANGE)
    return (numbers >= low) & (numbers <= high)


def _from_epoch(numbers: npt.NDArray[Any], unit: str) -> Stamps:
    inside, scale = _in_epoch(numbers, unit), 10**9 // _PER_SECOND[unit]
    safe = np.where(inside, numbers, 0)
    whole = safe.astype(np.int64, copy=False)
    nanos = whole * scale
    if numbers.dtype.kind == "f":
        nanos += np.round((safe - whole) * scale).astype(np.int64)
    return np.where(inside, nanos.view("datetime64[ns]"), np.datetime64("NaT"))


def _compact(numbers: npt.NDArray[Any], finite: npt.NDArray[np.bool_]) -> Stamps | None:
    """YYYYMMDD, YYYYMMDDHHMM, YYYYMMDDHHMMSS and …mmm, when the fields are those of real dates."""
    whole = np.where(finite, numbers, 0)
    if numbers.dtype.kind == "f":
        if np.abs(whole).max() > 2**53 or (whole != np.round(whole)).any():
            return None
        whole = whole.astype(np.int64)
    tail = {8: 0, 12: 4, 14: 6, 17: 9}.get(len(str(int(np.median(whole[finite])))))
    if tail is None:
        return None
    date, clock = np.divmod(whole, 10**tail)
    year, month, day = date // 10000, date // 100 % 100, date % 100
    clock = clock * 10 ** (9 - tail)  # HHMMSSmmm
    hour, minute, second, milli = clock // 10**7, clock // 10**5 % 100, clock // 1000 % 100, clock % 1000
    fits = finite & (year >= 1800) & (year < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    fits &= (hour < 24) & (minute < 60) & (second < 60)
    if fits[finite].mean() < _SHARE:
        return None
    millis = (hour * 3600 + minute * 60 + second) * 1000 + milli
    return np.where(fits, to_days(year, month, day) + millis.astype("timedelta64[ms]"), np.datetime64("NaT"))


def _from_text(
    column: Any, clock: Any, header_zone: str | None, rows: npt.NDArray[np.int64], reading: ReadContext
) -> tuple[Stamps, str | None]:
    """Text stamps: naive wall time or, with zone suffixes, instants in UTC and the zone to show them in."""
    text = _blank_to_null(column if pa.types.is_string(column.type) else column.cast(pa.string()))
    if text.null_count == len(text):
        raise DataError(f"{reading.where}: the timestamp column is empty.")
    refuse_two_zones(text, rows, reading)
    body, offsets = split_zone(text)
    digits = _numbers(column) if clock is not None else None
    days = _compact(digits, np.isfinite(digits)) if digits is not None else None
    wall = parse_dates(body, reading) if days is None else days
    if clock is not None:
        wall = wall + parse_clock(clock, reading)
    if offsets is None:
        return wall, header_zone
    known = ~np.isnan(offsets)
    minutes = np.unique(offsets[known])
    lacking = ~known & ~np.isnat(wall)
    instants = wall - np.where(known, offsets, 0).astype("timedelta64[m]")
    seen = wall[~np.isnat(wall)]
    # A mixture of rows with and without a zone, or of zones, is an instant only where a zone is given: none of them can
    # be said to be the wrong one.
    if lacking.any():
        odd = lacking if lacking.sum() <= known.sum() else known
    elif len(minutes) == 1:
        hours, rest = divmod(abs(int(minutes[0])), 60)
        zone = f"{'-' if minutes[0] < 0 else '+'}{hours:02d}:{rest:02d}" if minutes[0] else "UTC"
        if zone != "UTC":
            reading.note(f"every timestamp carries the offset {zone}")
        return instants, zone
    elif (seen == seen.astype("datetime64[D]")).all():
        reading.note("timestamps are local midnights with changing offsets: read as dates")
        return wall, None
    elif reading.timezone is not None:
        reading.note(f"offsets change with daylight saving: read as instants, shown in {reading.timezone}")
        return instants, "UTC"
    else:
        odd = known & (offsets != offsets[known][0])
    raise DataError(
        f"{reading.where}, row {rows[odd.argmax()]}, column timestamp: the time zone differs from the rows before.\n"
        "Give timezone= (--timezone, such as America/New_York) to read all as instants, or write one zone."
    )


def _iso(column: Any) -> Stamps | None:
    """Plain ISO 8601 without zones, which most files have, in one pass of Arrow; else None."""
    if not pa.types.is_string(column.type):
        return None
    try:
        seconds = pc.cast(column, pa.timestamp("s"))
    except pa.ArrowInvalid:
        return None
    stamps: Stamps = seconds.to_numpy(zero_copy_only=False)
    return None if seconds.null_count == len(seconds) else stamps

"""Reads a column of timestamps: one reading for the whole column, never decided by its first row.

Text, epoch numbers in any unit, compact dates (20240102), spreadsheet serials, day-first or month-first
dates, separate date and time columns and zone suffixes are told apart by what fits every row. Where two
readings fit, a DataError names the option that decides.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.datetext import days_from_civil, parse_clock, parse_dates, split_zone
from kronos.bars.report import name_columns, shown
from kronos.errors import ConfigError, DataError

# Both types are stubs away: Arrow ships none.
Text = Any
Stamps = npt.NDArray[np.datetime64]

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Epochs are accepted from 1971 to 2100. The lower edge keeps the four units apart by size alone.
_EPOCH_RANGE: Final = (365 * 86400, 130 * 365 * 86400)
_SERIAL_ORIGIN: Final = np.datetime64("1899-12-30", "ns")
_EARLIEST, _LATEST = np.datetime64("1700-01-01", "ns"), np.datetime64("2200-01-01", "ns")
_SHARE: Final = 0.9  # a reading must explain this share of the rows; the rest are reported as unparsable


@dataclass(frozen=True)
class TimeColumn:
    """Parsed timestamps.

    Attributes:
        index: one entry a row; NaT where the row could not be read. Aware when the zone is known.
        zone_breaks: rows (0-based) whose zone suffix differs from the rows before (at most 10).
        example: what stands in the first row that could not be read.
    """

    index: pd.DatetimeIndex
    zone_breaks: tuple[int, ...] = ()
    example: str | None = None


def parse_times(values: Any, reading: ReadContext, *, clock: Any = None, header_zone: str | None = None) -> TimeColumn:
    """Read a whole column of timestamps."""
    check_zone(reading.timezone)
    if reading.epoch is not None and reading.epoch not in _PER_SECOND:
        raise ConfigError(f"epoch must be one of {', '.join(_PER_SECOND)}, not '{reading.epoch}'.")
    column = as_arrow(values)
    zone = header_zone
    breaks: tuple[int, ...] = ()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None) or header_zone
        stamps = _to_ns(column)
        if clock is not None:
            stamps = stamps + parse_clock(as_arrow(clock), reading)
    elif clock is None and (numbers := _numbers(column)) is not None:
        stamps, aware = _from_numbers(numbers, reading)
        zone = "UTC" if aware else header_zone
    else:
        stamps, zone, breaks = _from_text(column, clock, header_zone, reading)
    index = _apply_zone(pd.DatetimeIndex(_within(stamps)), zone, reading)
    return TimeColumn(index, breaks, _first_bad(column, index))


def _first_bad(column: Any, index: pd.DatetimeIndex) -> str | None:
    bad = np.flatnonzero(np.asarray(index.isna()))
    if len(bad) == 0:
        return None
    found = column[int(bad[0])].as_py()
    return "nothing" if found is None else shown(found)


def check_zone(timezone: str | None) -> None:
    """Raise ConfigError unless ``timezone`` is None or a zone that this machine knows."""
    if timezone is None:
        return
    try:
        pd.Timestamp("2024-01-01").tz_localize(timezone)
    except Exception as error:
        raise ConfigError(
            f"Unknown time zone '{timezone}'. Use an IANA name such as UTC, Asia/Shanghai or America/New_York."
        ) from error


def as_arrow(values: Any) -> Any:
    """A column as one Arrow array; objects of several kinds become text."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(array, pa.ChunkedArray):  # a column without rows stays chunked
            array = pa.array([], type=array.type)
    else:
        series = pd.Series(values)
        try:
            array = pa.Array.from_pandas(series)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            array = pa.array([None if _is_missing(item) else str(item) for item in series], type=pa.string())
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _is_missing(item: Any) -> bool:
    return item is None or item is pd.NaT or (isinstance(item, float) and item != item)


def _to_ns(column: Any) -> Stamps:
    """Arrow dates or times as datetime64[ns], in UTC when aware; out of range becomes NaT."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    return _within(column.to_numpy(zero_copy_only=False)).astype("datetime64[ns]")


def _within(stamps: Stamps) -> Stamps:
    """NaT for what lies outside the years that bars can have."""
    # Compared in the column's own unit: a cast to nanoseconds first would wrap around.
    low, high = (edge.astype(stamps.dtype) for edge in (_EARLIEST, _LATEST))
    inside = (stamps > low) & (stamps < high)
    return stamps if inside.all() else np.where(inside, stamps, np.datetime64("NaT")).astype(stamps.dtype)


def _numbers(column: Any) -> npt.NDArray[np.float64] | npt.NDArray[np.int64] | None:
    """The column as numbers when every filled row is one, else None."""
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return None
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    elif pa.types.is_string(column.type):
        if not _starts_as_number(column):
            return None
        for kind in (pa.int64(), pa.float64()):
            try:
                cast = pc.cast(_blank_to_null(column), kind)
            except pa.ArrowInvalid:
                continue
            if cast.null_count == len(cast):
                return None
            numbers = cast.to_numpy(zero_copy_only=False)
            break
        else:
            return None
    else:
        return None
    return numbers.astype(np.int64) if numbers.dtype.kind in "iu" else numbers.astype(np.float64)


def _starts_as_number(column: Any) -> bool:
    """False when one of the first rows already is no number: then the column is not one of numbers."""
    for text in column.slice(0, 20).to_pylist():
        try:
            float(text or "0")
        except ValueError:
            return False
    return True


def _blank_to_null(column: Any) -> Any:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _from_numbers(numbers: npt.NDArray[Any], reading: ReadContext) -> tuple[Stamps, bool]:
    """Epoch in one of four units, compact dates, or spreadsheet serials; True when it is an instant (UTC)."""
    finite, epoch = np.isfinite(numbers), reading.epoch
    if not finite.any():
        raise DataError(f"{reading.where}: the timestamp column is empty.")
    filled = numbers[finite]
    if epoch is None:
        compact = _compact(numbers, finite)
        if compact is not None:
            reading.note("timestamps are compact dates (YYYYMMDD…)")
            return compact, False
        units = [unit for unit in _PER_SECOND if _epoch_share(filled, unit) >= _SHARE]
        if len(units) > 1:
            raise DataError(
                f"{reading.where}: the timestamps fit an epoch in {' and in '.join(units)}. Say which, "
                f"such as epoch='{units[0]}' (--epoch {units[0]})."
            )
        if not units:
            if np.mean((filled > 20000) & (filled < 75000)) >= _SHARE:
                reading.note("timestamps are spreadsheet serial days")
                finite &= (numbers > 0) & (numbers < 75000)
                days = np.where(finite, numbers, 0.0)
                stamps = _SERIAL_ORIGIN + np.round(days * 86400).astype("timedelta64[s]")
                return np.where(finite, stamps, np.datetime64("NaT")).astype("datetime64[ns]"), False
            raise DataError(
                f"{reading.where}: the timestamp column holds numbers such as {filled[0]:g} that are no date and no "
                f"epoch from 1971 to 2100. Name the right column with {name_columns(timestamp='NAME')}."
            )
        epoch = units[0]
        reading.note(f"timestamps are epoch {epoch}, read as UTC")
    scale = 10**9 // _PER_SECOND[epoch]
    low, high = (edge * _PER_SECOND[epoch] for edge in _EPOCH_RANGE)
    with np.errstate(invalid="ignore"):
        inside = finite & (numbers >= low) & (numbers <= high)
    if numbers.dtype.kind == "i":
        nanos = np.where(inside, numbers, 0) * scale
    else:
        safe = np.where(inside, numbers, 0.0)
        whole = np.floor(safe)
        nanos = whole.astype(np.int64) * scale + np.round((safe - whole) * scale).astype(np.int64)
    return np.where(inside, nanos.view("datetime64[ns]"), np.datetime64("NaT")).astype("datetime64[ns]"), True


def _epoch_share(filled: npt.NDArray[Any], unit: str) -> float:
    low, high = (edge * _PER_SECOND[unit] for edge in _EPOCH_RANGE)
    return float(np.mean((filled >= low) & (filled <= high)))


def _compact(numbers: npt.NDArray[Any], finite: npt.NDArray[np.bool_]) -> Stamps | None:
    """YYYYMMDD, YYYYMMDDHHMM, YYYYMMDDHHMMSS and …mmm, when the fields are those of real dates."""
    whole = np.where(finite, numbers, 0)
    if numbers.dtype.kind == "f":
        if np.abs(whole).max() > 2**53 or (whole != np.round(whole)).any():
            return None
        whole = whole.astype(np.int64)
    largest = int(np.median(whole[finite]))
    tail = {8: 0, 12: 4, 14: 6, 17: 9}.get(len(str(largest)))
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
    days, real = days_from_civil(year, month, day)
    seconds = days * 86400 + hour * 3600 + minute * 60 + second
    stamps = (seconds * 1000 + milli).astype("datetime64[ms]").astype("datetime64[ns]")
    return np.where(fits & real, stamps, np.datetime64("NaT")).astype("datetime64[ns]")


def _from_text(
    column: Text, clock: Any, header_zone: str | None, reading: ReadContext
) -> tuple[Stamps, str | None, tuple[int, ...]]:
    """Text stamps: naive wall time or, with zone suffixes, instants in UTC."""
    quick = _iso(column) if clock is None else None
    if quick is not None:
        return quick, header_zone, ()
    text = _blank_to_null(column if pa.types.is_string(column.type) else column.cast(pa.string()))
    if text.null_count == len(text):
        raise DataError(f"{reading.where}: the timestamp column is empty.")
    body, offsets = split_zone(text)
    digits = _numbers(column) if clock is not None else None
    days = _compact(digits, np.isfinite(digits)) if digits is not None else None
    wall = parse_dates(body, reading) if days is None else days
    if clock is not None:
        wall = wall + parse_clock(as_arrow(clock), reading)
    if offsets is None:
        return wall, header_zone, ()
    known = ~np.isnan(offsets)
    minutes = np.unique(offsets[known])
    # A mixture of rows with and without zone, or of zones, is an instant only where a zone is given.
    lacking = ~known & ~np.isnat(wall)
    first = offsets[known][0]
    if lacking.any():
        return wall, None, tuple(np.flatnonzero(lacking if lacking.sum() <= known.sum() else known)[:10])
    instants = wall - np.where(known, offsets, 0).astype("timedelta64[m]")
    if len(minutes) == 1:
        if minutes[0] == 0:
            return instants, "UTC", ()
        reading.note(f"every timestamp carries the offset {_offset_name(minutes[0])}")
        return instants, _offset_name(minutes[0]), ()
    seen = wall[~np.isnat(wall)]
    if (seen == seen.astype("datetime64[D]")).all():
        reading.note("timestamps are local midnights with changing offsets: read as dates")
        return wall, None, ()
    if reading.timezone is not None:
        reading.note(f"offsets change with daylight saving: read as instants, shown in {reading.timezone}")
        return instants, "UTC", ()
    return instants, "UTC", tuple(np.flatnonzero(known & (offsets != first))[:10])


def _iso(column: Any) -> Stamps | None:
    """Plain ISO 8601 without zones, which most files have, in one pass of Arrow; else None."""
    if not pa.types.is_string(column.type):
        return None
    try:
        stamps: Stamps = pc.cast(column, pa.timestamp("s")).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return None if np.isnat(stamps).all() else _within(stamps).astype("datetime64[ns]")


def _offset_name(minutes: float) -> str:
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{int(abs(minutes)) // 60:02d}:{int(abs(minutes)) % 60:02d}"


def _apply_zone(index: pd.DatetimeIndex, zone: str | None, reading: ReadContext) -> pd.DatetimeIndex:
    timezone = reading.timezone
    if zone is not None:  # Arrow keeps aware times in UTC beside the zone's name
        aware = index.tz_localize("UTC")
        if timezone is not None:
            return aware.tz_convert(timezone)
        if zone[0] in "+-":
            offset = dt.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
            return aware.tz_convert(dt.timezone(-offset if zone[0] == "-" else offset))
        return aware if zone in ("UTC", "GMT") else aware.tz_convert(zone)
    if timezone is None:
        return index
    reading.note(f"times without a zone are read as {timezone}")
    try:
        return index.tz_localize(timezone, ambiguous="infer", nonexistent="NaT")
    except ValueError:
        # The repeated hour in autumn cannot be told apart; those rows become NaT and are reported.
        return index.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")

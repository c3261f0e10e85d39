"""Dates as text: field orders, month names, clock times and zone suffixes, read by whole columns."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kronos.bars.reading.datewords import in_plain_words
from kronos.bars.report import ReadContext, name_columns, shown
from kronos.errors import DataError

Ints = npt.NDArray[np.int64]
Stamps = npt.NDArray[np.datetime64]
Durations = npt.NDArray[np.timedelta64]

_OFFSET: Final = r"[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?"
_UTC_TWICE: Final = r"[+-]00:?00Z"  # of exporters that add an offset to what is written in UTC, or the other way round
_OFFSET_Z: Final = rf":\d{{2}}(?:[.,]\d+)?\s*{_OFFSET}\s*[Zz]$"
_SUFFIX: Final = rf"\s*(?:{_UTC_TWICE}|(?:GMT|UTC)?\s*{_OFFSET}|Z|GMT|UTC)"
_ZONE: Final = rf"(?i)(?P<zone>{_SUFFIX})$"
# A zone can only follow a clock time; otherwise the year of 31-12-2024 would look like one.
_CLOCK_THEN_ZONE: Final = rf"(?i)\d:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?{_SUFFIX}$"
_CLOCK: Final = (
    r"(?:(?:\s+|T|\s*[,;]\s*)(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
)
_WEEKDAY: Final = r"(?:[A-Za-z]{2,9},?\s+)?"
_NUMERIC: Final = r"^(?P<a>\d{1,4})\s*[-/.年]\s*(?P<b>\d{1,2})\s*[-/.月]\s*(?P<c>\d{1,4})日?" + _CLOCK + "$"
_DAY_NAME: Final = (
    "^" + _WEEKDAY + r"(?P<a>\d{1,2})[-\s/.]+(?P<b>[A-Za-z]{3,9})\.?[-\s/.,]+(?P<c>\d{2,4})" + _CLOCK + "$"
)
_NAME_DAY: Final = "^" + _WEEKDAY + r"(?P<b>[A-Za-z]{3,9})\.?\s*(?P<a>\d{1,2}),?\s+(?P<c>\d{2,4})" + _CLOCK + "$"
# 20240102 093000 and 20240102T0930: digits with one separator, which numbers cannot hold
_COMPACT: Final = (
    r"^(?P<a>\d{4})(?P<b>\d{2})(?P<c>\d{2})[ T_-](?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?"
    r"(?P<fraction>)(?P<half>)$"
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHARE: Final = 0.9


def count_matches(column: Any, pattern: str) -> int:
    """Cells of a text column that a regular expression fits."""
    return pc.sum(pc.match_substring_regex(column, pattern)).as_py() or 0


def refuse_two_zones(text: Any, rows: Any, reading: ReadContext) -> None:
    """Refuse ``+08:00Z`` and the like: an offset and the mark of UTC contradict each other.

    Raises:
        DataError: many cells are so; single ones are told as what cannot be read.
    """
    twice = pc.fill_null(pc.match_substring_regex(text, _OFFSET_Z), False).to_numpy(zero_copy_only=False).astype(bool)
    if twice.any():
        same = pc.fill_null(pc.match_substring_regex(text, _UTC_TWICE + "$"), False)
        twice &= ~same.to_numpy(zero_copy_only=False).astype(bool)
    if twice.sum() > (1 - _SHARE) * (len(text) - text.null_count):
        row = int(twice.argmax())
        raise DataError(
            f"{reading.where}, row {rows[row]}, column timestamp: '{shown(text[row].as_py())}' contradicts itself: an "
            "offset from UTC, and Z, which is UTC.\nWrite the offset alone where these are local times, or Z alone."
        )


def split_zone(text: Any) -> tuple[Any, npt.NDArray[np.float64] | None]:
    """Cut zone suffixes off; returns the rest and the offsets in minutes (NaN where there is none).

    The offsets are None when no row carries a zone.
    """
    has = pc.fill_null(pc.match_substring_regex(text, _CLOCK_THEN_ZONE), False)
    if not pc.any(has).as_py():
        return text, None
    codes = pc.dictionary_encode(pc.struct_field(pc.extract_regex(text, "(?s)^.*?" + _ZONE), "zone"))
    # GMT+0530 is +0530, and that 330.
    zones = [re.sub(r"[^\d+-]", "", zone) for zone in codes.dictionary.to_pylist()]
    sizes = [int(zone[1:3] or 0) * 60 + int(zone[3:] or 0) for zone in zones]
    minutes = np.array([*(-size if zone.startswith("-") else size for zone, size in zip(zones, sizes)), np.nan])
    offsets = minutes[codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    body = pc.if_else(has, pc.replace_substring_regex(text, _ZONE.replace("(?P<zone>", "("), ""), text)
    return body, np.where(has.to_numpy(zero_copy_only=False), offsets, np.nan)


def parse_dates(text: Any, reading: ReadContext) -> Stamps:
    """Naive wall times from text; NaT where a row does not fit the reading of the column."""
    with suppress(pa.ArrowInvalid):  # the common case, ISO 8601, straight in Arrow
        stamps: Stamps = pc.cast(text, pa.timestamp("ns")).to_numpy(zero_copy_only=False)
        return stamps
    best, count = _best_pattern(text)
    if count < _SHARE * (len(text) - text.null_count):
        plain = in_plain_words(text)
        better, count = _best_pattern(plain)
        text, best = (plain, better) if count >= _SHARE * (len(text) - text.null_count) else (text, best)
    if count < _SHARE * (len(text) - text.null_count):
        raise DataError(
            f"{reading.where}: timestamps such as '{_example(text, best)}' cannot be read. Write them as "
            f"2024-12-31 09:30:00, or name the right column with {name_columns(timestamp='NAME')}."
        )
    if best == _COMPACT:
        reading.note("timestamps are compact dates (YYYYMMDD HHMMSS)")
    fields = pc.extract_regex(text, best)
    clock = _clock(fields)
    if best in (_NUMERIC, _COMPACT):
        a, b, c = (_ints(fields, name) for name in "abc")
        return _numeric_dates(a, b, c, clock, reading)
    month = _months(fields)
    if (month == 0).sum() > fields.null_count:  # names of months in another language
        fields = pc.extract_regex(in_plain_words(text), best)
        month, clock = _months(fields), _clock(fields)
    return to_days(_ints(fields, "c"), month, _ints(fields, "a")) + clock


def _months(fields: Any) -> Ints:
    """The months that names begin with, 0 where one is unknown."""
    names = pc.utf8_slice_codeunits(pc.utf8_lower(pc.struct_field(fields, "b")), 0, 3)
    places: Ints = pc.fill_null(pc.index_in(names, pa.array(_MONTHS)), -1).to_numpy(zero_copy_only=False)
    return places + 1


def _best_pattern(text: Any) -> tuple[str, int]:
    """The layout of dates that fits most cells, and how many."""
    counts = {pattern: count_matches(text, pattern) for pattern in (_NUMERIC, _DAY_NAME, _NAME_DAY, _COMPACT)}
    best = max(counts, key=counts.__getitem__)
    return best, counts[best]


def _example(text: Any, pattern: str) -> str:
    """The first cell that a pattern does not fit."""
    missed = pc.filter(text, pc.invert(pc.match_substring_regex(text, pattern)))
    return shown((missed if len(missed) else text.drop_null())[0].as_py())


def _ints(fields: Any, name: str) -> Ints:
    """A group as integers; missing and empty give -1."""
    group = pc.struct_field(fields, name)
    group = pc.if_else(pc.equal(group, ""), "-1", group)
    values: Ints = pc.fill_null(pc.cast(group, pa.int64()), -1).to_numpy(zero_copy_only=False)
    return values


def _clock(fields: Any) -> Durations:
    """The time of day in the groups of ``_CLOCK``; a group that is missing counts as 0."""
    hour, minute, second = (_ints(fields, name) for name in ("hour", "minute", "second"))
    half = pc.fill_null(pc.utf8_lower(pc.struct_field(fields, "half")), "")
    afternoon, morning = (pc.starts_with(half, mark).to_numpy(zero_copy_only=False) for mark in "pa")
    hour = np.where((afternoon | morning) & (hour == 12), 0, hour) + 12 * afternoon
    fraction = pc.fill_null(pc.struct_field(fields, "fraction"), "")
    nanos = pc.cast(pc.utf8_rpad(fraction, 9, "0"), pa.int64()).to_numpy(zero_copy_only=False)
    seconds = np.maximum(hour, 0) * 3600 + np.maximum(minute, 0) * 60 + np.maximum(second, 0)
    bad = (hour > 24) | (minute > 59) | (second > 60)
    return np.where(bad, np.timedelta64("NaT"), (seconds * 10**9 + nanos).astype("timedelta64[ns]"))


def to_days(year: Ints, month: Ints, day: Ints) -> Stamps:
    """Dates in nanoseconds, NaT where there is no such date; years of two digits are 1970 to 2069."""
    year = np.where((year < 0) | (year >= 100), year, np.where(year < 70, year + 2000, year + 1900))
    inside = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1700) & (year < 2200)
    months = (np.where(inside, year - 1970, 0) * 12 + np.where(inside, month, 1) - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(inside, day, 1) - 1
    real = inside & (days.astype("datetime64[M]") == months)
    return np.where(real, days, np.datetime64("NaT")).astype("datetime64[ns]")


def _numeric_dates(a: Ints, b: Ints, c: Ints, clock: Durations, reading: ReadContext) -> Stamps:
    """Dates of three numbers, in the order that most rows obey and that keeps the column sorted."""
    if 100 <= np.median(a) < 200:  # 113/01/02 is 2024 in Taiwan, whose years count from 1912
        reading.note("years are counted from 1912 (Minguo)")
        a = a + 1911
    orders = {"day first": (c, b, a), "month first": (c, a, b), "year first": (a, b, c)}
    if long_first := np.median(a) > 31:
        orders = {"year first": (a, b, c)}
    elif reading.dayfirst is not None:
        first = "day first" if reading.dayfirst else "month first"
        orders = {first: orders[first]}
    elif np.median(c) > 31:
        del orders["year first"]
    readings = {name: to_days(*order) + clock for name, order in orders.items()}
    counts = {name: np.count_nonzero(~np.isnat(stamps)) for name, stamps in readings.items()}
    # Rows out of order count as misfits, so the reading that keeps the column sorted wins.
    fitting = {name: _disorder(stamps) for name, stamps in readings.items() if counts[name] == max(counts.values())}
    names = [name for name, disorder in fitting.items() if disorder <= min(fitting.values()) + 0.02]
    # Of readings that are all sorted, the one whose intraday bars run from day to day, where only one does: hours of
    # one day a month are no bars that anyone keeps. Without times of day they could be monthly bars.
    if len(names) > 1 and len(np.unique(clock[~np.isnat(clock)])) > 1:
        days = {name: readings[name][~np.isnat(readings[name])].astype("datetime64[D]") for name in names}
        steps = {name: np.diff(np.unique(some)).astype(np.int64) for name, some in days.items()}
        near = [name for name in names if len(steps[name]) and steps[name].max() <= 10]
        far = [name for name in names if len(steps[name]) and np.median(steps[name]) >= 20]
        names = near if len(near) == 1 and len(far) == len(names) - 1 else names
    if len({readings[name].tobytes() for name in names}) > 1:
        row = int(np.flatnonzero(a >= 0)[0])
        raise DataError(
            f"{reading.where}: the dates read both {' and '.join(names)} "
            f"(such as {a[row]:02d}-{b[row]:02d}-{c[row]:02d}). "
            "Say which with dayfirst=True (--dayfirst) or dayfirst=False (--monthfirst)."
        )
    if not long_first:
        reading.note(f"dates are {names[0]}")
    return readings[names[0]]


def _disorder(stamps: Stamps) -> float:
    """Share of steps that go against the main direction of time."""
    steps = np.diff(stamps[~np.isnat(stamps)].astype(np.int64))
    return float(min((steps < 0).mean(), (steps > 0).mean())) if len(steps) else 0.0


def parse_clock(column: Any, reading: ReadContext) -> Durations:
    """A column of times of day (``09:30``, ``09:30:00.000``, ``93000``, ``0930``) as durations."""
    if pa.types.is_time(column.type):
        durations: Durations = (
            column.cast(pa.time64("ns")).cast(pa.int64()).cast(pa.duration("ns")).to_numpy(zero_copy_only=False)
        )
        return durations
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    if count_matches(text, r"^\d{1,6}$") == len(text) - text.null_count:
        whole = pc.fill_null(pc.cast(text, pa.int64()), -1).to_numpy(zero_copy_only=False)
        if whole.max(initial=0) <= 2359:
            whole = whole * 100
        hour, minute, second = whole // 10000, whole // 100 % 100, whole % 100
        bad = (whole < 0) | (hour > 24) | (minute > 59) | (second > 59)
        seconds = (hour * 3600 + minute * 60 + second).astype("timedelta64[s]")
        return np.where(bad, np.timedelta64("NaT"), seconds.astype("timedelta64[ns]"))
    fields = pc.extract_regex(pc.binary_join_element_wise(" ", text, ""), "^" + _CLOCK + "$")
    if fields.null_count > (1 - _SHARE) * len(fields):
        raise DataError(
            f"{reading.where}: times such as '{_example(text, '^$')}' cannot be read. Write them as 09:30:00."
        )
    missing = fields.is_null().to_numpy(zero_copy_only=False) | (_ints(fields, "hour") < 0)
    return np.where(missing, np.timedelta64("NaT"), _clock(fields))

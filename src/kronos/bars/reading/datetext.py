"""Dates as text: field orders, month names, clock times and zone suffixes, read by whole columns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.numbers import count_matches
from kronos.bars.report import name_columns, shown
from kronos.errors import DataError

Ints = npt.NDArray[np.int64]
Stamps = npt.NDArray[np.datetime64]

_OFFSET: Final = r"[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?"
_ZONE: Final = rf"(?i)(?P<zone>\s*(?:(?:GMT|UTC)?\s*{_OFFSET}|Z|GMT|UTC))$"
# A zone can only follow a clock time; otherwise the year of 31-12-2024 would look like one.
_CLOCK_THEN_ZONE: Final = rf"(?i)\d:\d{{2}}(?::\d{{2}}(?:[.,]\d+)?)?\s*(?:(?:GMT|UTC)?\s*{_OFFSET}|Z|GMT|UTC)$"
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
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SHARE: Final = 0.9


def split_zone(text: Any) -> tuple[Any, npt.NDArray[np.float64] | None]:
    """Cut zone suffixes off; returns the rest and the offsets in minutes (NaN where there is none).

    The offsets are None when no row carries a zone.
    """
    has = pc.fill_null(pc.match_substring_regex(text, _CLOCK_THEN_ZONE), False)
    if not pc.any(has).as_py():
        return text, None
    zones = pc.struct_field(pc.extract_regex(text, "(?s)^.*?" + _ZONE), "zone")
    codes = pc.dictionary_encode(pc.utf8_trim_whitespace(zones))
    minutes = np.array([_minutes(name) for name in codes.dictionary.to_pylist()], dtype=float)
    indices = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    mask = has.to_numpy(zero_copy_only=False)
    offsets = np.where((indices >= 0) & mask, minutes[indices] if len(minutes) else np.nan, np.nan)
    body = pc.if_else(has, pc.replace_substring_regex(text, _ZONE.replace("(?P<zone>", "("), ""), text)
    return body, offsets


def _minutes(name: str | None) -> float:
    if name is None:
        return np.nan
    digits = name.upper().replace("GMT", "").replace("UTC", "").replace("Z", "").replace(":", "").strip()
    if not digits:
        return 0.0
    sign = -1 if digits[0] == "-" else 1
    digits = digits[1:].ljust(4, "0")
    return sign * (int(digits[:2]) * 60 + int(digits[2:4]))


def parse_dates(text: Any, reading: ReadContext) -> Stamps:
    """Naive wall times from text; NaT where a row does not fit the reading of the column."""
    try:  # the common case, ISO 8601, straight in Arrow
        return _ns(pc.cast(text, pa.timestamp("ns")))
    except pa.ArrowInvalid:
        pass
    compact = _compact_text(text)
    if compact is not None:
        reading.note("timestamps are compact dates (YYYYMMDD HHMMSS)")
        return compact
    filled = len(text) - text.null_count
    counts = {p: count_matches(text, p) for p in (_NUMERIC, _DAY_NAME, _NAME_DAY)}
    best = max(counts, key=counts.__getitem__)
    if counts[best] < _SHARE * filled:
        example = _example(text, best)
        raise DataError(
            f"{reading.where}: timestamps such as '{example}' cannot be read. Write them as 2024-12-31 09:30:00, "
            f"or name the right column with {name_columns(timestamp='NAME')}."
        )
    fields = pc.extract_regex(text, best)
    clock = _clock_nanos(fields)
    days = _numeric_days(fields, clock, reading) if best == _NUMERIC else _named_days(fields)
    return _moments(days, clock)


def _compact_text(text: Any) -> Stamps | None:
    """``20240102 093000`` and ``20240102T0930``: digits with one separator, which numbers cannot hold."""
    fields = pc.extract_regex(
        text,
        r"^(?P<a>\d{4})(?P<b>\d{2})(?P<c>\d{2})[ T_-](?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?"
        r"(?P<fraction>)(?P<half>)$",
    )
    if fields.null_count - text.null_count > (1 - _SHARE) * (len(text) - text.null_count):
        return None
    days = _to_days(*(_ints(fields, name) for name in "abc"))
    return _moments(days, _clock_nanos(fields))


def _moments(days: Stamps, clock: npt.NDArray[np.timedelta64]) -> Stamps:
    moments: Stamps = np.add(days.astype("datetime64[ns]"), clock)
    return moments


def _example(text: Any, pattern: str) -> str:
    missed = pc.filter(text, pc.invert(pc.fill_null(pc.match_substring_regex(text, pattern), True)))
    return shown((missed if len(missed) else text.drop_null())[0].as_py())


def _ns(column: Any) -> Stamps:
    values: Stamps = column.to_numpy(zero_copy_only=False)
    return values.astype("datetime64[ns]")


def _ints(fields: Any, name: str) -> Ints:
    """A group as integers; missing and empty give -1."""
    group = pc.struct_field(fields, name)
    group = pc.if_else(pc.equal(group, ""), "-1", group)
    values: Ints = pc.fill_null(pc.cast(group, pa.int64()), -1).to_numpy(zero_copy_only=False)
    return values


def _clock_nanos(fields: Any) -> npt.NDArray[np.timedelta64]:
    hour, minute, second = (_ints(fields, name) for name in ("hour", "minute", "second"))
    half = pc.fill_null(pc.utf8_lower(pc.struct_field(fields, "half")), "")
    afternoon = pc.starts_with(half, "p").to_numpy(zero_copy_only=False)
    morning = pc.starts_with(half, "a").to_numpy(zero_copy_only=False)
    hour = np.where((afternoon | morning) & (hour == 12), 0, hour) + 12 * afternoon
    fraction = pc.fill_null(pc.struct_field(fields, "fraction"), "")
    nanos = pc.cast(pc.utf8_rpad(fraction, 9, "0"), pa.int64()).to_numpy(zero_copy_only=False)
    seconds = np.maximum(hour, 0) * 3600 + np.maximum(minute, 0) * 60 + np.maximum(second, 0)
    bad = (hour > 24) | (minute > 59) | (second > 60)
    total: npt.NDArray[np.timedelta64] = (seconds * 10**9 + nanos).astype("timedelta64[ns]")
    return np.where(bad, np.timedelta64("NaT"), total)


def days_from_civil(year: Ints, month: Ints, day: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Days since 1970-01-01, and which of the dates exist."""
    inside = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1700) & (year < 2200)
    months = (np.where(inside, year - 1970, 0) * 12 + np.where(inside, month, 1) - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(inside, day, 1) - 1
    return days.astype(np.int64), inside & (days.astype("datetime64[M]") == months)


def _full_year(year: Ints) -> Ints:
    return np.where(year < 0, year, np.where(year < 70, year + 2000, np.where(year < 100, year + 1900, year)))


def _to_days(year: Ints, month: Ints, day: Ints) -> Stamps:
    days, real = days_from_civil(_full_year(year), month, day)
    return np.where(real, days.astype("datetime64[D]"), np.datetime64("NaT"))


def _named_days(fields: Any) -> Stamps:
    names = pc.fill_null(pc.utf8_slice_codeunits(pc.utf8_lower(pc.struct_field(fields, "b")), 0, 3), "")
    month = pc.fill_null(pc.index_in(names, pa.array(_MONTHS)), -1).to_numpy(zero_copy_only=False) + 1
    return _to_days(_ints(fields, "c"), month.astype(np.int64), _ints(fields, "a"))


def _numeric_days(fields: Any, clock: npt.NDArray[np.timedelta64], reading: ReadContext) -> Stamps:
    a, b, c = (_ints(fields, name) for name in "abc")
    long_first = np.median(a) > 31
    long_last = np.median(c) > 31
    readings: dict[str, Stamps] = {}
    if long_first:
        readings["year first"] = _to_days(a, b, c)
    else:
        readings["day first"] = _to_days(c, b, a)
        readings["month first"] = _to_days(c, a, b)
        if not long_last:
            readings["year first"] = _to_days(a, b, c)
    if reading.dayfirst is not None and not long_first:
        first = "day first" if reading.dayfirst else "month first"
        readings = {first: readings[first]}
    counts = {name: int((~np.isnat(days)).sum()) for name, days in readings.items()}
    # Rows out of order count as misfits, so the reading that keeps the column sorted wins.
    seen = max(counts.values())
    fitting = {name: _disorder(days, clock) for name, days in readings.items() if counts[name] >= seen}
    least = min(fitting.values())
    names = [name for name, disorder in fitting.items() if disorder <= least + 0.02]
    if len(names) > 1:
        names = _unbroken(readings, names, clock)
    if len(names) > 1 and len({readings[name].tobytes() for name in names}) > 1:
        row = int(np.flatnonzero(a >= 0)[0])
        raise DataError(
            f"{reading.where}: the dates read both {' and '.join(names)} "
            f"(such as {a[row]:02d}-{b[row]:02d}-{c[row]:02d}). "
            "Say which with dayfirst=True (--dayfirst) or dayfirst=False (--monthfirst)."
        )
    if not long_first:
        reading.note(f"dates are {names[0]}")
    return readings[names[0]]


def _unbroken(readings: dict[str, Stamps], names: list[str], clock: npt.NDArray[np.timedelta64]) -> list[str]:
    """Of readings that are all sorted, the one whose intraday bars run from day to day, where only one does.

    Hours of one day a month are no bars that anyone keeps; days apart by a month could be monthly bars,
    so times of day must differ.
    """
    if len(np.unique(clock[~np.isnat(clock)])) < 2:
        return names
    steps = {name: np.diff(np.unique(readings[name][~np.isnat(readings[name])]).astype(np.int64)) for name in names}
    near = [name for name in names if len(steps[name]) and steps[name].max() <= 10]
    far = [name for name in names if len(steps[name]) and np.median(steps[name]) >= 20]
    return near if len(near) == 1 and len(far) == len(names) - 1 else names


def _disorder(days: Stamps, clock: npt.NDArray[np.timedelta64]) -> float:
    """Share of steps that go against the main direction of time."""
    stamps = _moments(days, clock)[~np.isnat(days)].astype(np.int64)
    steps = np.diff(stamps)
    if len(steps) == 0:
        return 0.0
    return float(min((steps < 0).mean(), (steps > 0).mean()))


def parse_clock(column: Any, reading: ReadContext) -> npt.NDArray[np.timedelta64]:
    """A column of times of day (``09:30``, ``09:30:00.000``, ``93000``, ``0930``) as durations."""
    if pa.types.is_time(column.type):
        nanos = column.cast(pa.time64("ns")).cast(pa.int64())
        return np.where(
            nanos.is_null().to_numpy(zero_copy_only=False),
            np.timedelta64("NaT"),
            nanos.fill_null(0).to_numpy(zero_copy_only=False).astype("timedelta64[ns]"),
        )
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    digits = pc.fill_null(pc.match_substring_regex(text, r"^\d{1,6}$"), False)
    if pc.all(pc.or_(digits, pc.is_null(text))).as_py():
        whole = pc.fill_null(pc.cast(text, pa.int64()), -1).to_numpy(zero_copy_only=False)
        if whole.max(initial=0) <= 2359:
            whole = whole * 100
        hour, minute, second = whole // 10000, whole // 100 % 100, whole % 100
        bad = (whole < 0) | (hour > 24) | (minute > 59) | (second > 59)
        nanos = (hour * 3600 + minute * 60 + second).astype("timedelta64[s]").astype("timedelta64[ns]")
        return np.where(bad, np.timedelta64("NaT"), nanos)
    fields = pc.extract_regex(pc.binary_join_element_wise(" ", text, ""), "^" + _CLOCK + "$")
    if fields.null_count > (1 - _SHARE) * len(fields):
        raise DataError(
            f"{reading.where}: times such as '{_example(text, '^$')}' cannot be read. Write them as 09:30:00."
        )
    missing = fields.is_null().to_numpy(zero_copy_only=False) | (_ints(fields, "hour") < 0)
    return np.where(missing, np.timedelta64("NaT"), _clock_nanos(fields))

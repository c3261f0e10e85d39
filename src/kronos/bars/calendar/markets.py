"""Trading sessions by exchange: opens, lunch breaks, closes and holidays, from exchange_calendars.

A market gives its sessions as arrays in UTC. Past the last day that the calendar knows, sessions are
estimated from the weekdays and hours of its last year and marked so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.errors import CalendarError

Nanos = npt.NDArray[np.int64]

ALWAYS: Final = "24/7"
FX: Final = "FX"
OBSERVED: Final = "observed"
STEP: Final = "step"
RULES: Final = (ALWAYS, FX, OBSERVED, STEP)
"""Calendars that are rules, not exchanges: every day; the currency week from Sunday to Friday 17:00 in
New York, at rest on 25 December and 1 January; the weekly hours seen in the bars; a regular step."""

NO_BREAK: Final = np.iinfo(np.int64).min
_DAY: Final = 86_400_000_000_000
_SAME_SESSIONS: Final = {
    "XSHE": "XSHG", "SZSE": "XSHG", "SHFE": "XSHG", "NYSE ARCA": "XNYS", "AMEX": "XNYS",
    "TSE": "XTKS", "EURONEXT": "XPAR", "XETRA": "XETR", "CRYPTO": ALWAYS, "24X7": ALWAYS, "FOREX": FX,
    "24/5": FX, "24X5": FX,
}  # fmt: skip


@dataclass(frozen=True)
class Sessions:
    """Sessions in order; all times are nanoseconds of UTC.

    Attributes:
        dates: the session's date (midnight, as naive nanoseconds).
        opens, closes: first and last instant of trading.
        break_starts, break_ends: the lunch break, ``NO_BREAK`` where there is none.
        estimated: True past the last session that the calendar knows.
    """

    dates: Nanos
    opens: Nanos
    closes: Nanos
    break_starts: Nanos
    break_ends: Nanos
    estimated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.dates)


@dataclass(frozen=True)
class Market:
    """A calendar by name.

    Attributes:
        name: MIC code, ``24/7`` or ``FX``.
        zone: IANA name of the exchange's own clock.
    """

    name: str
    zone: str

    def sessions(self, start: pd.Timestamp, end: pd.Timestamp, *, rest: bool = True) -> Sessions:
        """The sessions dated from ``start`` to ``end`` (naive dates, both included).

        Args:
            start, end: naive dates.
            rest: False gives the currency weeks whole: some feeds go on quoting through the days of rest.
        """
        if self.name == FX:
            return _fx_weeks(start, end, rest)
        return _exchange_sessions(self.name, start.normalize(), end.normalize())


def calendar_names() -> list[str]:
    """Every name that ``calendar=`` takes: rules, MIC codes and aliases."""
    import exchange_calendars as xc

    return sorted({*RULES, *_SAME_SESSIONS, *xc.get_calendar_names()})


def resolve_calendar(name: str) -> str:
    """The canonical name of a calendar.

    Raises:
        CalendarError: for an unknown name, listing near ones.
    """
    import exchange_calendars as xc

    text = str(name).strip()
    for rule in RULES:
        if text.lower() == rule.lower():
            return rule
    known = {str(code).upper(): str(code) for code in xc.get_calendar_names()}
    upper = text.upper()
    if upper in _SAME_SESSIONS and upper not in known:
        return _SAME_SESSIONS[upper]
    if upper == "24/5":
        return FX
    if upper in known:
        return str(xc.resolve_alias(known[upper]))
    near = difflib.get_close_matches(upper, [entry.upper() for entry in calendar_names()], n=3, cutoff=0.7)
    hint = f"Near names: {', '.join(near)}." if near else "Use a MIC code such as XNYS, XSHG or XHKG, or 24/7."
    raise CalendarError(f"Unknown calendar '{name}'. {hint} All of them: kronos bars calendars")


@lru_cache(maxsize=64)
def market(name: str) -> Market:
    """The market of a calendar name.

    Raises:
        CalendarError: unknown, or ``observed`` and ``step``, which have no sessions.
    """
    code = resolve_calendar(name)
    if code == FX:
        return Market(FX, "America/New_York")
    if code == ALWAYS:
        return Market(ALWAYS, "UTC")
    if code in RULES:
        raise CalendarError(f"The calendar '{code}' has no sessions of its own.")
    return Market(code, str(_calendar(code).tz))


@lru_cache(maxsize=128)
def _calendar(code: str, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None) -> Any:
    import warnings

    import exchange_calendars as xc

    with warnings.catch_warnings():  # its own use of pandas, which we cannot mend here
        warnings.simplefilter("ignore")
        return xc.get_calendar(code) if start is None else xc.get_calendar(code, start=start, end=end)


def _exchange_sessions(code: str, start: pd.Timestamp, end: pd.Timestamp) -> Sessions:
    usual = _calendar(code)
    lower, upper = usual.bound_min(), usual.bound_max()
    # Whole years, so that few distinct calendars are built and the cache is hit.
    first = pd.Timestamp(start.year, 1, 1)
    last = pd.Timestamp(end.year, 12, 31)
    first = max(first, lower) if lower is not None else first
    last = min(last, upper) if upper is not None else last
    if first >= usual.first_session and last <= usual.last_session:
        calendar = usual
    elif first < last - pd.Timedelta(days=30):
        calendar = _calendar(code, first, last)
    else:
        calendar = usual
    known = _from_schedule(calendar.schedule.loc[start:end])
    if end <= calendar.last_session:
        return known
    extra = _estimate(calendar, max(start, calendar.last_session + pd.Timedelta(days=1)), end)
    return _join(known, extra)


def _from_schedule(schedule: pd.DataFrame) -> Sessions:
    def nanos(name: str) -> Nanos:
        column = pd.DatetimeIndex(schedule[name]).as_unit("ns")
        return column.asi8

    return Sessions(
        dates=pd.DatetimeIndex(schedule.index).as_unit("ns").asi8,
        opens=nanos("open"),
        closes=nanos("close"),
        break_starts=nanos("break_start"),
        break_ends=nanos("break_end"),
        estimated=np.zeros(len(schedule), dtype=bool),
    )


def _estimate(calendar: Any, start: pd.Timestamp, end: pd.Timestamp) -> Sessions:
    """Sessions past the calendar's end: its usual weekdays at its usual hours, without holidays."""
    recent = calendar.schedule.iloc[-250:]
    weekdays = pd.DatetimeIndex(recent.index).day_of_week
    usual = [day for day in range(7) if (weekdays == day).sum() > len(recent) / 20]
    days = pd.date_range(start, end, freq="D")
    days = days[np.isin(days.day_of_week, usual)]
    zone = calendar.tz
    columns: dict[str, Nanos] = {}
    for name in ("open", "close", "break_start", "break_end"):
        local = pd.DatetimeIndex(recent[name]).tz_convert(zone).tz_localize(None)
        offset = pd.Series(local - recent.index).mode(dropna=False).iloc[0]
        if pd.isna(offset):
            columns[name] = np.full(len(days), NO_BREAK)
        else:
            moment = (days + offset).tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
            columns[name] = moment.tz_convert("UTC").as_unit("ns").asi8
    return Sessions(
        dates=days.as_unit("ns").asi8,
        opens=columns["open"],
        closes=columns["close"],
        break_starts=columns["break_start"],
        break_ends=columns["break_end"],
        estimated=np.ones(len(days), dtype=bool),
    )


def _join(one: Sessions, two: Sessions) -> Sessions:
    pairs = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in Sessions.__dataclass_fields__}
    return Sessions(**pairs)


def fx_days(start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    """The currency days from ``start`` to ``end`` by the date on which they end, at 17:00 in New York.

    Monday to Friday but 25 December and 1 January, when banks rest the world over; no other holiday stops the market.
    """
    days = pd.bdate_range(start, end).as_unit("ns")
    rest = ((days.month == 12) & (days.day == 25)) | ((days.month == 1) & (days.day == 1))
    return days[~rest]


def _fx_weeks(start: pd.Timestamp, end: pd.Timestamp, rest: bool) -> Sessions:
    """One session a week, from Sunday 17:00 to Friday 17:00 in New York; a day of rest cuts it in two."""
    sunday = start.normalize() - pd.Timedelta(days=(start.weekday() + 1) % 7)
    friday = end.normalize() + pd.Timedelta(days=5 - (end.weekday() + 1) % 7)
    days = fx_days(sunday, friday) if rest else pd.bdate_range(sunday, friday).as_unit("ns")
    eves = days - pd.Timedelta(days=1)
    begins = ~np.isin(eves.asi8, days.asi8)  # no day of trading right before
    ends = np.append(begins[1:], True)
    zone = "America/New_York"
    evening = pd.Timedelta(hours=17)
    opens = (eves[begins] + evening).tz_localize(zone).tz_convert("UTC").as_unit("ns").asi8
    closes = (days[ends] + evening).tz_localize(zone).tz_convert("UTC").as_unit("ns").asi8
    none = np.full(len(opens), NO_BREAK)
    return Sessions(eves[begins].asi8, opens, closes, none, none, np.zeros(len(opens), dtype=bool))

"""Trading sessions by exchange: opens, lunch breaks, closes and holidays, from exchange_calendars.

A market gives its sessions as arrays in UTC. Past the last day that the calendar knows, sessions are
estimated from the weekdays and hours of its last year and marked so.
"""

from __future__ import annotations

import difflib
import warnings
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

NO_BREAK: Final = np.iinfo(np.int64).min  # what pandas has for a missing time
_NEW_YORK: Final = "America/New_York"
_EDGES: Final = ("open", "close", "break_start", "break_end")  # of a session, in a schedule
_SAME_SESSIONS: Final = {
    "XSHE": "XSHG", "SZSE": "XSHG", "SHFE": "XSHG", "INE": "XSHG", "DCE": "XSHG", "CZCE": "XSHG",
    "GFEX": "XSHG", "CFFEX": "XSHG", "NYSE ARCA": "XNYS", "AMEX": "XNYS",
    "TSE": "XTKS", "EURONEXT": "XPAR", "XETRA": "XETR", "CRYPTO": ALWAYS, "24X7": ALWAYS, "FOREX": FX,
    "24/5": FX, "24X5": FX,
}  # fmt: skip


@dataclass(frozen=True)
class Sessions:
    """Sessions in order; all times are nanoseconds of UTC."""

    dates: Nanos  # midnight, naive
    opens: Nanos
    closes: Nanos
    break_starts: Nanos  # of lunch; NO_BREAK where there is none
    break_ends: Nanos
    estimated: npt.NDArray[np.bool_]  # past the last session that the calendar knows

    def __len__(self) -> int:
        return len(self.dates)


@dataclass(frozen=True)
class Market:
    """A calendar by name: MIC code, ``24/7`` or ``FX``, and the IANA zone of the exchange's clock."""

    name: str
    zone: str

    def sessions(self, start: pd.Timestamp, end: pd.Timestamp, *, rest: bool = True) -> Sessions:
        """The sessions dated from ``start`` to ``end`` (naive dates, both included).

        Without ``rest`` currency weeks are whole: some feeds go on quoting through the days of rest.
        """
        if self.name == FX:
            return _fx_weeks(start, end, rest)
        return _exchange_sessions(self.name, start.normalize(), end.normalize())

    def sessions_around(self, nanos: Nanos, *, rest: bool = True) -> Sessions:
        """The sessions in which sorted instants (nanoseconds of UTC) lie, and those of a week before and after."""
        week = pd.Timedelta(days=7)
        first, last = (pd.Timestamp(int(nanos[k])).normalize() for k in (0, -1))
        return self.sessions(first - week, last + week, rest=rest)

    def days(self, start: pd.Timestamp, end: pd.Timestamp) -> Sessions:
        """Sessions by day; the currency week counts as five of them, less a day of rest."""
        if self.name != FX:
            return self.sessions(start, end)
        days = _fx_days(start, end).asi8
        return _unbroken(days, days, days)


def _codes() -> dict[str, str]:
    """Every name of a calendar, and the canonical one that it stands for."""
    import exchange_calendars as xc

    theirs = {str(name): str(xc.resolve_alias(name)) for name in xc.get_calendar_names()}
    return theirs | {rule: rule for rule in RULES} | _SAME_SESSIONS


def calendar_names() -> list[str]:
    """Every name that ``calendar=`` takes: rules, MIC codes and aliases."""
    return sorted(_codes())


def calendar_aliases() -> dict[str, list[str]]:
    """The canonical names of all calendars, and the other names of each."""
    aliases: dict[str, list[str]] = {}
    for name, code in sorted(_codes().items()):
        aliases.setdefault(code, []).extend([name] if name != code else [])
    return aliases


def resolve_calendar(name: str) -> str:
    """The canonical name of a calendar.

    Raises:
        CalendarError: for an unknown name, listing near ones.
    """
    codes = {known.upper(): code for known, code in sorted(_codes().items())}
    upper = str(name).strip().upper()
    if upper in codes:
        return codes[upper]
    near = difflib.get_close_matches(upper, codes, n=3, cutoff=0.7)
    hint = f"Near names: {', '.join(near)}." if near else "Use a MIC code such as XNYS, XSHG or XHKG, or 24/7."
    raise CalendarError(f"Unknown calendar '{name}'. {hint} All of them: kronos bars calendars")


@lru_cache(maxsize=64)
def market(name: str) -> Market:
    """The market of a calendar name.

    Raises:
        CalendarError: unknown, or ``observed`` and ``step``, which have no sessions.
    """
    code = resolve_calendar(name)
    if code in (OBSERVED, STEP):
        raise CalendarError(f"The calendar '{code}' has no sessions of its own.")
    return Market(code, {FX: _NEW_YORK, ALWAYS: "UTC"}.get(code) or str(_calendar(code).tz))


@lru_cache(maxsize=128)
def _calendar(code: str, start: pd.Timestamp | None = None, end: pd.Timestamp | None = None) -> Any:
    import exchange_calendars as xc

    with warnings.catch_warnings():  # its own use of pandas, which we cannot mend here
        warnings.simplefilter("ignore")
        return xc.get_calendar(code) if start is None else xc.get_calendar(code, start=start, end=end)


@lru_cache(maxsize=256)  # a universe asks for the same days of an exchange again and again
def _exchange_sessions(code: str, start: pd.Timestamp, end: pd.Timestamp) -> Sessions:
    usual = _calendar(code)
    # Whole years, so that few distinct calendars are built and the cache is hit.
    first, last = pd.Timestamp(start.year, 1, 1), pd.Timestamp(end.year, 12, 31)
    first, last = max(first, usual.bound_min() or first), min(last, usual.bound_max() or last)
    within = first >= usual.first_session and last <= usual.last_session
    calendar = usual if within or last - first <= pd.Timedelta(days=30) else _calendar(code, first, last)
    schedule = calendar.schedule.loc[start:end]
    if end > calendar.last_session:
        unknown = max(start, calendar.last_session + pd.Timedelta(days=1))
        schedule = pd.concat([schedule, _estimate(calendar, unknown, end)])
    times = (pd.DatetimeIndex(schedule.index), *(pd.DatetimeIndex(schedule[name]) for name in _EDGES))
    dates, opens, closes, noons, afters = (column.as_unit("ns").asi8 for column in times)
    return Sessions(dates, opens, closes, noons, afters, np.asarray(times[0] > calendar.last_session))


def _estimate(calendar: Any, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """The schedule past the calendar's end: its usual weekdays at its usual hours, without holidays."""
    recent = calendar.schedule.iloc[-250:]
    weekdays = np.bincount(recent.index.day_of_week, minlength=7)
    days = pd.date_range(start, end, freq="D")
    days = days[np.isin(days.day_of_week, np.flatnonzero(weekdays > len(recent) / 20))]
    schedule = pd.DataFrame(index=days)
    for name in _EDGES:
        local = pd.DatetimeIndex(recent[name]).tz_convert(calendar.tz).tz_localize(None)
        offset = pd.Series(local - recent.index).mode(dropna=False).iloc[0]
        schedule[name] = localize(days + offset, calendar.tz).tz_convert("UTC")
    return schedule


def localize(wall: pd.DatetimeIndex, zone: Any) -> pd.DatetimeIndex:
    """Wall times in a zone. Of an hour that comes twice the first is meant; one that is skipped moves on."""
    return wall.tz_localize(zone, ambiguous=np.ones(len(wall), dtype=bool), nonexistent="shift_forward")


def _fx_days(start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
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
    days = _fx_days(sunday, friday) if rest else pd.bdate_range(sunday, friday).as_unit("ns")
    eves = days - pd.Timedelta(days=1)
    begins = ~np.isin(eves.asi8, days.asi8)  # no day of trading right before
    ends = np.append(begins[1:], True)
    edges = (day + pd.Timedelta(hours=17) for day in (eves[begins], days[ends]))
    opens, closes = (localize(edge, _NEW_YORK).as_unit("ns").asi8 for edge in edges)
    return _unbroken(eves[begins].asi8, opens, closes)


def _unbroken(dates: Nanos, opens: Nanos, closes: Nanos) -> Sessions:
    none = np.full(len(dates), NO_BREAK)
    return Sessions(dates, opens, closes, none, none, np.zeros(len(dates), dtype=bool))

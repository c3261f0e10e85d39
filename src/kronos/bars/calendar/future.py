"""When the next bars fall, by a calendar or as observed, and where the bars so far and their calendar part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frames import by_series, nixtla_frame, with_timestamps
from kronos.bars.calendar.frequency import BarSize, infer_frequency, parse_frequency
from kronos.bars.calendar.grid import Stamp, future_days, intraday_stamps, observed_hours, read_dates, regular_step
from kronos.bars.calendar.guess import FITS, Fit, Guess, extends_hours, fit_intraday, guess_calendar
from kronos.bars.calendar.markets import ALWAYS, FX, OBSERVED, STEP, Market, market, resolve_calendar
from kronos.bars.calendar.nights import NIGHTS_GO_ON, SESSIONS, keeps_nights, night_hours
from kronos.errors import CalendarError, ConfigError
from kronos.protocol import NAMELESS
from kronos.spec import ForecastSpec

_CHECKED: Final = 2048  # daily bars back, which no forecast reads beyond; earlier years need a second calendar
_NIGHT: Final = 2 * 3600 * 10**9  # nanoseconds without a bar
_LONGER: Final = (
    "hours beyond those of {name} are seen: they go on, on the sessions of {name}; "
    "on a day that closes early they end as much earlier"
)


@dataclass(frozen=True)
class FutureTimes:
    """Timestamps of the bars to come, and how they were found.

    Attributes:
        timestamps: written as the history is: naive in the same clock, or aware in the same zone.
        calendar: MIC code, ``24/7``, ``FX``, ``observed`` or ``step``; ``given`` where the caller gave the times.
        frequency: bar size, such as ``"5m"``.
        stamp: ``"start"`` or ``"end"`` of the bar; None where the timestamps do not show it.
        estimated: True where the calendar does not reach.
        notes: choices made, in words.
    """

    timestamps: pd.DatetimeIndex
    calendar: str
    frequency: str
    stamp: str | None
    estimated: npt.NDArray[np.bool_]
    notes: tuple[str, ...] = ()


@overload
def future_timestamps(
    history: Any,
    horizon: int,
    calendar: str | None = ...,
    frequency: str | None = ...,
    stamp: Stamp | None = ...,
    *,
    layout: None = ...,
) -> pd.DatetimeIndex: ...
@overload
def future_timestamps(
    history: Any,
    horizon: int,
    calendar: str | None = ...,
    frequency: str | None = ...,
    stamp: Stamp | None = ...,
    *,
    layout: Literal["nixtla"],
) -> pd.DataFrame: ...
def future_timestamps(
    history: Any,
    horizon: int,
    calendar: str | None = None,
    frequency: str | None = None,
    stamp: Stamp | None = None,
    *,
    layout: Literal["nixtla"] | None = None,
) -> pd.DatetimeIndex | pd.DataFrame:
    """The timestamps of the next ``horizon`` bars.

    Args:
        history: the last timestamp, or the timestamps of the bars (index, Series, or bars table), or bars as
            ``read_bars`` takes them: a frame with ``unique_id, ds``, rows of ccxt, dicts.
        horizon: bars to come, 1 to 100,000.
        calendar: MIC code (``XNYS``, ``XSHG`` …), ``24/7``, ``FX``, ``observed`` (the weekly hours seen in
            the history) or ``step``. None: inferred from the history; a regular step where there is only
            one timestamp or nothing stands out.
        frequency: bar size (``"5m"``, ``"1h"``, ``"1d"`` …); inferred from an index.
        stamp: ``"start"`` or ``"end"``, the end of the bar that a timestamp names; inferred from an index.
        layout: ``nixtla``: a frame instead, ``unique_id, ds`` and what the calendar says of each bar (``minute, hour,
            weekday, day, month, days_since_last``), which other models take as future covariates; of a table of many
            symbols for each of them. :func:`kronos.bars.calendar_covariates` gives the same of the bars so far.

    Raises:
        CalendarError: unknown calendar, history that does not fit it, or times that cannot tell the stamp.
        ConfigError: horizon out of range, an unknown layout, or a bar size that is missing or unknown.
    """
    if layout is None:
        return future_times(history, horizon, calendar, frequency, stamp).timestamps
    if layout != "nixtla":
        raise ConfigError(f"layout is {layout!r}; it must be 'nixtla', or None for timestamps alone")
    found = {}
    for name, times in by_series(with_timestamps(history)).items():
        symbol = None if name == NAMELESS else name
        future = future_times(times, horizon, calendar, frequency, stamp, symbol).timestamps
        found[name] = future, history_index(times)[-1]
    return nixtla_frame(found)


def future_times(
    history: Any,
    horizon: int,
    calendar: str | None = None,
    frequency: str | None = None,
    stamp: Stamp | None = None,
    symbol: str | None = None,
) -> FutureTimes:
    """As ``future_timestamps``, with the calendar's name, the stamp and the estimated entries.

    Args:
        symbol: may decide between calendars that fit the history equally.
    """
    ForecastSpec(horizon=horizon, stamp=stamp)  # refuses what is out of range
    history = with_timestamps(history)
    times = history_index(history)
    size = parse_frequency(frequency) if frequency is not None else infer_frequency(times)
    if size is None:
        raise ConfigError(
            f"The bar size cannot be told from {len(times)} timestamp{'s' if len(times) > 1 else ''}. "
            "Pass frequency (--frequency), such as '5m', '1h' or '1d'."
        )
    notes: tuple[str, ...] = ()
    if (calendar is None or resolve_calendar(calendar) == SESSIONS) and keeps_nights(times, size):
        found, estimated = night_hours(times, horizon, size)
        return FutureTimes(found, OBSERVED, str(size), stamp, estimated, (NIGHTS_GO_ON,))
    if calendar is not None:
        name, guess = resolve_calendar(calendar), Guess()
    else:
        symbol = symbol or _only_symbol(history)
        guess = guess_calendar(times, size, symbol)
        name, notes = _without_a_name(times, size, guess, symbol)
    fit, within = guess.fit, None if guess.sessions is None else market(guess.sessions)
    if name not in (STEP, OBSERVED) and str(size) == "1d" and len(times) > 1:
        notes += session_notes(times[-_CHECKED:], market(name))
    if size.intraday and name not in (ALWAYS, STEP, OBSERVED):
        if fit is None or (stamp is not None and fit.grid.stamp != stamp):
            where = market(name)
            fits = fit_intraday(times, size, where, stamp)
            if fits[0].share < FITS and name != FX and len(times) > 1 and extends_hours(times, fits):
                within, notes = where, (*notes, _LONGER.format(name=name))
            elif fits[0].coverage >= FITS and 0.5 <= fits[0].share < FITS and len(times) > 1:
                fit, notes = (
                    fits[0],
                    (*notes, f"{1 - fits[0].share:.0%} of the bars lie outside the sessions of {name}"),
                )
            else:
                fit = _best_fit(times, size, fits, stamp)
        if within is None and fit is not None:
            return _intraday(times, horizon, size, fit, notes)
    if within is not None or name == OBSERVED:
        found, estimated = observed_hours(times, horizon, size, within)
        notes += _holiday_notes(guess.alike, found, size)
        return FutureTimes(found, OBSERVED, str(size), stamp, estimated, notes)
    if name in (ALWAYS, STEP):
        found, estimated = regular_step(times, horizon, size), np.zeros(horizon, dtype=bool)
        return FutureTimes(found, name, str(size), stamp, estimated, notes)
    found, estimated, seen = future_days(times, horizon, size, market(name))
    return FutureTimes(found, name, str(size), stamp or seen, estimated, notes)


def _without_a_name(
    times: pd.DatetimeIndex, size: BarSize, guess: Guess, symbol: str | None
) -> tuple[str, tuple[str, ...]]:
    """The calendar by which bars go on whose caller named none, and a note that says why and what was not checked."""
    if guess.name is not None:
        why = f" and {guess.why}" if guess.why else ""
        return guess.name, (f"calendar {guess.name} inferred from the bars' times{why}", *guess.choice(symbol))
    if guess.sessions is not None:
        return OBSERVED, (_LONGER.format(name=guess.sessions),)
    seen = "weekly hours" if size.intraday else "weekdays"
    if guess.alike and not size.intraday:
        return OBSERVED, (f"the {seen} seen go on, holidays were not checked", *guess.choice(symbol))
    if guess.alike:
        return STEP, ("regular step: nights, weekends and holidays were not checked", *guess.choice(symbol))
    long_enough = len(times) > 1 and times[-1] - times[0] >= pd.Timedelta(days=7)
    if size.unit in "smhd" and (long_enough or _has_nights(times, size)):
        return OBSERVED, (
            f"no calendar stands out: the {seen} seen in the bars go on, holidays were not checked; name a calendar, "
            "such as calendar='XNYS' (--calendar XNYS)",
        )
    if size.unit in ("w", "mo"):
        return STEP, ("a regular step",)
    few = "too few bars to tell a calendar: " if len(times) > 1 else ""
    return STEP, (
        f"{few}regular step; nights, weekends and holidays were not checked: name a calendar, such as calendar='XNYS' "
        "(--calendar XNYS)",
    )


def _has_nights(times: pd.DatetimeIndex, size: BarSize) -> bool:
    """True when intraday bars of two days or more leave out nights: they will again."""
    gaps = np.diff(times.as_unit("ns").asi8)
    return size.intraday and len(times) >= 10 and bool((gaps >= max(_NIGHT, 2 * size.delta.value)).any())


def _holiday_notes(alike: tuple[str, ...], found: pd.DatetimeIndex, size: BarSize) -> tuple[str, ...]:
    """In words, how many of the days to come are holidays of some of the calendars that fit: of those with most."""
    if size.intraday or not (names := [name for name in alike if name != ALWAYS]):
        return ()
    days = found.tz_localize(None).normalize().unique().as_unit("ns")
    rests = np.array([~np.isin(days.asi8, market(name).days(days[0], days[-1]).dates) for name in names])
    if not rests.any():
        return ()
    most = rests[rests.sum(axis=1).argmax()]
    resting = ", ".join(name for name, rest in zip(names, rests, strict=True) if (rest == most).all())
    first, count = f"{days[most.argmax()]:%Y-%m-%d}", int(most.sum())
    if count == 1:
        return (f"{first} is no session of {resting}",)
    return (f"{count} of these dates are no sessions of {resting}, the first {first}",)


def infer_calendar(bars: Any, frequency: str | None = None, symbol: str | None = None) -> str | None:
    """The calendar that bars (a table, index or Series) follow, or None when nothing stands out."""
    bars = with_timestamps(bars)
    times = history_index(bars)
    size = parse_frequency(frequency) if frequency else infer_frequency(times)
    return None if size is None else guess_calendar(times, size, symbol or _only_symbol(bars)).name


def history_index(history: Any) -> pd.DatetimeIndex:
    """Timestamps from whatever carries them, sorted and unique.

    Raises:
        ConfigError: when there are none.
    """
    if isinstance(history, pd.DataFrame):
        history = history["timestamp"] if "timestamp" in history.columns else history.index
    try:
        many = isinstance(history, (pd.Series, pd.Index, np.ndarray, list, tuple))
        times = pd.DatetimeIndex(pd.Index(history) if many else [pd.Timestamp(history)]).dropna()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"history must be a timestamp or an index of timestamps, not {str(history)[:60]!r}."
        ) from error
    if len(times) == 0:
        raise ConfigError("history holds no timestamp. Pass the last timestamp, or the index of the bars.")
    if not (times.is_monotonic_increasing and times.is_unique):
        times = times.unique().sort_values()
    return times.as_unit("ns")


def _only_symbol(history: Any) -> str | None:
    if isinstance(history, pd.DataFrame) and "symbol" in history.columns and history["symbol"].nunique() == 1:
        return str(history["symbol"].iloc[0])
    return None


def _best_fit(times: pd.DatetimeIndex, size: BarSize, fits: list[Fit], stamp: Stamp | None) -> Fit:
    """How the history names the bars of a market, or a refusal that names the option which decides."""
    best, one = fits[0], len(times) == 1
    where = best.market
    if best.share < FITS and not (one and stamp):  # one time outside the sessions: the next ones follow
        raise CalendarError(
            f"{times[0]} is not the time of a {size} bar of {where.name}. Pass stamp='start' or 'end' "
            "(--stamp), or the timestamps of the bars instead of one."
            if one
            else f"Only {best.share:.0%} of the bars' times are {size} bars of {where.name} ({where.zone}). "
            "Pass the right calendar or time zone, or calendar='observed' (--calendar observed) to go on with "
            "the hours seen."
        )
    if any(fit.grid.stamp != best.grid.stamp and fit.score == best.score for fit in fits):
        subject = f"{times[0]} fits" if one else "The bars' times fit"
        raise CalendarError(
            f"{subject} both the start and the end of a {size} bar of {where.name}. "
            "Pass stamp='start' or stamp='end' (--stamp start, --stamp end)."
        )
    return best


def _intraday(times: pd.DatetimeIndex, horizon: int, size: BarSize, fit: Fit, notes: tuple[str, ...]) -> FutureTimes:
    last = int(fit.clock.to_utc(times[-1:])[0])
    day = pd.Timestamp(last).normalize()
    span = 14 + int(horizon * size.delta.value / (24 * 3600 * 1e9) * 2)
    for days in (span << tries for tries in range(12)):
        sessions = fit.market.sessions(day - pd.Timedelta(days=8), day + pd.Timedelta(days=days))
        stamps, flags = intraday_stamps(sessions, size, fit.grid, fit.market.zone)
        found, estimated = stamps[stamps > last], flags[stamps > last]
        if len(found) >= horizon:
            break
    else:
        raise CalendarError(f"The calendar {fit.market.name} gives only {len(found)} bars after {times[-1]}.")
    written = fit.clock.from_utc(found[:horizon], times)
    if fit.clock.label != fit.market.zone and times.tz is None:
        notes += (f"naive times read by the clock {fit.clock.label}",)
    return FutureTimes(written, fit.market.name, str(size), fit.grid.stamp, estimated[:horizon], notes)


def session_notes(times: pd.DatetimeIndex, where: Market) -> tuple[str, ...]:
    """In words, where daily bars and a market's sessions part: sessions without a bar, bars without a session."""
    dates, _, _ = read_dates(times, where)
    days, sessions, name = dates.as_unit("ns").asi8, where.days(dates[0], dates[-1]), where.name
    missing = sessions.dates[~sessions.estimated & ~np.isin(sessions.dates, days)]
    spare = days[~np.isin(days, sessions.dates)]
    told = (
        (missing, f"session of {name} has no bar", f"sessions of {name} have no bar"),
        (spare, f"bar lies on a day without a session of {name}", f"bars lie on days without a session of {name}"),
    )
    return tuple(
        f"1 {one} ({last})" if len(found) == 1 else f"{len(found):,} {many}, the last {last}"
        for found, one, many in told
        for last in (f"{pd.Timestamp(int(moment)):%Y-%m-%d}" for moment in found[-1:])
    )

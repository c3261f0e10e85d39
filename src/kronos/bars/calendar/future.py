"""When the next bars fall: by an exchange's sessions, the whole week, the currency week, or as observed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize, infer_frequency, parse_frequency
from kronos.bars.calendar.gaps import session_notes
from kronos.bars.calendar.grid import Stamp, intraday_stamps
from kronos.bars.calendar.guess import FITS, Fit, fit_intraday, guess_calendar, symbol_hint
from kronos.bars.calendar.labels import future_days
from kronos.bars.calendar.markets import ALWAYS, OBSERVED, STEP, Market, market, resolve_calendar
from kronos.bars.calendar.observed import observed_hours, regular_step
from kronos.errors import CalendarError, ConfigError
from kronos.spec import ForecastSpec


@dataclass(frozen=True)
class FutureTimes:
    """Timestamps of the bars to come, and how they were found.

    Attributes:
        timestamps: written as the history is: naive in the same clock, or aware in the same zone.
        calendar: MIC code, ``24/7``, ``FX``, ``observed`` or ``step``.
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
    notes: tuple[str, ...] = field(default=())


def future_timestamps(
    history: Any,
    horizon: int,
    calendar: str | None = None,
    frequency: str | None = None,
    stamp: Stamp | None = None,
) -> pd.DatetimeIndex:
    """The timestamps of the next ``horizon`` bars.

    Args:
        history: the last timestamp, or the timestamps of the bars (index, Series, or bars table).
        horizon: bars to come, 1 to 100,000.
        calendar: MIC code (``XNYS``, ``XSHG`` …), ``24/7``, ``FX``, ``observed`` (the weekly hours seen in
            the history) or ``step``. None: inferred from the history; a regular step where there is only
            one timestamp or nothing stands out.
        frequency: bar size (``"5m"``, ``"1h"``, ``"1d"`` …); inferred from an index.
        stamp: ``"start"`` or ``"end"``, the end of the bar that a timestamp names; inferred from an index.

    Raises:
        CalendarError: unknown calendar, history that does not fit it, or times that cannot tell the stamp.
        ConfigError: horizon out of range, or a bar size that is missing or unknown.
    """
    return future_times(history, horizon, calendar, frequency, stamp).timestamps


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
    times = history_index(history)
    symbol = symbol or _only_symbol(history)
    size = _bar_size(times, frequency)
    name, fit, notes = _inferred(times, size, symbol) if calendar is None else (resolve_calendar(calendar), None, ())
    if name not in (STEP, OBSERVED) and str(size) == "1d" and len(times) > 1:
        notes = (*notes, *session_notes(times, market(name)))
    if name in (ALWAYS, STEP, OBSERVED):
        go_on = observed_hours if name == OBSERVED else regular_step
        certain = np.zeros(horizon, dtype=bool)
        return FutureTimes(go_on(times, horizon, size), name, str(size), stamp, certain, notes)
    where = market(name)
    if not size.intraday:
        found, estimated, seen = future_days(times, horizon, size, where)
        return FutureTimes(found, name, str(size), stamp or seen, estimated, notes)
    if fit is None or (stamp is not None and fit.grid.stamp != stamp):
        fit = _best_fit(times, size, where, stamp)
    return _intraday(times, horizon, size, fit, notes)


def infer_calendar(bars: Any, frequency: str | None = None, symbol: str | None = None) -> str | None:
    """The calendar that bars (a table, index or Series) follow, or None when nothing stands out."""
    times = history_index(bars)
    symbol = symbol or _only_symbol(bars)
    if len(times) < 2:
        return None
    size = parse_frequency(frequency) if frequency else infer_frequency(times)
    if size is None:
        return None
    guess = guess_calendar(times, size, symbol_hint(symbol))
    return guess.market.name if isinstance(guess, Fit) else guess


def history_index(history: Any) -> pd.DatetimeIndex:
    """Timestamps from whatever carries them, sorted and unique.

    Raises:
        ConfigError: when there are none.
    """
    if isinstance(history, pd.DataFrame):
        history = history["timestamp"] if "timestamp" in history.columns else history.index
    try:
        many = isinstance(history, (pd.Series, pd.Index, np.ndarray, list, tuple))
        times = pd.DatetimeIndex(pd.Index(history) if many else [pd.Timestamp(history)])
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"history must be a timestamp or an index of timestamps, not {str(history)[:60]!r}."
        ) from error
    times = times.dropna()
    if len(times) == 0:
        raise ConfigError("history holds no timestamp. Pass the last timestamp, or the index of the bars.")
    if not (times.is_monotonic_increasing and times.is_unique):
        times = times.unique().sort_values()
    return times.as_unit("ns")


def _only_symbol(history: Any) -> str | None:
    if isinstance(history, pd.DataFrame) and "symbol" in history.columns and history["symbol"].nunique() == 1:
        return str(history["symbol"].iloc[0])
    return None


def _bar_size(times: pd.DatetimeIndex, frequency: str | None) -> BarSize:
    if frequency is not None:
        return parse_frequency(frequency)
    size = infer_frequency(times)
    if size is None:
        raise ConfigError(
            f"The bar size cannot be told from {len(times)} timestamp{'s' if len(times) > 1 else ''}. "
            "Pass frequency (--frequency), such as '5m', '1h' or '1d'."
        )
    return size


def _inferred(times: pd.DatetimeIndex, size: BarSize, symbol: str | None) -> tuple[str, Fit | None, tuple[str, ...]]:
    guess = guess_calendar(times, size, symbol_hint(symbol)) if len(times) > 1 else None
    if guess is not None:
        name, fit = (guess.market.name, guess) if isinstance(guess, Fit) else (guess, None)
        return name, fit, (f"calendar {name} inferred from the bars' times",)
    if len(times) > 1 and times[-1] - times[0] >= pd.Timedelta(days=7) and size.unit in "smhd":
        seen = "weekly hours" if size.intraday else "weekdays"
        note = f"no calendar stands out: the {seen} seen in the bars go on, holidays are unknown; name a calendar"
        return OBSERVED, None, (note,)
    if size.unit in ("w", "mo"):
        return STEP, None, ("a regular step",)
    if len(times) == 1:
        return STEP, None, ("regular step; name a calendar for an exchange's sessions",)
    return STEP, None, ("too few bars to tell a calendar: regular step; name a calendar for an exchange's sessions",)


def _best_fit(times: pd.DatetimeIndex, size: BarSize, where: Market, stamp: Stamp | None) -> Fit:
    """How the history names the bars of a market, or a refusal that names the option which decides."""
    fits = fit_intraday(times, size, where, (stamp,) if stamp else ("start", "end"))
    best = fits[0]
    if best.share < FITS:
        if len(times) == 1 and stamp is not None:
            return best  # outside the sessions: the next ones follow
        if len(times) == 1:
            raise CalendarError(
                f"{times[0]} is not the time of a {size} bar of {where.name}. Pass stamp='start' or 'end' "
                "(--stamp), or the timestamps of the bars instead of one."
            )
        raise CalendarError(
            f"Only {best.share:.0%} of the bars' times are {size} bars of {where.name} ({where.zone}). "
            "Pass the right calendar or time zone, or calendar='observed' (--calendar observed) to go on with "
            "the hours seen."
        )
    if stamp is None:
        rival = next((fit for fit in fits if fit.grid.stamp != best.grid.stamp), None)
        if rival is not None and rival.score == best.score:
            subject = f"{times[0]} fits" if len(times) == 1 else "The bars' times fit"
            raise CalendarError(
                f"{subject} both the start and the end of a {size} bar of {where.name}. "
                "Pass stamp='start' or stamp='end' (--stamp start, --stamp end)."
            )
    return best


def _intraday(times: pd.DatetimeIndex, horizon: int, size: BarSize, fit: Fit, notes: tuple[str, ...]) -> FutureTimes:
    last = int(fit.clock.to_utc(times[-1:])[0])
    day = pd.Timestamp(last).normalize()
    begin = day - pd.Timedelta(days=8)
    span = 14 + int(horizon * size.delta.value / (24 * 3600 * 1e9) * 2)
    found: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(12):
        sessions = fit.market.sessions(begin, day + pd.Timedelta(days=span))
        stamps, flags = intraday_stamps(sessions, size, fit.grid, fit.market.zone)
        later = stamps > last
        found, estimated = stamps[later], flags[later]
        if len(found) >= horizon:
            break
        span *= 2
    else:
        raise CalendarError(f"The calendar {fit.market.name} gives only {len(found)} bars after {times[-1]}.")
    written = fit.clock.from_utc(found[:horizon], times)
    if fit.clock.label != fit.market.zone and times.tz is None:
        notes = (*notes, f"naive times read by the clock {fit.clock.label}")
    return FutureTimes(written, fit.market.name, str(size), fit.grid.stamp, estimated[:horizon], notes)

"""Which calendar the timestamps follow: their hours, weekdays and holidays against those of exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pandas as pd

from kronos.bars.calendar.clues import likely_calendar, of_zone, symbol_hint
from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import ANCHORS, STAMPS, Clock, Grid, Stamp, clocks_for, intraday_stamps, period_labels
from kronos.bars.calendar.markets import ALWAYS, FX, RULES, Market, Nanos, market

HOURS: Final[dict[str, tuple[str, float, float]]] = {
    "XSHG": ("Asia/Shanghai", 9, 15.5), "XNYS": ("America/New_York", 9, 16.5), "XHKG": ("Asia/Hong_Kong", 9, 16.5),
    "XTKS": ("Asia/Tokyo", 8.5, 16), "XLON": ("Europe/London", 7.5, 17), "XETR": ("Europe/Berlin", 8.5, 18),
    "XPAR": ("Europe/Paris", 8.5, 18), "XBOM": ("Asia/Kolkata", 9, 16), "XTAI": ("Asia/Taipei", 8.5, 14),
    "XASX": ("Australia/Sydney", 9.5, 16.5), "XTSE": ("America/Toronto", 9, 16.5), "XSWX": ("Europe/Zurich", 8.5, 18),
    "BVMF": ("America/Sao_Paulo", 9, 18.5), "XSES": ("Asia/Singapore", 8.5, 17.5), "XKRX": ("Asia/Seoul", 8.5, 16),
}  # fmt: skip
"""Rough hours of the exchanges that are tried, an ample half hour around: only those that the times lie in are
looked at closely, because building a calendar takes a while. The calendars themselves decide; where two fit equally the
earlier one does."""

_ZONES: Final = {name: zone for name, (zone, *_) in HOURS.items()}
_SLOW: Final = "XKRX"  # its calendar takes seconds to build

FITS: Final = 0.9
"""Share of timestamps that must lie on a calendar's bars."""

SAME_HOURS: Final = (("XNYS", "XTSE"), ("XLON", "XETR", "XPAR", "XSWX"))
"""Exchanges that trade at the same hours, so that only their holidays tell them apart."""

_DAYS_ENOUGH: Final = 120  # every exchange has holidays among this many days
_DAY: Final = 24 * 3600 * 10**9
_WEEKEND: Final = 40 * 3600 * 10**9  # no currency trades that long
_WEEK: Final = pd.Timedelta(days=7)
_WINDOW: Final = pd.Timedelta(days=75)
_MOST: Final = 6_000


@dataclass(frozen=True)
class Fit:
    """How well timestamps lie on the bars of a market.

    Attributes:
        share: timestamps that lie on a bar.
        coverage: bars that have a timestamp.
        edge: sessions with a timestamp at their open (stamps name the start) or close (the end).
    """

    market: Market
    clock: Clock
    grid: Grid
    share: float
    coverage: float
    edge: float = 0.0

    @property
    def score(self) -> tuple[float, float, float]:
        """Order of preference: times off the grid weigh most, then bars without a time, then the edges."""
        return (round(self.share, 3), round(self.coverage, 3), round(self.edge, 2))


@dataclass(frozen=True)
class Guess:
    """The calendar that timestamps show.

    Attributes:
        name: None where nothing stands out, or where several fit and only the caller can choose.
        fit: how intraday times lie on its bars.
        alike: where several calendars fit equally, all of them, ``name`` first.
        sessions: the exchange on whose days longer hours than its own are seen; ``name`` is None then.
        why: what decided besides the times, in words.
    """

    name: str | None = None
    fit: Fit | None = None
    alike: tuple[str, ...] = ()
    sessions: str | None = None
    why: str | None = None

    def choice(self, symbol: str | None) -> tuple[str, ...]:
        """Where several calendars fit, that the caller should name one, or what the bars are of where no symbol is
        known, and how; empty where none or one does."""
        if not self.alike:
            return ()
        several, other = f"{', '.join(self.alike[:-1])} and {self.alike[-1]}", self.alike[self.name is not None]
        taken = f", {self.name} is taken" if self.name else ""
        yours = f"name yours, such as calendar='{other}' (--calendar {other})"
        if symbol is None:
            yours += ", or the symbol, which may tell (--symbol)"
        return (f"{several} fit the times alike{taken}: {yours}",)


def fit_intraday(
    times: pd.DatetimeIndex, size: BarSize, where: Market, stamp: Stamp | None = None, least: float = 0.0
) -> list[Fit]:
    """Every reading of the times as bars of one market, best first; the last weeks of them count.

    Clocks by which fewer than ``least`` of the times lie within trading hours, give or take a bar, are left out.
    """
    recent = times[times >= times[-1] - _WINDOW][-_MOST:]
    slack = size.delta.value
    fits: list[Fit] = []
    for clock in clocks_for(where, times):
        nanos = clock.to_utc(recent)
        sessions = where.sessions_around(nanos)
        place = np.searchsorted(sessions.opens - slack, nanos, side="right") - 1
        if least > 0 and (
            len(sessions) == 0 or ((place >= 0) & (nanos <= sessions.closes[place] + slack)).mean() < least
        ):
            continue
        for anchor, end in product(ANCHORS, (stamp,) if stamp else STAMPS):
            bars, _ = intraday_stamps(sessions, size, Grid(anchor, end), where.zone)
            share, coverage = float(np.isin(nanos, bars).mean()), _present(bars, nanos)
            edge = _present(sessions.opens if end == "start" else sessions.closes, nanos)
            fits.append(Fit(where, clock, Grid(anchor, end), share, coverage, edge))
    return sorted(fits, key=lambda fit: fit.score, reverse=True)  # stable: the earlier reading wins a tie


def _present(expected: Nanos, nanos: Nanos) -> float:
    """Share of the expected instants, between the first and last of ``nanos``, that are there."""
    inside = expected[(expected >= nanos[0]) & (expected <= nanos[-1])]
    return float(np.isin(inside, nanos).mean()) if len(inside) else 0.0


def guess_calendar(times: pd.DatetimeIndex, size: BarSize, symbol: str | None = None, enough: int = 10) -> Guess:
    """The calendar that timestamps follow, by their weekdays, holidays, hours and zone, and by the symbol.

    Fewer timestamps than ``enough`` tell nothing without a symbol.
    """
    named = symbol_hint(symbol)
    if len(times) < (2 if named or likely_calendar(symbol) else enough):
        return Guess()
    wall = times.tz_localize(None)
    if size.unit in ("w", "mo"):
        return Guess(_guess_periods(wall.normalize()[-300:], size))
    span = wall[-1] - wall[0]
    weekdays = np.bincount(wall.day_of_week, minlength=7)
    if span >= pd.Timedelta(days=7) and min(weekdays[5:]) >= 0.7 * weekdays[:5].mean():
        return Guess(ALWAYS)
    if not size.intraday:
        return _guess_daily(times, symbol)
    saturdays = pd.Series(wall[wall.day_of_week == 5])
    traded = saturdays.groupby(saturdays.dt.normalize())
    if (traded.max() - traded.min() >= pd.Timedelta(hours=8)).any():  # no exchange does, whatever the clock
        return Guess(ALWAYS)
    return _guess_intraday(times, size, symbol) if len(times) >= enough else Guess()


def _guess_intraday(times: pd.DatetimeIndex, size: BarSize, symbol: str | None) -> Guess:
    """By the hours: those of an exchange, round the clock, or more than an exchange's own on its days."""
    named, likely = symbol_hint(symbol), likely_calendar(symbol)
    long_enough = times[-1] - times[0] >= pd.Timedelta(days=2)
    if _round_the_clock(times, size):
        rested = (np.diff(times.as_unit("ns").asi8) >= _WEEKEND).any()
        currency = next(iter(fit_intraday(times, size, market(FX), least=FITS)), None) if long_enough else None
        if currency is not None and currency.share >= FITS and currency.coverage >= 0.75:
            if rested or likely == FX:
                return Guess(FX, currency, why=None if rested else f"the symbol {symbol}")
            return Guess(ALWAYS, why=f"the symbol {symbol}") if likely == ALWAYS else Guess(alike=(ALWAYS, FX))
    told = named or (likely if likely in HOURS else None)
    zoned = of_zone(times, _ZONES)
    tried = [*([told] if told else []), *zoned]
    fits: list[Fit] = []
    for name in dict.fromkeys([*tried, *(HOURS if long_enough else [])]):
        if fits and fits[0].share > 0.99 and fits[0].coverage > 0.95 and not _same_hours(name, fits[0].market.name):
            continue  # found: only who keeps the same hours can fit as well
        if not _roughly_open(times[-_MOST:], name):
            continue
        fit = next(iter(fit_intraday(times, size, market(name), least=FITS)), None)
        if fit is None or fit.share < FITS or fit.coverage < 0.5:
            continue
        if name == told:
            return Guess(name, fit, why=f"the symbol {symbol}")
        if zoned == [name]:
            return Guess(name, fit, why=f"the time zone {times.tz}")
        fits.append(fit)
        fits.sort(key=lambda fit: -(fit.share + fit.coverage))  # stable: the earlier wins a tie
    if fits:
        best = fits[0]
        days = times[-_MOST:].tz_localize(None).normalize().nunique()
        day = 0.5 / days  # a holiday of one of them would weigh twice that
        alike = tuple(f.market.name for f in fits if f.share + f.coverage > best.share + best.coverage - day)
        return Guess(best.market.name, best, alike if len(alike) > 1 else ())
    return Guess(sessions=_longer_hours(times, size, symbol))


def _longer_hours(times: pd.DatetimeIndex, size: BarSize, symbol: str | None) -> str | None:
    """The exchange whose sessions lie within longer hours (before its open, after its close), if its days show it."""
    if _round_the_clock(times, size):
        return None
    guess = _guess_daily(times, symbol)
    if guess.name is None or guess.name in RULES:
        return None
    return guess.name if extends_hours(times, fit_intraday(times, size, market(guess.name))) else None


def extends_hours(times: pd.DatetimeIndex, fits: list[Fit]) -> bool:
    """True when times hold nearly all bars of an exchange's sessions, others around them, and no day of rest.

    Args:
        fits: every reading of the times as bars of the exchange.
    """
    best = max(fits, key=lambda fit: fit.coverage)
    where = best.market
    local = times.tz_convert(where.zone).tz_localize(None) if times.tz is not None else times
    dates = local.normalize()
    days = dates.unique().as_unit("ns")
    sessions = where.days(days[0] - _WEEK, days[-1] + _WEEK)
    if best.coverage < FITS or np.isin(days.asi8, sessions.dates).mean() < 0.97:
        return False
    # A few minutes after one close are strays, as on a day that closes early: longer hours are kept day by day.
    nanos = best.clock.to_utc(times)
    lengths = sessions.closes - sessions.opens
    place = np.maximum(np.searchsorted(sessions.dates, dates.as_unit("ns").asi8, side="right") - 1, 0)
    whole = lengths[place] >= 0.9 * np.median(lengths)
    outside = (nanos < sessions.opens[place]) | (nanos > sessions.closes[place])
    return bool(dates[outside & whole].nunique() > 0.5 * dates[whole].nunique())


def _round_the_clock(times: pd.DatetimeIndex, size: BarSize) -> bool:
    """True when bars fall into (nearly) every hour of the day."""
    slot = max(size.delta.value, _DAY // 24)
    slots = (times.tz_localize(None).as_unit("ns").asi8 % _DAY) // slot
    return len(np.unique(slots)) >= 0.9 * _DAY / slot


def _same_hours(one: str, other: str) -> bool:
    return any(one in group and other in group for group in SAME_HOURS)


def _roughly_open(times: pd.DatetimeIndex, name: str) -> bool:
    """True when most times lie in the exchange's rough hours, read in its zone or in UTC."""
    zone, begin, end = HOURS[name]
    for local in (
        [times.tz_convert(zone)] if times.tz is not None else [times, times.tz_localize("UTC").tz_convert(zone)]
    ):
        hour = local.hour + local.minute / 60
        # Unlike its neighbours Seoul trades over noon.
        noon = name != _SLOW or ((hour > 12) & (hour < 13)).any()
        if noon and np.mean((hour >= begin) & (hour <= end)) >= FITS:
            return True
    return False


def _guess_daily(times: pd.DatetimeIndex, symbol: str | None) -> Guess:
    """By the weekdays without a bar: who rests then, and on no other day."""
    dates = times.tz_localize(None).normalize()
    recent = dates[dates >= dates[-1] - pd.Timedelta(days=5 * 366)].unique().as_unit("ns")
    if (recent.day_of_week >= 5).mean() > 0.01:
        return Guess()
    for name, most in ((symbol_hint(symbol), 0.1), (likely_calendar(symbol), 0.0)):
        if name is not None and name != ALWAYS and _misses(recent, name) <= most:
            return Guess(name, why=f"the symbol {symbol}")
    if len(recent) < 10:
        return Guess()
    zoned = of_zone(times, _ZONES)
    short = len(recent) < _DAYS_ENOUGH
    scores: dict[str, float] = {}
    for name in zoned or HOURS:
        if name == _SLOW and min(scores.values(), default=9) < 0.1:
            continue
        scores[name] = _misses(recent, name)
        if scores[name] < 0.03 and len(recent) > 250:
            break  # no other calendar can fit better by more than halts
    fx = 1 - len(recent) / max(len(pd.bdate_range(recent[0], recent[-1])), 1)
    best = min(scores, key=lambda name: scores[name])
    alike = tuple(name for name in scores if scores[name] <= scores[best] + 0.5 / len(recent))
    if short and scores[best] <= 0.1 and not zoned and _misses(recent, FX) <= scores[best] + 0.5 / len(recent):
        alike += (FX,)
    if scores[best] <= 0.10 and (scores[best] < 20 * fx or (short and (zoned or len(alike) > 1))):
        why = f"the time zone {times.tz}" if zoned and len(alike) == 1 else None
        settled = len(alike) == 1 or not short
        return Guess(best if settled else None, None, alike if len(alike) > 1 else (), why=why)
    return Guess(FX if fx <= 0.02 and not short else None)


def _misses(dates: pd.DatetimeIndex, name: str) -> float:
    """How badly dates fit a calendar: its sessions without a bar, and twenty times the bars without one, as shares.

    A bar on a holiday is proof against a calendar; a missing bar may be a halt.
    """
    sessions = market(name).days(dates[0], dates[-1]).dates
    extra, missing = ~np.isin(dates.asi8, sessions), ~np.isin(sessions, dates.asi8)
    return 20 * float(extra.mean()) + float(missing.mean() if len(missing) else 0)


def _guess_periods(dates: pd.DatetimeIndex, size: BarSize) -> str | None:
    """Weeks and months named by their last session show its holidays; other labels are a regular step."""
    if size.unit == "w" and dates.day_of_week.nunique() == 1:
        return None
    if size.unit == "mo" and (dates.is_month_start.all() or dates.is_month_end.all()):
        return None
    for name in (name for name in HOURS if name != _SLOW):
        sessions = market(name).days(dates[0] - pd.Timedelta(days=40), dates[-1] + pd.Timedelta(days=40))
        labels, _ = period_labels(sessions, dates, size)
        # The last period may still be forming.
        if np.isin(dates[1:-1].as_unit("ns").asi8, labels.as_unit("ns").asi8).mean() >= 0.98:
            return name
    return None

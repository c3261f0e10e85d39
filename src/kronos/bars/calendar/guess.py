"""Which calendar the timestamps follow: their hours, weekdays and holidays against those of exchanges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import ANCHORS, STAMPS, Clock, Grid, Stamp, clocks_for, intraday_stamps, period_labels
from kronos.bars.calendar.markets import ALWAYS, FX, Market, Nanos, market

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

FITS: Final = 0.9
"""Share of timestamps that must lie on a calendar's bars."""

CHINESE: Final = re.compile(
    r"(SH|SZ|BJ)[._]?[0-9]{6}|(00[0-3]|200|30[0-2]|399|60[0-5]|68[89]|900|430|83[0-9]|87[0-3]|920)[0-9]{3}"
)
"""Shenzhen's, Shanghai's and Beijing's six digits. Seoul writes six digits, too: most of its begin otherwise."""

ENDINGS: Final = {
    ".SS": "XSHG", ".SH": "XSHG", ".SZ": "XSHG", ".XSHG": "XSHG", ".XSHE": "XSHG", ".HK": "XHKG", ".T": "XTKS",
    ".L": "XLON", ".DE": "XETR", ".PA": "XPAR", ".NS": "XBOM", ".BO": "XBOM", ".TW": "XTAI", ".AX": "XASX",
    ".TO": "XTSE", ".SW": "XSWX", ".SA": "BVMF", ".SI": "XSES", ".KS": "XKRX", ".US": "XNYS",
}  # fmt: skip
"""How symbols end on the exchanges that are tried."""

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


def guess_calendar(times: pd.DatetimeIndex, size: BarSize, hint: str | None = None) -> tuple[str | None, Fit | None]:
    """The name of the calendar that timestamps follow, None when nothing stands out; intraday also how they fit it."""
    if len(times) < 10:
        return None, None
    wall = times.tz_localize(None)
    if size.unit in ("w", "mo"):
        return _guess_periods(wall.normalize()[-300:], size), None
    span = wall[-1] - wall[0]
    weekdays = np.bincount(wall.day_of_week, minlength=7)
    if span >= pd.Timedelta(days=7) and min(weekdays[5:]) >= 0.7 * weekdays[:5].mean():
        return ALWAYS, None
    if not size.intraday:
        return _guess_daily(wall.normalize(), hint), None
    saturdays = pd.Series(wall[wall.day_of_week == 5])
    traded = saturdays.groupby(saturdays.dt.normalize())
    if (traded.max() - traded.min() >= pd.Timedelta(hours=8)).any():  # no exchange does, whatever the clock
        return ALWAYS, None
    best: Fit | None = None
    for name in [FX, *sorted(HOURS, key=lambda name: name != hint)] if span >= pd.Timedelta(days=2) else []:
        if name != FX and not _roughly_open(times[-_MOST:], name):
            continue
        fit = next(iter(fit_intraday(times, size, market(name), least=FITS)), None)
        if fit is None or fit.share < FITS or fit.coverage < (0.75 if name == FX else 0.5):
            continue
        if best is None or (fit.share + fit.coverage) > (best.share + best.coverage) + 1e-9:
            best = fit
        if best.share > 0.99 and best.coverage > 0.95:
            break
    return best.market.name if best else None, best


def _roughly_open(times: pd.DatetimeIndex, name: str) -> bool:
    """True when most times lie in the exchange's rough hours, read in its zone or in UTC."""
    zone, begin, end = HOURS[name]
    for local in (
        [times.tz_convert(zone)] if times.tz is not None else [times, times.tz_localize("UTC").tz_convert(zone)]
    ):
        hour = local.hour + local.minute / 60
        # Seoul's calendar takes seconds to build; unlike its neighbours it trades over noon.
        noon = name != "XKRX" or ((hour > 12) & (hour < 13)).any()
        if noon and np.mean((hour >= begin) & (hour <= end)) >= FITS:
            return True
    return False


def _guess_daily(dates: pd.DatetimeIndex, hint: str | None) -> str | None:
    recent = dates[dates >= dates[-1] - pd.Timedelta(days=5 * 366)].unique().as_unit("ns")
    if (recent.day_of_week >= 5).mean() > 0.01:
        return None
    short = len(recent) < 120  # for holidays to tell exchanges apart
    scores: dict[str, float] = {}
    for name in ([hint] if hint else []) if short else sorted(HOURS, key=lambda name: name != hint):
        if name == "XKRX" and min(scores.values(), default=9) < 0.1:
            continue
        sessions = market(name).days(recent[0], recent[-1]).dates
        extra, missing = ~np.isin(recent.asi8, sessions), ~np.isin(sessions, recent.asi8)
        # A bar on a holiday is proof against a calendar; a missing bar may be a halt.
        scores[name] = 20 * float(extra.mean()) + float(missing.mean())
        if scores[name] < 0.03 and not extra.any() and len(recent) > 250:
            break  # no other calendar can fit better by more than halts
    if short:
        return hint if hint is not None and scores.get(hint, 1.0) < 0.1 else None
    fx = 1 - len(recent) / max(len(pd.bdate_range(recent[0], recent[-1])), 1)
    best = min(scores, key=lambda name: scores[name])
    if scores[best] <= 0.10 and scores[best] < 20 * fx:
        return best
    return FX if fx <= 0.02 else None


def _guess_periods(dates: pd.DatetimeIndex, size: BarSize) -> str | None:
    """Weeks and months named by their last session show its holidays; other labels are a regular step."""
    if size.unit == "w" and dates.day_of_week.nunique() == 1:
        return None
    if size.unit == "mo" and (dates.is_month_start.all() or dates.is_month_end.all()):
        return None
    for name in list(HOURS)[:-1]:
        sessions = market(name).days(dates[0] - pd.Timedelta(days=40), dates[-1] + pd.Timedelta(days=40))
        labels, _ = period_labels(sessions, dates, size)
        # The last period may still be forming.
        if np.isin(dates[1:-1].as_unit("ns").asi8, labels.as_unit("ns").asi8).mean() >= 0.98:
            return name
    return None


def symbol_hint(symbol: str | None) -> str | None:
    """The exchange that a symbol's spelling suggests: ``600519.SS``, ``sz000001``, ``0700.HK``, ``7203.T``."""
    text = (symbol or "").upper()
    if CHINESE.fullmatch(text):
        return "XSHG"
    return next((code for ending, code in ENDINGS.items() if text.endswith(ending)), None)

"""Which calendar the timestamps follow: their hours, weekdays and holidays against those of exchanges."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import ANCHORS, STAMPS, Clock, Grid, Stamp, clocks_for, intraday_stamps
from kronos.bars.calendar.labels import period_labels
from kronos.bars.calendar.markets import ALWAYS, FX, Market, Sessions, market

HOURS: Final[dict[str, tuple[str, float, float]]] = {
    "XSHG": ("Asia/Shanghai", 9, 15.5), "XNYS": ("America/New_York", 9, 16.5), "XHKG": ("Asia/Hong_Kong", 9, 16.5),
    "XTKS": ("Asia/Tokyo", 8.5, 16), "XLON": ("Europe/London", 7.5, 17), "XETR": ("Europe/Berlin", 8.5, 18),
    "XPAR": ("Europe/Paris", 8.5, 18), "XBOM": ("Asia/Kolkata", 9, 16), "XTAI": ("Asia/Taipei", 8.5, 14),
    "XASX": ("Australia/Sydney", 9.5, 16.5), "XTSE": ("America/Toronto", 9, 16.5), "XSWX": ("Europe/Zurich", 8.5, 18),
    "BVMF": ("America/Sao_Paulo", 9, 18.5), "XSES": ("Asia/Singapore", 8.5, 17.5), "XKRX": ("Asia/Seoul", 8.5, 16),
}  # fmt: skip
"""Rough hours of the exchanges that are tried, an ample half hour around: only those that the times lie in are
looked at closely, because building a calendar takes a while. The calendars themselves decide."""

CANDIDATES: Final = tuple(HOURS)
"""Exchanges that are tried, in order of preference where two fit equally."""

FITS: Final = 0.9
"""Share of timestamps that must lie on a calendar's bars."""

CHINESE: Final = (
    "000", "001", "002", "003", "200", "300", "301", "302", "399",  # Shenzhen
    "600", "601", "602", "603", "604", "605", "688", "689", "900",  # Shanghai
    "430", "830", "831", "832", "833", "834", "835", "836", "837", "838", "839", "870", "871", "872", "873", "920",
)  # fmt: skip
"""How six digits begin in Shenzhen, Shanghai and Beijing. Seoul writes six digits, too: most of its begin otherwise."""

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
    times: pd.DatetimeIndex, size: BarSize, where: Market, stamps: Iterable[Stamp] = STAMPS, least: float = 0.0
) -> list[Fit]:
    """Every reading of the times as bars of one market, best first; the last weeks of them count.

    Clocks by which fewer than ``least`` of the times lie within trading hours are left out.
    """
    recent = times[times >= times[-1] - _WINDOW][-_MOST:]
    fits: list[Fit] = []
    for clock in clocks_for(where, times):
        nanos = clock.to_utc(recent)
        sessions = where.sessions_around(nanos)
        if least > 0 and _within_hours(nanos, sessions, size) < least:
            continue
        for anchor in ANCHORS:
            for stamp in stamps:
                grid = Grid(anchor, stamp)
                bars, _ = intraday_stamps(sessions, size, grid, where.zone)
                share = float(np.isin(nanos, bars).mean())
                coverage = _present(bars, nanos)
                edge = _present(sessions.opens if stamp == "start" else sessions.closes, nanos)
                fits.append(Fit(where, clock, grid, share, coverage, edge))
    return sorted(fits, key=lambda fit: fit.score, reverse=True)  # stable: the earlier reading wins a tie


def _present(expected: npt.NDArray[np.int64], nanos: npt.NDArray[np.int64]) -> float:
    """Share of the expected instants, between the first and last of ``nanos``, that are there."""
    inside = expected[(expected >= nanos[0]) & (expected <= nanos[-1])]
    return float(np.isin(inside, nanos).mean()) if len(inside) else 0.0


def _within_hours(nanos: npt.NDArray[np.int64], sessions: Sessions, size: BarSize) -> float:
    """Share of instants between a session's open and close, give or take one bar."""
    if len(sessions) == 0:
        return 0.0
    slack = size.delta.value
    place = np.maximum(np.searchsorted(sessions.opens - slack, nanos, side="right") - 1, 0)
    inside = (nanos >= sessions.opens[place] - slack) & (nanos <= sessions.closes[place] + slack)
    return float(inside.mean())


def guess_calendar(times: pd.DatetimeIndex, size: BarSize, hint: str | None = None) -> Fit | str | None:
    """A fit to an exchange (intraday), the name of a calendar, or None when nothing stands out."""
    if len(times) < 10:
        return None
    wall = times.tz_localize(None)
    if size.unit in ("w", "mo"):
        return _guess_periods(wall.normalize()[-300:], size)
    span = wall[-1] - wall[0]
    weekdays = np.bincount(wall.day_of_week, minlength=7)
    working = weekdays[:5].mean()
    if span >= pd.Timedelta(days=7) and min(weekdays[5], weekdays[6]) >= 0.7 * working:
        return ALWAYS
    if size.intraday and _whole_saturday(wall):
        return ALWAYS
    order: list[str] = [hint, *CANDIDATES] if hint is not None and hint in CANDIDATES else [*CANDIDATES]
    if not size.intraday:
        return _guess_daily(wall.normalize(), order, hint)
    if span < pd.Timedelta(days=2):
        return None
    return _guess_intraday(times, size, order)


def _roughly_open(times: pd.DatetimeIndex, name: str) -> bool:
    """True when most times lie in the exchange's rough hours, read in its zone or in UTC."""
    zone, begin, end = HOURS[name]
    if times.tz is not None:
        readings = [times.tz_convert(zone)]
    else:
        readings = [times, times.tz_localize("UTC").tz_convert(zone)]
    for local in readings:
        hour = local.hour + local.minute / 60
        # Seoul's calendar takes seconds to build; unlike its neighbours it trades over noon.
        noon = name != "XKRX" or bool(((hour > 12) & (hour < 13)).any())
        if noon and float(np.mean((hour >= begin) & (hour <= end))) >= FITS:
            return True
    return False


def _whole_saturday(wall: pd.DatetimeIndex) -> bool:
    """True when some Saturday was traded for eight hours or more; no exchange does, whatever the clock."""
    saturdays = wall[wall.day_of_week == 5]
    if len(saturdays) == 0:
        return False
    days = pd.Series(saturdays).groupby(saturdays.normalize()).agg(["min", "max"])
    return bool(((days["max"] - days["min"]) >= pd.Timedelta(hours=8)).any())


def _guess_intraday(times: pd.DatetimeIndex, size: BarSize, order: list[str]) -> Fit | None:
    best: Fit | None = None
    for name in [FX, *order]:
        if name != FX and not _roughly_open(times[-_MOST:], name):
            continue
        fits = fit_intraday(times, size, market(name), least=FITS)
        if not fits:
            continue
        fit = fits[0]
        if fit.share < FITS or fit.coverage < (0.75 if name == FX else 0.5):
            continue
        if best is None or (fit.share + fit.coverage) > (best.share + best.coverage) + 1e-9:
            best = fit
        if best.share > 0.99 and best.coverage > 0.95:
            break
    return best


def _guess_daily(dates: pd.DatetimeIndex, order: list[str], hint: str | None) -> str | None:
    recent = dates[dates >= dates[-1] - pd.Timedelta(days=5 * 366)].unique().as_unit("ns")
    if (recent.day_of_week >= 5).mean() > 0.01:
        return None
    if len(recent) < 120:  # too short for holidays to tell exchanges apart
        order = [hint] if hint is not None else []
    scores: dict[str, float] = {}
    for name in order:
        if name in scores or (name == "XKRX" and min(scores.values(), default=9) < 0.1):
            continue
        sessions = market(name).days(recent[0], recent[-1]).dates
        extra = ~np.isin(recent.asi8, sessions)
        missing = ~np.isin(sessions, recent.asi8)
        # A bar on a holiday is proof against a calendar; a missing bar may be a halt.
        scores[name] = 20 * float(extra.mean()) + float(missing.mean())
        if scores[name] < 0.03 and not extra.any() and len(recent) > 250:
            break  # no other calendar can fit better by more than halts
    weekdays = pd.bdate_range(recent[0], recent[-1])
    fx = 1 - len(recent) / max(len(weekdays), 1)
    if len(recent) < 120:
        return hint if hint is not None and scores.get(hint, 1.0) < 0.1 else None
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
    for name in CANDIDATES[:-1]:
        sessions = market(name).days(dates[0] - pd.Timedelta(days=40), dates[-1] + pd.Timedelta(days=40))
        labels, _ = period_labels(sessions, dates, size)
        # The last period may still be forming.
        if np.isin(dates[1:-1].as_unit("ns").asi8, labels.as_unit("ns").asi8).mean() >= 0.98:
            return name
    return None


def symbol_hint(symbol: str | None) -> str | None:
    """The exchange that a symbol's spelling suggests: ``600519.SS``, ``sz000001``, ``0700.HK``, ``7203.T``."""
    if not symbol:
        return None
    text = symbol.upper()
    endings = {
        ".SS": "XSHG", ".SH": "XSHG", ".SZ": "XSHG", ".XSHG": "XSHG", ".XSHE": "XSHG", ".HK": "XHKG", ".T": "XTKS",
        ".L": "XLON", ".DE": "XETR", ".PA": "XPAR", ".NS": "XBOM", ".BO": "XBOM", ".TW": "XTAI", ".AX": "XASX",
        ".TO": "XTSE", ".SW": "XSWX", ".SA": "BVMF", ".SI": "XSES", ".KS": "XKRX", ".US": "XNYS",
    }  # fmt: skip
    for ending, code in endings.items():
        if text.endswith(ending):
            return code
    core = re.sub(r"^(SH|SZ|BJ)[._]?", "", text)
    if re.fullmatch(r"[0-9]{6}", core) and (core != text or core.startswith(CHINESE)):
        return "XSHG"
    return None

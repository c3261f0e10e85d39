"""Larger bars from smaller ones, within sessions: no bar spans a lunch break, a night or a weekend."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import BarSize, infer_frequency, parse_frequency
from kronos.bars.calendar.grid import STAMPS, Clock, Grid, Stamp, intraday_stamps
from kronos.bars.calendar.guess import Fit, Guess, fit_intraday, guess_calendar
from kronos.bars.calendar.markets import ALWAYS, FX, OBSERVED, STEP, Nanos, localize, market, resolve_calendar
from kronos.bars.report import BarsReport
from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError, DataError

_AGGREGATES: Final = {
    "open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "amount": "sum",
}  # fmt: skip
_FEW: Final = 6  # bars that can show an exchange where the clock they are written by is not to be trusted
_FX_DAY: Final = 7  # a currency day ends at 17:00 in New York, which is midnight seven hours ahead of it


def resample_bars(
    bars: pd.DataFrame,
    to: str,
    *,
    calendar: str | None = None,
    stamp: Stamp | None = None,
    keep_forming: bool = False,
) -> pd.DataFrame:
    """Bars of a larger size.

    Intraday bars start again with each session and after each lunch break. Days are sessions of the
    exchange (for FX, the day that ends at 17:00 in New York; for 24/7, the day of the timestamps' own
    clock). Weeks and months are labelled with the date of their last bar, or their first where ``stamp``
    is ``start``.

    Args:
        bars: a bars table of one symbol or many.
        to: the new size, a multiple of the old one.
        calendar: as in ``future_timestamps``; inferred when None.
        stamp: the end of the bar that timestamps name; inferred for intraday bars, kept in the result.
        keep_forming: keep the last bar although its time is not over in the data.

    Returns:
        A bars table with its report in ``attrs``.

    Raises:
        ConfigError: the new size is not a larger multiple of the old one.
        DataError: the bar size cannot be told.
    """
    target, forming, rule = parse_frequency(to), False, ""
    parts: list[pd.DataFrame] = []
    told: dict[str, None] = {}
    for symbol, part in bars.groupby("symbol", sort=True) if "symbol" in bars.columns else [(None, bars)]:
        cutting = _Cutting(part, target, calendar, stamp, None if symbol is None else str(symbol))
        labels, over = cutting.labels()
        # Rows that belong to no bar of the market (before the open, after the close) are left out.
        inside = ~np.asarray(labels.isna())
        table = part.loc[inside, list(FEATURES)].groupby(labels[inside], sort=True).agg(_AGGREGATES)
        if not over and not keep_forming and len(table):
            forming, table = True, table.iloc[:-1]
        table = table.rename_axis("timestamp").reset_index()
        if symbol is not None:
            table.insert(1, "symbol", str(symbol))
        parts.append(table)
        rule = cutting.calendar or "wall clock"
        told |= dict.fromkeys(cutting.notes)
    table = pd.concat(parts, ignore_index=True)
    before, times = bars.attrs.get("report"), table["timestamp"]
    report = before if isinstance(before, BarsReport) else BarsReport()
    notes = [f"resampled from {report.frequency or 'smaller bars'} by {rule}"]
    notes += ["the last bar is not over in the data: left out"] * forming
    notes += told
    first, last = (times.min(), times.max()) if len(times) else (None, None)
    report = report.noted(*notes, rows=len(table), frequency=str(target), first=first, last=last, warnings=())
    table.attrs = {"report": report}
    return table


class _Cutting:
    """How one series is cut: its times and bar size, the larger one, and the calendar with its fit where it has one."""

    def __init__(
        self, bars: pd.DataFrame, target: BarSize, calendar: str | None, stamp: Stamp | None, symbol: str | None
    ) -> None:
        times = pd.DatetimeIndex(bars["timestamp"]).as_unit("ns")
        size = infer_frequency(times)
        if size is None:
            raise DataError("The bar size cannot be told from the timestamps, so the bars cannot be resampled.")
        if target.delta <= size.delta:
            raise ConfigError(f"Bars of {size} cannot be resampled to {target}: choose a larger size.")
        if target.intraday and target.delta.value % size.delta.value:
            raise ConfigError(f"{target} is not a multiple of {size}. Choose a size that the bars fill evenly.")
        if size.unit == "w" and target.unit == "mo":
            raise ConfigError("Weeks do not fill months evenly. Resample from daily bars.")
        fit: Fit | None = None
        name: str | None
        self.notes: tuple[str, ...] = ()
        self.zone: str | None = None  # by whose clock days are cut that are no sessions; None: the timestamps' own
        if calendar is None:
            guess = guess_calendar(times, size, symbol)
            name, fit = guess.name, guess.fit
            if size.intraday and not target.intraday and name is None:
                name, fit = self._recognise(times, size, guess, symbol)
        else:
            name = resolve_calendar(calendar)
            if name not in (ALWAYS, OBSERVED, STEP) and size.intraday:
                fit = fit_intraday(times, size, market(name), stamp)[0]
        self.times, self.size, self.target, self.calendar, self.fit, self.stamp = times, size, target, name, fit, stamp
        self.ends = (fit.grid.stamp if fit else stamp) == "end"  # the timestamps name the end of the bar

    def _recognise(
        self, times: pd.DatetimeIndex, size: BarSize, guess: Guess, symbol: str | None
    ) -> tuple[str | None, Fit | None]:
        """The calendar of days that no calendar cuts yet, where the timestamps' own clock would cut them badly."""
        wall = times.tz_localize(None)
        day, weekend = wall.normalize(), wall.day_of_week >= 5
        split = int(((np.diff(day.asi8) > 0) & (np.diff(times.asi8) <= size.delta.value)).sum())
        if split == 0 and (weekend.all() or not weekend.any()):
            return None, None
        if times.tz is not None and guess.sessions is not None:
            self.zone = market(guess.sessions).zone
            self.notes = (f"hours beyond those of {guess.sessions} are seen: days are those of its clock",)
            return None, None
        few = guess_calendar(times, size, symbol, _FEW) if times.tz is not None else Guess()
        if few.fit is not None:
            self.notes = (f"days are the sessions of {few.name}, as the hours of few bars show", *few.choice(symbol))
            return few.name, few.fit
        clock = "their own clock" if times.tz is None else f"the clock of their zone, {times.tz}"
        what = (
            f"which parts bars that follow each other without a gap ({split} times)"
            if split
            else "by which some fall on a weekend"
        )
        self.notes = (
            f"days are cut at midnight by {clock}, {what}: if the market keeps another, name its calendar, such as "
            "calendar='XNYS' (--calendar XNYS)",
        )
        return None, None

    def labels(self) -> tuple[pd.DatetimeIndex, bool]:
        """The new timestamp of each row (NaT outside the sessions), and whether the last bar is over."""
        fit, step = self.fit, self.target.delta
        if self.target.intraday and fit is None:
            starts = self.times - self.size.delta if self.ends else self.times
            wall = starts.tz_localize(None)
            floors = starts - (wall - wall.normalize()) % step  # counted from each midnight
            return floors + step if self.ends else floors, bool(starts[-1] + self.size.delta >= floors[-1] + step)
        if self.target.intraday and fit is not None:
            inner, finish = self._instants(fit)
            sessions = fit.market.sessions_around(inner + self.ends, rest=False)
            grids = (Grid(fit.grid.anchor, stamp) for stamp in STAMPS)
            begin, end = (intraday_stamps(sessions, self.target, grid, fit.market.zone)[0] for grid in grids)
            place, inside = _places(inner, begin, end)
            named = fit.clock.from_utc((end if self.ends else begin)[place], self.times)
            return pd.DatetimeIndex(named.where(inside)), bool(finish >= end[place[-1]])
        if not self.size.intraday:
            wall = self.times.tz_localize(None)
            return self._periods(self.times, wall), self._period_over(wall[-1])
        days, over = self._days()
        dated = localize(days, self.times.tz)
        if self.target.unit != "d":
            return self._periods(dated, days), over and self._period_over(days[days.notna()][-1])
        if self.target.count > 1:
            raise ConfigError("Days are resampled to 1d, weeks or months, not to several days.")
        return dated, over

    def _days(self) -> tuple[pd.DatetimeIndex, bool]:
        """The session date of each row, and whether the last session is over."""
        day = pd.Timedelta(days=1)
        if self.fit is None:
            times = self.times if self.zone is None else self.times.tz_convert(self.zone)
            wall = (times - self.size.delta if self.ends else times).tz_localize(None)
            return wall.normalize(), bool(wall[-1] + self.size.delta >= wall[-1].normalize() + day)
        inner, finish = self._instants(self.fit)
        where = self.fit.market
        if where.name == FX:
            ahead = Clock("", where.zone, _FX_DAY).from_utc(inner, self.times.tz_localize(None))
            return ahead.normalize(), bool(ahead[-1] + pd.Timedelta(finish - inner[-1]) >= ahead[-1].normalize() + day)
        sessions = where.sessions_around(inner)
        place, inside = _places(inner, sessions.opens, sessions.closes)
        days = pd.DatetimeIndex(sessions.dates[place].view("datetime64[ns]"))
        return pd.DatetimeIndex(days.where(inside)), bool(finish >= sessions.closes[place[-1]])

    def _instants(self, fit: Fit) -> tuple[Nanos, int]:
        """An instant within each bar (starts lie in [open, close), ends in (open, close]), and the end of the last."""
        nanos = fit.clock.to_utc(self.times)
        return nanos - self.ends, int(nanos[-1]) + (0 if self.ends else self.size.delta.value)

    def _period_over(self, last: pd.Timestamp) -> bool:
        """True when the next trading day belongs to the next week or month."""
        if self.calendar == ALWAYS:
            following = last + pd.Timedelta(days=1)
        elif self.calendar in (None, OBSERVED, STEP):
            following = last + pd.offsets.BusinessDay(1)
        else:
            days = market(self.calendar).days(last + pd.Timedelta(days=1), last + pd.Timedelta(days=20)).dates
            following = pd.Timestamp(int(days[0]))
        keys = self._period_keys(pd.DatetimeIndex([last, following]))
        return bool(keys[0] != keys[1])

    def _period_keys(self, wall: pd.DatetimeIndex) -> Nanos:
        """A number for each week or month."""
        if self.target.unit == "d":
            raise ConfigError(f"Bars of a day or more are resampled to weeks or months, not to {self.target}.")
        rule = "W" if self.target.unit == "w" else "M"
        return (wall.to_period(rule).asi8 - pd.Period("1970-01-05", rule).ordinal) // self.target.count

    def _periods(self, times: pd.DatetimeIndex, wall: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Weeks and months, named by the timestamp of their last (or first) row."""
        groups = pd.Series(times).groupby(self._period_keys(wall))
        return pd.DatetimeIndex(groups.transform("first" if self.stamp == "start" else "last"))


def _places(inner: Nanos, begin: Nanos, end: Nanos) -> tuple[Nanos, npt.NDArray[np.bool_]]:
    """The span that each instant lies in, the last that has begun, and whether it does."""
    place = np.maximum(np.searchsorted(begin, inner, side="right") - 1, 0)
    return place, (begin[place] <= inner) & (inner < end[place])

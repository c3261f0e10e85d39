"""Prices and volume brought into one unit, on request alone: by factors that the caller gives or has been told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from kronos.bars.breaks import Break, find_breaks, split_text
from kronos.bars.calendar.markets import localize
from kronos.bars.report import BarsReport
from kronos.bars.schema import PRICES
from kronos.errors import ConfigError

_MOST_DAYS: Final = 6  # in a note
_AROUND: Final = 20  # bars on either side of a split whose volume is compared


@dataclass(frozen=True)
class SplitSuspect:
    """A jump between two bars that looks like a split.

    Attributes:
        row: 1-based row of the bar after the jump, within its symbol.
        timestamp: of that bar.
        ratio: old price over new price, the round number that it lies near (2 is two for one).
        seen: old close over new open, as found.
        volume_ratio: typical volume after over before, which a split moves the same way; None without volume.
        symbol: of the bars, if they name one.
    """

    row: int
    timestamp: pd.Timestamp
    ratio: float
    seen: float
    volume_ratio: float | None
    symbol: str | None = None

    @property
    def text(self) -> str:
        """In words, such as ``4 for 1 on 2020-08-31 (seen 3.95)``."""
        return split_text(self.ratio, self.timestamp, self.seen)


def split_suspects(bars: pd.DataFrame) -> list[SplitSuspect]:
    """Jumps from a close to the next open that are large for the series and near a usual split ratio.

    Args:
        bars: a bars table; several symbols are judged one by one.
    """
    found: list[SplitSuspect] = []
    for symbol, part in bars.groupby("symbol", sort=True) if "symbol" in bars.columns else [(None, bars)]:
        name, volume = None if symbol is None else str(symbol), part["volume"].to_numpy()
        for one in find_breaks(part, name):
            if one.kind != "split_suspect" or one.factor is None:
                continue
            before, after = volume[max(0, one.row - _AROUND - 1) : one.row], volume[one.row : one.row + _AROUND]
            traded = float(np.median(after) / np.median(before)) if np.median(before) > 0 else None
            found.append(SplitSuspect(one.row + 1, one.timestamp, one.factor, one.seen, traded, name))
    return found


def adjust_bars(bars: pd.DataFrame, factors: Mapping[Any, float | tuple[float, bool]]) -> pd.DataFrame:
    """Divide the prices before each date by its factor, and multiply the volume; amount stays.

    Args:
        bars: a bars table of one symbol.
        factors: first date at the new price → factor (4 for a split of four for one; a dividend of 2 % is
            1 / 0.98, and should leave the volume alone: pass ``(factor, False)``).

    Raises:
        ConfigError: a factor that is not positive, what is no date or lies outside the bars, or several symbols.
    """
    if "symbol" in bars.columns and bars["symbol"].nunique() > 1:
        raise ConfigError("Adjust one symbol at a time: factors belong to one symbol.")
    adjusted, times, notes = bars.copy(), pd.DatetimeIndex(bars["timestamp"]), list[str]()
    for date, given in factors.items():
        factor, with_volume = given if isinstance(given, tuple) else (given, True)
        if not np.isfinite(factor) or factor <= 0:
            raise ConfigError(f"The factor for {date} must be positive, not {factor}.")
        row = _first_row(times, date)
        if not 0 < row < len(bars):
            raise ConfigError(f"No bars lie on both sides of {date}; there are {times[0]} to {times[-1]}.")
        adjusted = _rescaled(adjusted, 0, row, factor, with_volume)
        notes.append(_divided(date, factor))
    report = bars.attrs.get("report")
    if isinstance(report, BarsReport):
        adjusted.attrs["report"] = report.noted(*notes)
    return adjusted


@dataclass(frozen=True)
class Adjustment:
    """What ``adjust`` of a forecast asks for.

    Attributes:
        splits, volume: bring prices (volume) before a suspected break into the unit behind it.
        cut: leave out what lies before the last break that is left.
        factors: first date at the new price → factor, given by the caller.
    """

    splits: bool = False
    volume: bool = False
    cut: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> Adjustment:
        """``splits``, ``volume``, ``cut`` and ``DATE=FACTOR``, several with commas between them; None: nothing.

        Raises:
            ConfigError: a factor that is not positive, or no date.
        """
        words = [word.strip() for word in (text or "").split(",") if word.strip()]
        pairs = [word.rsplit("=", 1) for word in words if "=" in word]
        for date, factor in pairs:
            try:
                known = pd.notna(pd.Timestamp(date)) and 0 < float(factor) < np.inf
            except ValueError:
                known = False
            if not known:
                raise ConfigError(
                    f"adjust has '{date}={factor}'; write a date and a positive factor, such as 2010-06-10=1.3 for a "
                    "bonus issue of three shares for ten."
                )
        factors = {date: float(factor) for date, factor in pairs}
        return cls("splits" in words, "volume" in words, "cut" in words, factors)


def refuse_factors(adjust: str | None, series: int) -> None:
    """Raise ConfigError where factors, which belong to one series, are given for several."""
    if series > 1 and Adjustment.read(adjust).factors:
        raise ConfigError(
            "A factor belongs to one series: forecast it alone, or give adjust='splits' or 'cut' (--adjust splits) for "
            "many."
        )


def mend_breaks(
    bars: pd.DataFrame, adjust: str | None, symbol: str | None = None, calendar: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The bars of one series as ``adjust`` asks, and what has to be said: what was done, and the breaks that are left.

    Raises:
        ConfigError: an ``adjust`` that cannot be read.
    """
    asked, notes, done = Adjustment.read(adjust), list[str](), set[str]()
    times = pd.DatetimeIndex(bars["timestamp"])
    for date, factor in asked.factors.items():
        row = _first_row(times, date)
        if 0 < row < len(bars):
            bars = _rescaled(bars, 0, row, factor)
            notes.append(_divided(date, factor))
        else:
            notes.append(f"{date} does not divide the bars that are read: nothing was adjusted there")
    breaks = find_breaks(bars, symbol, calendar)
    for one in breaks if asked.splits or asked.volume else ():
        wanted = asked.volume if one.kind == "volume_step" else asked.splits
        if not wanted or one.factor is None:
            continue
        done.add("volume" if one.kind == "volume_step" else "splits")
        day, factor = one.day, one.factor
        if one.kind == "volume_step":
            bars = _volume_rescaled(bars, one.row, factor)
            notes.append(f"volume before {day} multiplied by {factor:.3g}, as asked (adjust=volume)")
        elif one.end is not None:
            bars = _rescaled(bars, one.row, one.end, 1 / factor)
            notes.append(
                f"prices from {day} on multiplied by {factor:.6g} until they are back, as asked (adjust=splits)"
            )
        else:
            bars = _rescaled(bars, 0, one.row, factor)
            notes.append(f"prices before {day} divided by {factor:.6g}, as asked (adjust=splits)")
    if breaks:
        done.add("cut")
    if notes:
        breaks = find_breaks(bars, symbol, calendar)
    if asked.cut and breaks:
        last = breaks[-1]
        first = last.row if last.end is None else last.end
        bars = bars.iloc[first:].reset_index(drop=True)
        notes.append(f"read from {bars['timestamp'].iloc[0]} on alone, behind a break, as asked (adjust=cut)")
        breaks = []
    words = [word for word in ("splits", "volume", "cut") if getattr(asked, word)]
    if words and not done & set(words):
        notes.append(f"adjust={','.join(words)}: nothing was found to adjust")
    return bars, [*_cautions(breaks), *notes]


def _cautions(breaks: list[Break]) -> list[str]:
    """The last break of prices and of volume in full, those before them by their dates."""
    volume, price = ([one for one in breaks if (one.kind == "volume_step") == of_volume] for of_volume in (True, False))
    told = [some[-1].caution for some in (price, volume) if some]
    earlier = sorted([*price[:-1], *volume[:-1]], key=lambda one: one.row)
    if earlier:
        days = ", ".join(one.day for one in earlier[:_MOST_DAYS]) + (" …" if len(earlier) > _MOST_DAYS else "")
        told.append(f"the context holds {len(earlier)} more break{'s' * (len(earlier) > 1)} like it: {days}")
    return told


def _first_row(times: pd.DatetimeIndex, date: Any) -> int:
    """The row of the first bar at or after a date, by the clock of the bars where the date names none."""
    try:
        moment = pd.DatetimeIndex([pd.Timestamp(date)])
        moment = localize(moment, times.tz) if times.tz is not None and moment.tz is None else moment
        return int(times.searchsorted(moment[0]))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"'{date}' is no date that the bars can be divided by, which begin on {times[0]}.") from error


def _divided(date: Any, factor: float) -> str:
    return f"prices before {date} divided by {factor:g}, as asked"


def _rescaled(bars: pd.DataFrame, first: int, end: int, factor: float, with_volume: bool = True) -> pd.DataFrame:
    """Prices of rows ``first`` to ``end`` divided by a factor, and their volume multiplied; amount stays."""
    out = bars.copy()
    rows = slice(first, end)
    for name in PRICES:
        out[name] = _times(bars[name], rows, 1 / factor)
    return out.assign(volume=_times(bars["volume"], rows, factor)) if with_volume else out


def _volume_rescaled(bars: pd.DataFrame, end: int, factor: float) -> pd.DataFrame:
    """Volume before a row multiplied by a factor; amount, too, where it takes the step with it."""
    amount = bars["amount"].to_numpy()
    around = [part[part > 0] for part in (amount[max(0, end - _AROUND) : end], amount[end : end + _AROUND])]
    step = float(np.median(around[1]) / np.median(around[0])) if all(map(len, around)) else 1.0
    names = ("volume", "amount") if 1 / 3 < step / factor < 3 else ("volume",)
    return bars.assign(**{name: _times(bars[name], slice(0, end), factor) for name in names})


def _times(column: pd.Series[float], rows: slice, factor: float) -> pd.Series[float]:
    """A column with some of its rows multiplied."""
    values = column.to_numpy(dtype=np.float64, copy=True)
    values[rows] *= factor
    return pd.Series(values, column.index)

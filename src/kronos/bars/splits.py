"""Splits and dividends: suspects are reported; prices change only by a factor that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from kronos.bars.report import BarsReport
from kronos.bars.schema import PRICES
from kronos.errors import ConfigError

_RATIOS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100, 3 / 2, 5 / 2, 4 / 3, 7 / 5, 6 / 5, 13 / 10)
_NEAR: Final = 0.02  # of the ratio; overnight moves blur it
_USUAL: Final = 8.0  # a split stands out by so many usual moves


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
        share = f"{self.ratio:g} for 1" if self.ratio > 1 else f"1 for {1 / self.ratio:g}"
        return f"{share} on {self.timestamp} (seen {self.seen:.3g})"


def split_suspects(bars: pd.DataFrame) -> list[SplitSuspect]:
    """Jumps from a close to the next open that are large for the series and near a usual split ratio.

    Args:
        bars: a bars table; several symbols are judged one by one.
    """
    if "symbol" in bars.columns:
        found: list[SplitSuspect] = []
        for symbol, part in bars.groupby("symbol", sort=True):
            found += [replace(suspect, symbol=str(symbol)) for suspect in _in_one(part)]
        return found
    return _in_one(bars)


def _in_one(bars: pd.DataFrame) -> list[SplitSuspect]:
    if len(bars) < 3:
        return []
    opens, closes, volume = (bars[name].to_numpy() for name in ("open", "close", "volume"))
    seen = closes[:-1] / opens[1:]
    moves = np.abs(np.log(seen))
    usual = max(float(np.median(np.abs(np.diff(np.log(closes))))), 1e-4)
    rows = np.flatnonzero((moves > np.log(1.15)) & (moves > _USUAL * usual))
    ratios = np.array([*_RATIOS, *(1 / ratio for ratio in _RATIOS)])
    found: list[SplitSuspect] = []
    for row in rows:
        nearest = float(ratios[np.argmin(np.abs(np.log(ratios / seen[row])))])
        if abs(seen[row] / nearest - 1) > _NEAR + usual:
            continue
        before, after = volume[max(0, row - 20) : row + 1], volume[row + 1 : row + 21]
        known = np.median(before) > 0 and len(after) > 0
        found.append(
            SplitSuspect(
                row=int(row) + 2,
                timestamp=bars["timestamp"].iloc[row + 1],
                ratio=nearest,
                seen=float(seen[row]),
                volume_ratio=float(np.median(after) / np.median(before)) if known else None,
            )
        )
    return found


def adjust_bars(bars: pd.DataFrame, factors: Mapping[Any, float]) -> pd.DataFrame:
    """Divide the prices before each date by its factor, and multiply the volume; amount stays.

    Args:
        bars: a bars table of one symbol.
        factors: first date at the new price → factor (4 for a split of four for one; a dividend of 2 % is
            1 / 0.98, and should leave the volume alone: pass ``(factor, False)``).

    Raises:
        ConfigError: a factor that is not positive, a date outside the bars, or several symbols.
    """
    if "symbol" in bars.columns and bars["symbol"].nunique() > 1:
        raise ConfigError("Adjust one symbol at a time: factors belong to one symbol.")
    adjusted = bars.copy()
    times = pd.DatetimeIndex(bars["timestamp"])
    notes: list[str] = []
    for date, given in factors.items():
        factor, with_volume = given if isinstance(given, tuple) else (given, True)
        moment = pd.Timestamp(date)
        if times.tz is not None and moment.tzinfo is None:
            moment = moment.tz_localize(times.tz)
        if not np.isfinite(factor) or factor <= 0:
            raise ConfigError(f"The factor for {date} must be positive, not {factor}.")
        earlier = np.asarray(times < moment)
        if not earlier.any() or earlier.all():
            raise ConfigError(f"No bars lie on both sides of {date}; there are {times[0]} to {times[-1]}.")
        adjusted.loc[earlier, list(PRICES)] /= factor
        if with_volume:
            adjusted.loc[earlier, "volume"] *= factor
        notes.append(f"prices before {date} divided by {factor:g}, as asked")
    report = bars.attrs.get("report")
    if isinstance(report, BarsReport):
        adjusted.attrs["report"] = report.noted(*notes)
    return adjusted

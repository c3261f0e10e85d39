"""Series made fit for training: cut where they jump, stop trading or stand still (model specification 8), and splits.

Splits and dividends are only suspected; prices change by a factor that the user gives and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.frequency import parse_frequency
from kronos.bars.report import BarsReport
from kronos.bars.schema import COLUMNS, PRICES
from kronos.errors import ConfigError, DataError

Rows = npt.NDArray[np.int64]

_RATIOS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100, 3 / 2, 5 / 2, 4 / 3, 7 / 5, 6 / 5, 13 / 10)
_NEAR: Final = 0.02  # of the ratio; overnight moves blur it
_USUAL: Final = 8.0  # a split stands out by this many usual moves


@dataclass(frozen=True)
class CleaningRule:
    """Thresholds for one bar size.

    Attributes:
        min_length: shorter pieces are left out, in bars.
        jump: a change from one close to the next above this share splits the series.
        idle: a longer run of bars without volume is cut out.
        flat: a longer run of bars with an unchanged close is cut out.
    """

    min_length: int
    jump: float
    idle: int
    flat: int


CLEANING: Final[Mapping[str, CleaningRule]] = MappingProxyType(
    {
        "1m": CleaningRule(2048, 0.10, 15, 45),
        "5m": CleaningRule(1024, 0.15, 3, 10),
        "15m": CleaningRule(512, 0.15, 2, 5),
        "30m": CleaningRule(512, 0.20, 2, 3),
        "1h": CleaningRule(256, 0.20, 1, 3),
        "4h": CleaningRule(128, 0.25, 1, 3),
        "1d": CleaningRule(128, 0.30, 1, 3),
        "1w": CleaningRule(16, 0.50, 0, 2),
    }
)
"""The published thresholds by bar size."""


@dataclass(frozen=True)
class Piece:
    """An unbroken stretch of bars: rows ``first`` to ``last`` (0-based, both included) of the input."""

    symbol: str | None
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class CleanedBars:
    """Pieces of series that passed, in order, and what was cut from the bars by the rule of their bar size.

    Attributes:
        jumps: splits at jumps.
        idle_bars, flat_bars, short_bars: bars cut out as untraded, as standing still, or as too short a piece.
    """

    pieces: tuple[Piece, ...]
    bars: pd.DataFrame = field(repr=False)
    rule: CleaningRule
    frequency: str
    jumps: int
    idle_bars: int
    flat_bars: int
    short_bars: int

    def to_frame(self) -> pd.DataFrame:
        """All pieces in one table, each a symbol of its own (``AAPL/1``, ``AAPL/2`` …): no window can span a cut."""
        if not self.pieces:
            return self.bars.iloc[:0].reset_index(drop=True)
        parts: list[pd.DataFrame] = []
        seen: Counter[str] = Counter()
        for piece in self.pieces:
            base = piece.symbol or "series"
            seen[base] += 1
            parts.append(self.bars.iloc[piece.first : piece.last + 1].assign(symbol=f"{base}/{seen[base]}"))
        table = pd.concat(parts, ignore_index=True)
        table.attrs = {}
        return table[[name for name in COLUMNS if name in table.columns]]

    @property
    def summary(self) -> str:
        """The counts in two sentences."""
        kept = sum(map(len, self.pieces))
        return (
            f"Kept {kept:,} of {len(self.bars):,} bars in {len(self.pieces):,} pieces; a piece has at least "
            f"{self.rule.min_length} bars.\n"
            f"Cut: {self.jumps:,} jumps above {self.rule.jump:.0%}, {self.idle_bars:,} bars without volume, "
            f"{self.flat_bars:,} at an unchanged close, {self.short_bars:,} in pieces that are too short."
        )

    def to_dict(self) -> dict[str, Any]:
        """Counts in plain types."""
        return {
            "frequency": self.frequency,
            "rule": vars(self.rule).copy(),
            "rows": len(self.bars),
            "rows_kept": sum(map(len, self.pieces)),
            "pieces": len(self.pieces),
            **{name: getattr(self, name) for name in ("jumps", "idle_bars", "flat_bars", "short_bars")},
        }


def clean_bars(bars: pd.DataFrame, *, frequency: str | None = None, rule: CleaningRule | None = None) -> CleanedBars:
    """Cut a bars table (one symbol or many) by the thresholds of its bar size.

    A run of untraded or standing bars is cut out whole once it is longer than the threshold. Series whose
    source knows no volume at all are not judged by it.

    Args:
        bars: a bars table.
        frequency: bar size, where the report does not say.
        rule: other thresholds than those of ``CLEANING``.

    Raises:
        ConfigError: a bar size without thresholds, and no ``rule``.
        DataError: the bar size cannot be told.
    """
    size = frequency or getattr(bars.attrs.get("report"), "frequency", None)
    if size is None:
        raise DataError(
            "The bar size cannot be told from the bars. Pass frequency (--frequency), such as '5m' or '1d'."
        )
    name = str(parse_frequency(size))
    if rule is None:
        if name not in CLEANING:
            raise ConfigError(f"There are no thresholds for bars of {name}, only for {', '.join(CLEANING)}. Pass rule.")
        rule = CLEANING[name]
    named = "symbol" in bars.columns
    codes = pd.factorize(bars["symbol"])[0] if named else np.zeros(len(bars), dtype=np.int64)
    pieces: list[Piece] = []
    totals = np.zeros(4, dtype=np.int64)
    for first, end in pairwise(np.flatnonzero(np.diff(codes, prepend=-2, append=-2)).tolist()):
        symbol = str(bars["symbol"].iloc[first]) if named else None
        starts, lengths, counts = _cut(bars.iloc[first:end], rule)
        stops = first + starts + lengths - 1
        pieces += [Piece(symbol, int(a), int(b)) for a, b in zip(first + starts, stops, strict=True)]
        totals += counts
    jumps, idle, flat, short = totals.tolist()
    return CleanedBars(tuple(pieces), bars, rule, name, jumps, idle, flat, short)


def _cut(part: pd.DataFrame, rule: CleaningRule) -> tuple[Rows, Rows, Rows]:
    """Starts and lengths of the pieces of one series, and how many jumps, idle, flat and short bars were cut."""
    close, volume = part["close"].to_numpy(), part["volume"].to_numpy()
    sound = np.isfinite(part[list(PRICES)].to_numpy()).all(axis=1)  # a missing price splits
    idle = _long_runs((volume == 0) & (volume > 0).any(), rule.idle)
    flat = _long_runs(np.append(False, close[1:] == close[:-1]), rule.flat)
    keep = sound & ~idle & ~flat
    before = np.append(False, keep[:-1])  # the bar before is kept
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.append(False, np.abs(close[1:] / close[:-1] - 1) > rule.jump)
    begins = keep & (~before | jump)
    starts = np.flatnonzero(begins)
    lengths = np.bincount(np.cumsum(begins)[keep], minlength=len(starts) + 1)[1:]
    long = lengths >= rule.min_length
    counts = ((jump & keep & before).sum(), idle.sum(), (flat & ~idle).sum(), lengths[~long].sum())
    return starts[long], lengths[long], np.array(counts, dtype=np.int64)


def _long_runs(mask: npt.NDArray[np.bool_], longest: int) -> npt.NDArray[np.bool_]:
    """True on every row of a run of more than ``longest`` True values."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    out = np.zeros(len(mask), dtype=bool)
    out[mask] = np.repeat(lengths > longest, lengths)
    return out


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
    ratios = np.array([*_RATIOS, *(1 / ratio for ratio in _RATIOS)])
    found: list[SplitSuspect] = []
    for symbol, part in bars.groupby("symbol", sort=True) if "symbol" in bars.columns else [(None, bars)]:
        if len(part) < 3:
            continue
        opens, closes, volume = (part[name].to_numpy() for name in ("open", "close", "volume"))
        seen = closes[:-1] / opens[1:]
        moves = np.abs(np.log(seen))
        usual = max(float(np.median(np.abs(np.diff(np.log(closes))))), 1e-4)
        for row in np.flatnonzero((moves > np.log(1.15)) & (moves > _USUAL * usual)):
            nearest = float(ratios[np.argmin(np.abs(np.log(ratios / seen[row])))])
            if abs(seen[row] / nearest - 1) > _NEAR + usual:
                continue
            before, after = volume[max(0, row - 20) : row + 1], volume[row + 1 : row + 21]
            traded = float(np.median(after) / np.median(before)) if np.median(before) > 0 else None
            when, name = part["timestamp"].iloc[row + 1], None if symbol is None else str(symbol)
            found.append(SplitSuspect(int(row) + 2, when, nearest, float(seen[row]), traded, name))
    return found


def adjust_bars(bars: pd.DataFrame, factors: Mapping[Any, float | tuple[float, bool]]) -> pd.DataFrame:
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

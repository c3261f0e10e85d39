"""Cleaning for training: series are cut where they jump, stop trading or stand still (model specification 8)."""

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
from kronos.bars.schema import COLUMNS, PRICES
from kronos.errors import ConfigError, DataError

Mask = npt.NDArray[np.bool_]


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
    """Pieces of series that passed, and what was cut.

    Attributes:
        pieces: the stretches kept, in order.
        bars: the input.
        rule: the thresholds.
        frequency: the bar size that chose them.
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

    def frames(self) -> list[pd.DataFrame]:
        """One bars table a piece."""
        return [self.bars.iloc[p.first : p.last + 1].reset_index(drop=True) for p in self.pieces]

    def to_frame(self) -> pd.DataFrame:
        """All pieces in one table, each a symbol of its own (``AAPL/1``, ``AAPL/2`` …): no window can span a cut."""
        if not self.pieces:
            return self.bars.iloc[:0].reset_index(drop=True)
        parts: list[pd.DataFrame] = []
        seen: Counter[str] = Counter()
        for piece, frame in zip(self.pieces, self.frames(), strict=True):
            base = piece.symbol or "series"
            seen[base] += 1
            parts.append(frame.assign(symbol=f"{base}/{seen[base]}"))
        table = pd.concat(parts, ignore_index=True)
        table.attrs = {}
        return table[[name for name in COLUMNS if name in table.columns]]

    @property
    def summary(self) -> str:
        """The counts in two sentences."""
        kept = sum(len(piece) for piece in self.pieces)
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
            "rows_kept": sum(len(piece) for piece in self.pieces),
            "pieces": len(self.pieces),
            "jumps": self.jumps,
            "idle_bars": self.idle_bars,
            "flat_bars": self.flat_bars,
            "short_bars": self.short_bars,
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
    pieces: list[Piece] = []
    totals = np.zeros(4, dtype=np.int64)
    for symbol, first, last in _series(bars):
        found, counts = _cut(bars, symbol, first, last, rule)
        pieces += found
        totals += counts
    jumps, idle, flat, short = (int(count) for count in totals)
    return CleanedBars(tuple(pieces), bars, rule, name, jumps, idle, flat, short)


def _series(bars: pd.DataFrame) -> list[tuple[str | None, int, int]]:
    """Symbol, first and last row of each series of a sorted table."""
    if len(bars) == 0:
        return []
    if "symbol" not in bars.columns:
        return [(None, 0, len(bars) - 1)]
    codes = pd.factorize(bars["symbol"])[0]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [len(bars)]])
    names = bars["symbol"].to_numpy(dtype=object)
    return [(str(names[a]), int(a), int(b) - 1) for a, b in pairwise(starts)]


def _cut(
    bars: pd.DataFrame, symbol: str | None, first: int, last: int, rule: CleaningRule
) -> tuple[list[Piece], npt.NDArray[np.int64]]:
    part = bars.iloc[first : last + 1]
    close, volume = part["close"].to_numpy(), part["volume"].to_numpy()
    sound = np.isfinite(part[list(PRICES)].to_numpy()).all(axis=1)  # a missing price splits
    still = np.concatenate([[False], close[1:] == close[:-1]])
    idle = _long_runs(volume == 0, rule.idle) if (volume > 0).any() else np.zeros(len(part), dtype=bool)
    flat = _long_runs(still, rule.flat)
    keep = sound & ~idle & ~flat
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.concatenate([[False], np.abs(close[1:] / close[:-1] - 1) > rule.jump])
    # A piece begins at a kept bar after a bar that was cut, or at a jump.
    begins = keep & (np.concatenate([[True], ~keep[:-1]]) | jump)
    starts = np.flatnonzero(begins)
    label = np.cumsum(begins)
    lengths = np.bincount(label[keep], minlength=len(starts) + 1)[1:] if len(starts) else np.empty(0, dtype=np.int64)
    long = lengths >= rule.min_length
    pieces = [
        Piece(symbol, first + int(start), first + int(start + length) - 1)
        for start, length in zip(starts[long], lengths[long], strict=True)
    ]
    jumps = int((jump & keep & np.concatenate([[False], keep[:-1]])).sum())
    counts = (jumps, int(idle.sum()), int((flat & ~idle).sum()), int(lengths[~long].sum()))
    return pieces, np.array(counts, dtype=np.int64)


def _long_runs(mask: Mask, longest: int) -> Mask:
    """True on every row of a run of more than ``longest`` True values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    runs = np.repeat(ends - starts > longest, ends - starts)
    out = np.zeros(len(mask), dtype=bool)
    out[mask] = runs
    return out

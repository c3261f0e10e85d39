"""Series made fit for training: cut where they jump, stop trading or stand still (model specification 8)."""

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
from kronos.bars.runs import long_runs
from kronos.bars.schema import COLUMNS, PRICES
from kronos.errors import ConfigError, DataError

Rows = npt.NDArray[np.int64]


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
    idle = long_runs((volume == 0) & (volume > 0).any(), rule.idle)
    flat = long_runs(np.append(False, close[1:] == close[:-1]), rule.flat)
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

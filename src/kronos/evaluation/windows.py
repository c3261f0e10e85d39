"""Test windows: a context that ends at its cutoff, and the truth that only the judge sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.errors import ConfigError, DataError
from kronos.evaluation.metrics import invalid_bars
from kronos.protocol import AMOUNT, CLOSE, FEATURES, VOLUME, Context, FloatArray, TimeArray

#: A longer pause than this ends a series, whatever its bar size: weekends and holidays stay inside.
LONGEST_PAUSE = np.timedelta64(108, "h")
#: ... unless the bars themselves are long: then this many steps.
PAUSE_STEPS = 12
#: A close-to-close log move beyond this is taken for a split or a mistake, in a context as in a truth.
MAX_JUMP = 0.4
NO_TIME = np.timedelta64(0, "ns")


@dataclass(frozen=True, eq=False)
class Window:
    """One test case.

    Args:
        context: what forecasters see.
        truth: (H, 6) float64, the bars after the cutoff, read-only.
        group: where it comes from (a file, a market); reports break down by it.
        origin: the common cutoff of all symbols of a date; by default the context's last bar.
    """

    context: Context
    truth: FloatArray
    group: str = ""
    origin: np.datetime64[Any] | None = None

    @property
    def date(self) -> np.datetime64[Any]:
        """The date under which the window is counted: ``origin``, or the context's cutoff."""
        return self.context.cutoff if self.origin is None else self.origin

    @property
    def key(self) -> str:
        """A name that is unique within a set of windows: group, symbol and cutoff."""
        return f"{self.group}/{self.context.symbol}@{np.datetime_as_string(self.context.cutoff, unit='s')}"


@dataclass
class Refusals:
    """Why candidate windows were left out, counted."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, number: int = 1) -> None:
        """Count ``number`` more candidates refused for ``reason``."""
        self.counts[reason] = self.counts.get(reason, 0) + number

    def message(self, context: int, horizon: int) -> str:
        """Why there is nothing to evaluate, and what to do."""
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.counts.items() if count)
        refused = f"; candidates refused: {reasons}" if reasons else ""
        return (
            f"no test window of {context} + {horizon} bars fits{refused}. Give longer series, or a smaller context or "
            "horizon"
        )


@dataclass(frozen=True, eq=False)
class Series:
    """One symbol's bars as arrays: timestamps (T,) datetime64[ns], values (T, 6) float64.

    Times with a time zone are held as UTC, which orders them and compares markets; ``zone`` keeps their wall clock.
    """

    symbol: str
    timestamps: TimeArray
    values: FloatArray
    zone: tzinfo | None = None

    @classmethod
    def from_frame(cls, symbol: str, bars: pd.DataFrame) -> Series:
        """Arrays of a bars table of one symbol; absent volume becomes 0, absent amount volume × mean price."""
        missing = [name for name in FEATURES[:4] if name not in bars.columns]
        if missing or "timestamp" not in bars.columns:
            raise DataError(f"bars of {symbol!r} lack the column(s) {missing or ['timestamp']}")
        times = pd.DatetimeIndex(bars["timestamp"])
        stamps = (times if times.tz is None else times.tz_convert("UTC").tz_localize(None)).to_numpy("datetime64[ns]")
        values = np.array(bars.reindex(columns=list(FEATURES)), dtype=float, order="C")
        values[:, VOLUME] = np.nan_to_num(values[:, VOLUME], nan=0.0)
        estimate = values[:, VOLUME] * values[:, : CLOSE + 1].mean(axis=1)
        values[:, AMOUNT] = np.where(np.isnan(values[:, AMOUNT]), estimate, values[:, AMOUNT])
        if (np.diff(stamps) <= NO_TIME).any():
            raise DataError(f"bars of {symbol!r} are not in ascending time order without repeats; sort them first")
        return cls(symbol, stamps, values, times.tz)

    def step(self) -> np.timedelta64:
        """The usual time from bar to bar (median)."""
        return np.timedelta64(int(np.median(np.diff(self.timestamps).astype(np.int64))), "ns")

    def window(
        self, end: int, context: int, horizon: int, group: str = "", origin: np.datetime64[Any] | None = None
    ) -> Window:
        """The window whose context's last bar is number ``end`` (its cutoff)."""
        bars = len(self.timestamps)
        if not context - 1 <= end < bars - horizon:
            raise DataError(f"series {self.symbol!r} has {bars} bars: no window of {context} + {horizon} ends at {end}")
        past, ahead = slice(end + 1 - context, end + 1), slice(end + 1, end + 1 + horizon)
        truth = self.values[ahead].copy()
        truth.flags.writeable = False
        cut = Context(self.symbol, self.timestamps[past], self.values[past], self.timestamps[ahead], self.zone)
        return Window(cut, truth, group, origin)


BarsInput = pd.DataFrame | Mapping[str, pd.DataFrame | Series]


def as_series(bars: BarsInput) -> dict[str, Series]:
    """Bars by symbol, from a table with or without a ``symbol`` column or from a mapping."""
    if isinstance(bars, pd.DataFrame):
        if "symbol" not in bars.columns:
            return {"": Series.from_frame("", bars)}
        parts = bars.groupby(bars["symbol"].astype(str), sort=True)
        return {str(symbol): Series.from_frame(str(symbol), part) for symbol, part in parts}
    return {
        symbol: table if isinstance(table, Series) else Series.from_frame(symbol, table)
        for symbol, table in bars.items()
    }


def candidate_ends(
    series: Series,
    context: int,
    horizon: int,
    after: np.datetime64[Any] | None,
    embargo: np.timedelta64,
    refused: Refusals,
    max_jump: float = MAX_JUMP,
    before: np.datetime64[Any] | None = None,
) -> npt.NDArray[np.int64]:
    """Bar numbers that can be a cutoff: (N,) ascending.

    The context and the truth lie in one stretch without a pause, jump or broken bar, the first bar to forecast comes
    later than ``after + embargo``, and the last one not later than ``before``.
    """
    times, total = series.timestamps, len(series.timestamps)
    if total < context + horizon:
        refused.add("series too short")
        return np.empty(0, np.int64)
    ends = np.arange(context - 1, total - horizon)
    if after is not None:
        ends = ends[times[ends + 1] > np.datetime64(after).astype("datetime64[ns]") + embargo]
    if before is not None:
        ends = ends[times[ends + horizon] <= np.datetime64(before).astype("datetime64[ns]")]
    moves = np.abs(np.diff(np.log(series.values[:, CLOSE])))

    def keep(reason: str, good: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        refused.add(reason, int((~good).sum()))
        return np.asarray(ends[good])

    def up_to(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """(T + 1,) flagged bars before each; of steps, which belong to their later bar, where one is missing."""
        return np.concatenate([np.zeros(total + 1 - len(flags), np.int64), np.cumsum(flags)])

    for reason, flags in (
        ("pause", np.diff(times) > max(LONGEST_PAUSE, PAUSE_STEPS * series.step())),
        ("jump", moves > max_jump),
        ("inconsistent bar", invalid_bars(series.values) > 0),
    ):
        count, steps = up_to(flags), total - len(flags)
        ends = keep(reason, count[ends + 1 + horizon] == count[ends + 1 - context + steps])
    unchanged = up_to(moves == 0)
    still = unchanged[ends + 1] - unchanged[ends + 2 - context]
    return keep("more than half of the closes unchanged", still <= 0.5 * (context - 1))


def draw_windows(
    bars_by_symbol: Mapping[str, pd.DataFrame | Series],
    context: int,
    horizon: int,
    n: int,
    seed: int,
    *,
    after: np.datetime64[Any] | None = None,
    before: np.datetime64[Any] | None = None,
    embargo: np.timedelta64 = NO_TIME,
    group: str = "",
    max_jump: float = MAX_JUMP,
    refused: Refusals | None = None,
) -> list[Window]:
    """Draw at most ``n`` windows at random, with truths that never overlap within a symbol.

    Per symbol the candidates stand ``horizon`` bars apart from a random phase, so that no bar is judged twice; then
    ``n`` of all candidates are drawn without replacement (longer series give more).

    Args:
        bars_by_symbol: bars tables or :class:`Series`, by symbol.
        context: bars that the forecaster sees; ``horizon``: bars that it must forecast.
        n: windows wanted; fewer are returned where the bars do not give more.
        seed: the draw depends on it and on the bars only.
        after: the first bar to forecast lies later than this (the end of training), by ``embargo`` at least. The
            context may reach back before it.
        before: the last bar to forecast lies not later than this.
        group: written on each window.
        max_jump: windows with a larger close-to-close log move are refused, in the context and in the truth.
        refused: counts what was refused and why.

    Returns:
        Windows in ascending order of symbol and cutoff.
    """
    if context < 3 or horizon < 1 or n < 0:
        raise ConfigError(f"context {context}, horizon {horizon}, n {n}: need context ≥ 3, horizon ≥ 1 and n ≥ 0")
    rng = np.random.default_rng([seed, context, horizon])
    refused = Refusals() if refused is None else refused
    pool: list[tuple[Series, int]] = []
    for _, series in sorted(as_series(bars_by_symbol).items()):
        phase = int(rng.integers(horizon))
        ends = candidate_ends(series, context, horizon, after, embargo, refused, max_jump, before)
        last = -horizon
        for end in (ends[phase:] if len(ends) > phase else ends[:1]).tolist():
            if end - last >= horizon:
                pool.append((series, end))
                last = end
    chosen = np.sort(rng.permutation(len(pool))[:n])
    return [pool[i][0].window(pool[i][1], context, horizon, group) for i in chosen]


def common_cutoffs(series: Iterable[Series], horizon: int, n_windows: int, step: int) -> TimeArray:
    """The last ``n_windows`` cutoffs, ``step`` bars apart, on the time axis that the symbols share.

    Only times that at least half as many symbols have as the busiest time count, so that one symbol with odd hours
    does not shift everybody. Symbols are then judged on the same dates, which is what a cross-section needs.
    """
    times, counts = np.unique(np.concatenate([s.timestamps for s in series]), return_counts=True)
    axis = times[counts >= 0.5 * counts.max()]
    places = len(axis) - 1 - horizon - step * np.arange(n_windows)
    return np.asarray(np.sort(axis[places[places >= 0]]))


def rolling_windows(
    bars: BarsInput,
    context: int,
    horizon: int,
    *,
    n_windows: int | None = None,
    cutoffs: Sequence[Any] | None = None,
    step: int | None = None,
    after: np.datetime64[Any] | None = None,
    embargo: np.timedelta64 = NO_TIME,
    group: str = "",
    max_jump: float = MAX_JUMP,
    refused: Refusals | None = None,
) -> list[Window]:
    """Windows of every symbol at common cutoffs, in order of cutoff and symbol.

    Args:
        bars: a table (with ``symbol`` for several series) or tables by symbol.
        context, horizon: bars seen and bars to forecast.
        n_windows: how many cutoffs, counted back from the end of the shared time axis; or
        cutoffs: the cutoffs themselves. Each symbol's context ends at its last bar at or before the cutoff, if that
            is not more than one usual step older.
        step: bars between cutoffs; by default ``horizon``, so that truths do not overlap.
        after, embargo: the first bar to forecast lies later than ``after + embargo``.
        group, max_jump, refused: as in :func:`draw_windows`.
    """
    if (n_windows is None) == (cutoffs is None):
        raise ConfigError("give either n_windows or cutoffs")
    step = horizon if step is None else step
    if context < 3 or horizon < 1 or step < 1 or (n_windows is not None and n_windows < 1):
        raise ConfigError(f"context {context}, horizon {horizon}, step {step}, n_windows {n_windows}: all too small")
    refused = Refusals() if refused is None else refused
    series = as_series(bars)
    if not series:
        raise DataError("no bars to evaluate on")
    if cutoffs is None:
        dates = common_cutoffs(series.values(), horizon, n_windows or 0, step)
    else:
        dates = np.sort(pd.DatetimeIndex([pd.Timestamp(c) for c in cutoffs]).to_numpy("datetime64[ns]"))
    found = []
    for symbol, one in series.items():
        allowed = set(candidate_ends(one, context, horizon, after, embargo, refused, max_jump).tolist())
        places = np.searchsorted(one.timestamps, dates, side="right") - 1
        for date, place in zip(dates, places.tolist(), strict=True):
            if place < 0 or date - one.timestamps[place] > one.step():
                refused.add("no bar at the cutoff")
            elif place in allowed:
                found.append((date, symbol, one.window(place, context, horizon, group, date)))
    found.sort(key=lambda item: item[:2])
    return [window for _, _, window in found]


def required_windows(
    bars: BarsInput, context: int, horizon: int, *, group: str = "", **how: Any
) -> tuple[list[Window], dict[str, int]]:
    """:func:`rolling_windows`, and what was refused.

    Raises:
        DataError: no window fits; the message says why candidates were refused.
    """
    refused = Refusals()
    found = rolling_windows(bars, context, horizon, group=group, refused=refused, **how)
    if not found:
        market = f"market {group!r}: " if group else ""
        raise DataError(market + refused.message(context, horizon))
    return found, refused.counts

"""Test windows: a context that ends at its cutoff, and the truth that only the judge sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.arrays import MAX_JUMP
from kronos.errors import ConfigError, DataError
from kronos.evaluation.metrics import invalid_bars
from kronos.protocol import AMOUNT, CLOSE, FEATURES, VOLUME, Context, FloatArray, TimeArray, traded_value

#: A longer pause than this ends a series, whatever its bar size: weekends and holidays stay inside. Training has a
#: stricter rule (96 hours, 10 steps; ``kronos.bars.arrays``). Both stay: by that one kronos-nano was trained, and by
#: this one the published figures were made.
LONGEST_PAUSE = np.timedelta64(108, "h")
#: ... unless the bars themselves are long: then this many steps.
PAUSE_STEPS = 12
NO_TIME = np.timedelta64(0, "ns")


@dataclass(frozen=True, eq=False)
class Window:
    """One test case."""

    context: Context  # what forecasters see
    truth: FloatArray  # (H, 6) float64, the bars after the cutoff, read-only
    group: str = ""  # where it comes from (a file, a market); reports break down by it
    origin: np.datetime64[Any] | None = None  # cutoff of all symbols of a date; by default the context's last bar

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

    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ", ".join(f"{reason} ({count})" for reason, count in self.counts.items() if count)

    def message(self, context: int, horizon: int) -> str:
        """Why there is nothing to evaluate, and what to do."""
        refused = f"; left out: {self}" if any(self.counts.values()) else ""
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
        if missing := [name for name in (*FEATURES[:4], "timestamp") if name not in bars.columns]:
            raise DataError(f"bars of {symbol!r} lack the column(s) {missing}")
        times = pd.DatetimeIndex(bars["timestamp"])
        stamps = (times if times.tz is None else times.tz_convert("UTC").tz_localize(None)).to_numpy("datetime64[ns]")
        values = np.array(bars.reindex(columns=list(FEATURES)), dtype=float, order="C")
        values[:, VOLUME] = np.nan_to_num(values[:, VOLUME], nan=0.0)
        values[:, AMOUNT] = np.where(np.isnan(values[:, AMOUNT]), traded_value(values), values[:, AMOUNT])
        if (np.diff(stamps) <= NO_TIME).any():
            raise DataError(f"bars of {symbol!r} are not in ascending time order without repeats; sort them first")
        return cls(symbol, stamps, values, times.tz)

    def local(self) -> pd.DatetimeIndex:
        """The times on the exchange's clock."""
        index = pd.DatetimeIndex(self.timestamps)
        return index if self.zone is None else index.tz_localize("UTC").tz_convert(self.zone)

    def step(self) -> np.timedelta64:
        """The usual time from bar to bar (median); of a single bar none."""
        if len(self.timestamps) < 2:
            return NO_TIME
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
        bars = dict(list(bars.groupby(bars["symbol"].astype(str)))) if "symbol" in bars.columns else {"": bars}
    return {
        symbol: table if isinstance(table, Series) else Series.from_frame(symbol, table)
        for symbol, table in bars.items()
    }


def some_symbols(series: Mapping[str, Series], most: int | None, seed: int) -> dict[str, Series]:
    """At most this many symbols, drawn by the seed, in the order of their names."""
    names = sorted(series)
    if most is not None and len(names) > most:
        rng = np.random.default_rng([seed, len(names)])
        names = sorted(rng.choice(names, size=most, replace=False).tolist())
    return {name: series[name] for name in names}


def candidate_ends(
    series: Series,
    context: int,
    horizon: int,
    after: np.datetime64[Any] | None,
    embargo: np.timedelta64,
    refused: Refusals,
    before: np.datetime64[Any] | None = None,
    among: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """Bar numbers that can be a cutoff: (N,) ascending, of all or ``among`` those given; the others are counted.

    The context and the truth lie in one stretch without a pause, jump or broken bar, the first bar to forecast comes
    later than ``after + embargo``, and the last one not later than ``before``.
    """
    times, total = series.timestamps, len(series.timestamps)
    if total < context + horizon:
        refused.counts["series too short"] += 1 if among is None else len(among)
        return np.empty(0, np.int64)
    ends = np.arange(context - 1, total - horizon)
    if among is not None:
        inside = among[(among >= context - 1) & (among < total - horizon)]
        refused.counts["too few bars around the cutoff"] += len(among) - len(inside)
        ends = inside
    if after is not None:
        known = len(ends)
        ends = ends[times[ends + 1] > np.datetime64(after).astype("datetime64[ns]") + embargo]
        refused.counts["not later than the date asked for"] += known - len(ends)
    if before is not None:
        ends = ends[times[ends + horizon] <= np.datetime64(before).astype("datetime64[ns]")]
    moves = np.abs(np.diff(np.log(series.values[:, CLOSE])))

    def flagged(flags: npt.NDArray[np.bool_], last: Any) -> Any:
        """How many flags lie between the first bar of each context and bar ``last``; steps belong to the later bar."""
        steps = total - len(flags)  # 1 for flags of steps, which have one flag less
        counted = np.concatenate([np.zeros(1 + steps, np.int64), np.cumsum(flags)])
        return counted[last + 1] - counted[ends + 1 - context + steps]

    for reason, flags, most, ahead in (
        ("pause", np.diff(times) > max(LONGEST_PAUSE, PAUSE_STEPS * series.step()), 0, horizon),
        ("jump", moves > MAX_JUMP, 0, horizon),
        ("inconsistent bar", invalid_bars(series.values) > 0, 0, horizon),
        ("more than half of the closes unchanged", moves == 0, 0.5 * (context - 1), 0),
    ):
        good = flagged(flags, ends + ahead) <= most
        refused.counts[reason] += int((~good).sum())
        ends = ends[good]
    return ends


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
        refused: counts what was refused and why.

    Returns:
        Windows in ascending order of symbol and cutoff.
    """
    if context < 3 or horizon < 1 or n < 0:
        raise ConfigError(f"context {context}, horizon {horizon}, n {n}: need context ≥ 3, horizon ≥ 1 and n ≥ 0")
    rng, refused = np.random.default_rng([seed, context, horizon]), refused or Refusals()
    pool: list[tuple[Series, int]] = []
    for _, series in sorted(as_series(bars_by_symbol).items()):
        phase, last = int(rng.integers(horizon)), -horizon
        ends = candidate_ends(series, context, horizon, after, embargo, refused, before)
        for end in (ends[phase:] if len(ends) > phase else ends[:1]).tolist():
            if end - last >= horizon:
                pool.append((series, end))
                last = end
    chosen = np.sort(rng.permutation(len(pool))[:n])
    return [pool[i][0].window(pool[i][1], context, horizon, group) for i in chosen]


def shared_axis(series: Iterable[Series]) -> TimeArray:
    """The times that at least half as many symbols have as the busiest time."""
    times, counts = np.unique(np.concatenate([s.timestamps for s in series]), return_counts=True)
    return np.asarray(times[counts >= 0.5 * counts.max()])


def most_cutoffs(
    series: Iterable[Series], context: int, horizon: int, step: int, after: np.datetime64[Any] | None = None
) -> int:
    """How many of :func:`common_cutoffs` have a whole context and forecast bars later than ``after`` alone."""
    axis = shared_axis(series)
    first = context - 1
    if after is not None:
        first = max(first, int(np.searchsorted(axis, np.datetime64(after).astype("datetime64[ns]"), side="right")) - 1)
    return max(0, (len(axis) - 1 - horizon - first) // step + 1)


def common_cutoffs(series: Iterable[Series], horizon: int, n_windows: int, step: int) -> TimeArray:
    """The last ``n_windows`` cutoffs, ``step`` bars apart, on the time axis that the symbols share.

    Only times that at least half as many symbols have as the busiest time count, so that one symbol with odd hours
    does not shift everybody. Symbols are then judged on the same dates, which is what a cross-section needs.
    """
    axis = shared_axis(series)
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
        group, refused: as in :func:`draw_windows`.
    """
    if (n_windows is None) == (cutoffs is None):
        raise ConfigError("give either n_windows or cutoffs")
    step, refused, series = horizon if step is None else step, refused or Refusals(), as_series(bars)
    if context < 3 or horizon < 1 or step < 1 or (n_windows is not None and n_windows < 1):
        raise ConfigError(f"context {context}, horizon {horizon}, step {step}, n_windows {n_windows}: all too small")
    if not series:
        raise DataError("no bars to evaluate on")
    if cutoffs is None:
        dates = common_cutoffs(series.values(), horizon, n_windows or 0, step)
    else:
        dates = np.sort(pd.DatetimeIndex([pd.Timestamp(c) for c in cutoffs]).to_numpy("datetime64[ns]"))
    found = []
    for symbol, one in series.items():
        places = np.searchsorted(one.timestamps, dates, side="right") - 1
        there = places >= 0
        there[there] = dates[there] - one.timestamps[places[there]] <= one.step()
        refused.counts["no bar at the cutoff"] += int((~there).sum())
        allowed = set(candidate_ends(one, context, horizon, after, embargo, refused, among=places[there]).tolist())
        for date, place in zip(dates[there], places[there].tolist(), strict=True):
            if place in allowed:
                found.append((date, symbol, one.window(place, context, horizon, group, date)))
    found.sort(key=lambda item: item[:2])
    return [window for _, _, window in found]


def required_windows(
    bars: BarsInput, context: int, horizon: int, *, group: str = "", **how: Any
) -> tuple[list[Window], dict[str, int]]:
    """:func:`rolling_windows`, and what was refused; DataError: no window fits, and why candidates were refused."""
    refused = Refusals()
    found = rolling_windows(bars, context, horizon, group=group, refused=refused, **how)
    if not found:
        market = f"market {group!r}: " if group else ""
        raise DataError(market + refused.message(context, horizon))
    return found, dict(refused.counts)

"""A forecast: sampled futures of one series, the views a reader takes of them, computed on demand, and its files.

The views of bars (``mean``, ``median``, ``quantile``) work on each column alone, and their bars are valid all the
same: where low ≤ open, close ≤ high holds on every path, it holds for the mean and for each quantile, because
averages and order statistics keep the order of two columns of which one lies below the other on every path.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.year import BarsAYear
from kronos.errors import ConfigError, FewPathsWarning
from kronos.inference import views
from kronos.inference.certainty import ENOUGH_PATHS, asks_spread, count_distinct, few_paths_note, hit_error
from kronos.inference.export import DEFAULT_LEVELS, check_levels, summary
from kronos.inference.layouts import lay_out, save
from kronos.protocol import CLOSE, FEATURES, are_mirrors
from kronos.spec import Layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Forecast:
    """Sample paths of the next H bars of one series.

    Quantiles other than the median, chances and risk measures warn (``FewPathsWarning``) where fewer than
    ``ENOUGH_PATHS`` = 20 of the paths are distinct; files then hold nothing in their place.

    Attributes:
        distinct_paths: how many of the paths differ from all others; 1 where sampling was greedy.

    Args:
        samples: (S, H, 6) sample paths in the order of ``columns``, in the units of the context; kept as a
            read-only float32 array.
        timestamps: (H,) the time of each future bar, increasing.
        metadata: where the numbers come from: model, revision, seed, settings, cutoff, calendar …
        history: the last bars of the context (a bars table), for charts and for the last close.
        symbol: the name of the series.
        columns: names of the six features.
        made_at: when it was made, in UTC; None: now.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    samples: npt.NDArray[np.float32]
    timestamps: pd.DatetimeIndex
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    symbol: str | None = None
    columns: tuple[str, ...] = FEATURES
    made_at: pd.Timestamp | None = None
    distinct_paths: int = field(init=False)

    def __post_init__(self) -> None:
        samples = np.array(self.samples, dtype=np.float32)
        times = pd.DatetimeIndex(self.timestamps, name="timestamp")
        if samples.ndim != 3 or 0 in samples.shape or samples.shape[2] != len(self.columns):
            raise ConfigError(
                f"A forecast's samples have the shape (paths, bars, {len(self.columns)}), none of them 0; "
                f"these have {samples.shape}."
            )
        if len(times) != samples.shape[1]:
            raise ConfigError(
                f"A forecast needs one timestamp per bar: {samples.shape[1]} bars came with {len(times)}."
            )
        samples.setflags(write=False)
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "timestamps", times)
        object.__setattr__(self, "made_at", self.made_at or pd.Timestamp.now("UTC").floor("s"))
        object.__setattr__(self, "distinct_paths", count_distinct(samples))

    def __repr__(self) -> str:
        name, first, last = f"{self.symbol}, " if self.symbol else "", self.timestamps[0], self.timestamps[-1]
        paths = f"{self.num_samples} paths, model {self.metadata.get('model', 'unknown')}"
        return f"Forecast({name}{self.horizon} bars {first} … {last}, {paths})"

    # -- what it holds ------------------------------------------------------------------------------------

    @property
    def num_samples(self) -> int:
        """S, the number of sample paths."""
        return int(self.samples.shape[0])

    @property
    def horizon(self) -> int:
        """H, the number of bars ahead."""
        return int(self.samples.shape[1])

    @property
    def mirrored(self) -> bool:
        """Whether every path is followed by its mirror about the last close, so that no direction is told."""
        if self.history is None or self.history.empty:
            return False
        with np.errstate(all="ignore"):  # prices of paths that somebody else made
            return are_mirrors(np.log(self.close() / self.last_close))

    @property
    def last_close(self) -> float:
        """The last close of the context, from which moves and losses are counted.

        Raises:
            ConfigError: the forecast carries no history.
        """
        if self.history is None or self.history.empty:
            raise ConfigError(
                "This forecast carries no history, so its last close is unknown. "
                "Pass history= when building it, or reference= to the view."
            )
        return float(self.history["close"].iloc[-1])

    def close(self) -> Floats:
        """(S, H) closing prices in float64, the column most views are about."""
        return self.samples[:, :, CLOSE].astype(np.float64)

    # -- bars ---------------------------------------------------------------------------------------------

    def mean(self) -> pd.DataFrame:
        """The mean bar of each step: rows by timestamp, one column a feature. Each row is a valid bar."""
        return pd.DataFrame(self.samples.mean(axis=0, dtype=np.float64), self.timestamps, list(self.columns))

    def median(self) -> pd.DataFrame:
        """The median of each column at each step: rows by timestamp. Each row is a valid bar."""
        return self.quantile(0.5)

    def median_error(self) -> pd.DataFrame:
        """Sampling error of ``median()``, of the same shape: half the distance of the values √S ranks apart about it.

        Another seed moves the median by about so much; four times the paths halve it. Of mirrored paths, as many ranks
        apart as the pairs tell: none for open and close, whose median is the last close whatever is drawn. Of too few
        distinct paths, which cannot tell it, NaN.
        """
        self._warn_if_few()
        if self.distinct_paths < ENOUGH_PATHS:
            return pd.DataFrame(np.nan, self.timestamps, list(self.columns))
        if not self.mirrored:
            off = 0.5 / np.sqrt(self.num_samples)
            low, high = self._quantiles([0.5 - off, 0.5 + off])
            return pd.DataFrame((high - low) / 2, self.timestamps, list(self.columns))
        ordered, middle = np.sort(self.samples, axis=0).astype(np.float64), (self.num_samples - 1) / 2
        reach = hit_error(self.samples < np.median(self.samples, axis=0), True) * (self.num_samples - 1)
        low, high = (_at_ranks(ordered, middle + side * reach) for side in (-1, 1))
        return pd.DataFrame((high - low) / 2, self.timestamps, list(self.columns))

    @overload
    def quantile(self, levels: float) -> pd.DataFrame: ...
    @overload
    def quantile(self, levels: Sequence[float] = ...) -> pd.DataFrame: ...
    def quantile(self, levels: float | Sequence[float] = DEFAULT_LEVELS) -> pd.DataFrame:
        """Quantiles over the paths, of each column and step alone, interpolated linearly; each row is a valid bar.

        Returns:
            One level in [0, 1]: rows by ``timestamp``. Several: rows by ``(timestamp, quantile)`` in the order given,
            so ``q.xs(0.9, level="quantile")`` is one band and ``q["close"].unstack()`` the fan of the close.

        Raises:
            ConfigError: a level outside [0, 1], or none.
        """
        one = isinstance(levels, int | float)
        asked = [levels] if isinstance(levels, int | float) else levels
        self._warn_if_few(asked)
        values = self._quantiles(asked)  # (L, H, 6)
        if one:
            return pd.DataFrame(values[0], self.timestamps, list(self.columns))
        rows = pd.MultiIndex.from_product([self.timestamps, list(asked)], names=["timestamp", "quantile"])
        flat = values.transpose(1, 0, 2).reshape(len(rows), len(self.columns))
        return pd.DataFrame(flat, index=rows, columns=list(self.columns))

    def quantile_array(self, levels: Sequence[float]) -> Floats:
        """The numbers of ``quantile`` as a plain (L, H, 6) array."""
        self._warn_if_few(levels)
        return self._quantiles(levels)

    def _quantiles(self, levels: Sequence[float]) -> Floats:
        check_levels(levels)
        ordered = np.sort(self.samples, axis=0).astype(np.float64)
        position = np.asarray(levels, dtype=np.float64) * (self.num_samples - 1)
        below = np.floor(position).astype(np.intp)
        above = np.minimum(below + 1, self.num_samples - 1)
        weight = (position - below)[:, None, None]
        # numpy's own a + (b - a) t is not monotone in a once rounded; this form is, so a quantile of the high can
        # never slip below the same quantile of the close.
        return np.asarray(ordered[below] * (1.0 - weight) + ordered[above] * weight)

    # -- chances and risk ---------------------------------------------------------------------------------

    @overload
    def prob_up(self, reference: float | None = ..., *, error: Literal[False] = ...) -> pd.Series[float]: ...
    @overload
    def prob_up(self, reference: float | None = ..., *, error: Literal[True]) -> pd.DataFrame: ...
    def prob_up(self, reference: float | None = None, *, error: bool = False) -> pd.Series[float] | pd.DataFrame:
        """Share of the paths that close above a reference price, by timestamp. None: the last close of the context.

        Args:
            error: a table of two columns instead, ``prob_up`` and ``error``, the standard error of drawing no more
                paths than these: .58 ± .05 of 100 paths. It says nothing about the model's own error. Of mirrored
                paths one half are above the last close by construction, without any error.
        """
        price = self.last_close if reference is None else float(reference)
        if not (np.isfinite(price) and price > 0):
            raise ConfigError(f"The reference price must be a positive number; it is {price}.")
        self._warn_if_few()
        above = self.close() > price
        share = pd.Series(above.mean(axis=0), index=self.timestamps, name="prob_up")
        return pd.DataFrame({"prob_up": share, "error": hit_error(above, self.mirrored)}) if error else share

    def value_at_risk(self, level: float = 0.95, step: int | None = None) -> float:
        """The loss that is not exceeded with probability ``level``, for a holder from the last close.

        Args:
            step: bars ahead, 1 … H; the whole horizon when None.

        Returns:
            A fraction of the last close: 0.03 is a loss of three per cent. Negative where even that outcome gains.
        """
        losses = self._losses(level, step)
        self._warn_if_few()
        return float(np.quantile(losses, level))

    def expected_shortfall(self, level: float = 0.95, step: int | None = None) -> float:
        """The mean loss of the paths at or beyond ``value_at_risk``; arguments and units are the same."""
        losses = self._losses(level, step)
        self._warn_if_few()
        return float(losses[losses >= np.quantile(losses, level)].mean())

    def realized_volatility(self) -> pd.DataFrame:
        """Realised volatility of each path from the last close up to each step, not annualised.

        Returns:
            Rows by timestamp, one column a path: sqrt(Σ r²) over the close-to-close log returns so far.
        """
        start = np.full((self.num_samples, 1), self.last_close)
        returns = np.diff(np.log(np.concatenate([start, self.close()], axis=1)), axis=1)
        paths = pd.RangeIndex(self.num_samples, name="path")
        return pd.DataFrame(np.sqrt(np.cumsum(returns**2, axis=1)).T, index=self.timestamps, columns=paths)

    @property
    def bars_a_year(self) -> BarsAYear | None:
        """How many bars a year has by their calendar, and how that was counted; None: their size is unknown."""
        return views.year_of(self)

    def volatility(self, annualized: bool = True, level: float = 0.9) -> pd.DataFrame:
        """The cone of volatility: what the paths realise from the last close up to each step, by timestamp.

        Args:
            annualized: as a year's, by ``bars_a_year``; False: over the bars so far, as ``realized_volatility``.
            level: the share of the paths between ``lower`` and ``upper``.

        Returns:
            Columns ``expected`` (root mean square over the paths, which compares to what a model of the variance
            says), ``median, lower, upper`` of the paths, and beside them ``context``, the realised volatility of the
            context, and ``har``, what a pooled HAR model expects after it. Fractions: 0.2 is twenty per cent.

        Raises:
            ConfigError: a level outside (0, 1), no history, or to annualise bars of unknown size.
        """
        found = views.volatility(self, annualized, level)
        self._warn_if_few()
        return found

    @overload
    def prob_touch(self, price: float, by: None = ..., *, error: Literal[False] = ...) -> pd.Series[float]: ...
    @overload
    def prob_touch(self, price: float, by: None = ..., *, error: Literal[True]) -> pd.DataFrame: ...
    @overload
    def prob_touch(self, price: float, by: int | str | pd.Timestamp, *, error: Literal[False] = ...) -> float: ...
    @overload
    def prob_touch(self, price: float, by: int | str | pd.Timestamp, *, error: Literal[True]) -> pd.Series[float]: ...
    def prob_touch(
        self, price: float, by: int | str | pd.Timestamp | None = None, *, error: bool = False
    ) -> float | pd.Series[float] | pd.DataFrame:
        """Chance that a price is touched by the end of each bar: by a high from below, by a low from above.

        Args:
            by: the chance by then alone: bars ahead, 1 … H, or a time; a date takes in its whole day.
            error: beside each chance ``error``, its standard error of drawing no more paths than these.

        Raises:
            ConfigError: no price, the last close itself, or a ``by`` outside the horizon.
        """
        found = views.prob_touch(self, price)
        row = None if by is None else views.bars_by(self, by) - 1
        self._warn_if_few()
        if row is not None:
            return found.iloc[row] if error else float(found["prob_touch"].iloc[row])
        return found if error else found["prob_touch"]

    def first_touch(self, take_profit: float, stop_loss: float) -> pd.DataFrame:
        """Chances of which of two prices is touched first within the horizon, and when.

        The last close lies between them; a take profit below it is that of a short position. A bar that opens beyond
        a price touched it at its open. One that reaches both later does not say which was first: ``both``.

        Returns:
            Rows ``profit, loss, both``, ``either`` (their sum) and ``neither``. Columns ``chance`` with its sampling
            ``error``; of the paths that end so, the mean number of ``bars`` with its ``bars_error``, and ``time``,
            the mean time from the last bar of the context by the calendar, which counts nights and weekends.

        Raises:
            ConfigError: no prices, or the last close does not lie between them.
        """
        found = views.first_touches(self, take_profit, stop_loss)
        self._warn_if_few()
        return found

    # -- out of here --------------------------------------------------------------------------------------

    def to_frame(
        self, layout: Layout = "paths", *, quantile_levels: Sequence[float] = DEFAULT_LEVELS, column: str = "close"
    ) -> pd.DataFrame:
        """The forecast as the table that another tool takes.

        Args:
            layout: ``paths``: every path as long rows, path after path, ``timestamp, path`` and the six features.
                ``summary``: one row a bar, as in the files. The others are those of
                :func:`kronos.inference.layouts.forecasts_to_frame`, which takes many forecasts too.
            quantile_levels: of ``summary``, ``nixtla`` and ``record``.
            column: which feature the layouts of one number a bar are about.

        Raises:
            ConfigError: an unknown layout or column, a level outside [0, 1], or times that the layout cannot write.
        """
        if layout == "paths":
            frame = pd.DataFrame(self.samples.reshape(-1, len(self.columns)), columns=list(self.columns))
            frame.insert(0, "timestamp", self.timestamps[np.tile(np.arange(self.horizon), self.num_samples)])
            frame.insert(1, "path", np.repeat(np.arange(self.num_samples), self.horizon))
            return frame
        if layout == "summary":
            return summary(self, quantile_levels)
        return lay_out([self], layout, quantile_levels, column)

    def plot(self) -> go.Figure:
        """An interactive chart: candles of the history, median path, 50/80/90 % fan, volume."""
        from kronos.inference.charts import Scene, figure

        return figure(Scene(self))

    def save(
        self,
        path: str | Path,
        *,
        quantile_levels: Sequence[float] = DEFAULT_LEVELS,
        paths: bool = False,
        layout: Layout | None = None,
    ) -> Path:
        """Write the forecast; the ending chooses the form.

        ``.csv`` and ``.parquet`` hold one row a bar, as :func:`summary` gives them: ``timestamp, prob_up`` with its
        error, then for each feature its mean and quantiles (``close_mean, close_q0.05 …``), empty where too few
        distinct paths cannot tell; with ``paths`` the long table of ``to_frame`` instead.
        ``.json`` holds one document (with ``paths`` also every path), ``.html`` and ``.png`` the chart.
        With ``layout`` it holds what ``to_frame(layout)`` gives: a table as ``.csv``, ``.parquet`` or ``.json``, a
        record as ``.json``; of ``freqtrade`` and ``backtesting`` the path is a folder, with a file of bars a path.
        The file, whose path is returned, appears whole or not at all.

        Raises:
            ConfigError: an unknown ending or layout, a missing folder, or a level outside [0, 1].
            MissingExtraError: ``.png`` without matplotlib.
        """
        return save(self, path, quantile_levels, paths=paths, layout=layout)

    def _warn_if_few(self, levels: Sequence[float] = ()) -> None:
        """Warns where a view is no estimate: of anything but means and medians, from too few distinct paths."""
        if self.distinct_paths < ENOUGH_PATHS and (not levels or asks_spread(levels)):
            warnings.warn(few_paths_note(self.distinct_paths), FewPathsWarning, stacklevel=3)

    def _losses(self, level: float, step: int | None) -> Floats:
        """(S,) losses at a step as fractions of the last close."""
        if not 0 < level < 1:
            raise ConfigError(f"The level of a risk measure lies between 0 and 1; it is {level}.")
        bar = self.horizon if step is None else step
        if not 1 <= bar <= self.horizon:
            raise ConfigError(f"step counts bars ahead, from 1 to {self.horizon}; it is {bar}.")
        return np.asarray(1.0 - self.close()[:, bar - 1] / self.last_close)


def _at_ranks(ordered: Floats, ranks: Floats) -> Floats:
    """(H, F) values between the sorted paths (S, H, F) at the ranks (H, F), which may lie between two whole ones."""
    below = np.clip(np.floor(ranks).astype(np.intp), 0, len(ordered) - 1)
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (below, above))
    return np.asarray(low + (high - low) * np.clip(ranks - below, 0.0, 1.0))

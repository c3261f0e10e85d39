"""How sure is a number? Intervals and tests that know that neighbouring dates and markets move together.

The autocovariances of Newey and West and Holm's correction are those of statsmodels. The bootstraps are written here:
``arch.bootstrap.CircularBlockBootstrap`` draws the same blocks from the same stream (a test compares them) in a Python
loop, 5 to 19 times as slow at 400 and 60 dates, and knows no bootstrap of clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.errors import MissingExtraError
from kronos.evaluation.signals import correlation

FloatArray = npt.NDArray[np.float64]
ArrayLike = npt.ArrayLike


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def cluster_bootstrap(
    clusters: npt.NDArray[Any],
    columns: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Expanded percentile interval of a function of means, resampling whole clusters.

    The plain percentile interval is too short by √((G - 1) / G) and by the difference between normal and Student's
    tails; with G clusters the quantiles are taken further out to make up for both (Hesterberg 2015).

    Args:
        clusters: (N,) label of each observation; observations of one label are kept together.
        columns: (N, K) observations. NaN rows are left out.
        statistic: maps column means (..., K) to (...,), e.g. ``lambda m: m[..., 0] / m[..., 1]`` for a ratio of
            mean scores.
        draws: bootstrap repetitions; ``level``: of the interval; ``seed``: of the resampling.

    Returns:
        The statistic of the data and its interval. With fewer than five clusters the interval is NaN: there is
        nothing to resample.
    """
    x = np.asarray(columns, float)
    x = x[:, None] if x.ndim == 1 else x
    keep = np.isfinite(x).all(axis=1)
    x, labels = x[keep], np.asarray(clusters)[keep]
    if len(x) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    value = float(statistic(x.mean(axis=0)))
    names, member = np.unique(labels.astype(str), return_inverse=True)
    if len(names) < 5:
        return Estimate(value, float("nan"), float("nan"))
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, member, x)
    sizes = np.bincount(member, minlength=len(names)).astype(float)
    rng = np.random.default_rng([seed, len(names)])
    weights = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=draws).astype(float)
    means = (weights @ sums) / (weights @ sizes)[:, None]
    tail = _expanded_tail(level, len(names))
    low, high = np.quantile(statistic(means), [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


def _expanded_tail(level: float, units: int) -> float:
    """The tail probability at which a percentile interval from so many units holds its level."""
    stats = _library("scipy.stats")
    reach = stats.t.isf((1.0 - level) / 2.0, units - 1) * np.sqrt(units / (units - 1))
    return float(stats.norm.sf(reach))


def ratio_of_means(means: FloatArray) -> FloatArray:
    """First column mean over second column mean: a statistic for :func:`cluster_bootstrap`."""
    return np.asarray(means[..., 0] / means[..., 1])


def first_mean(means: FloatArray) -> FloatArray:
    """The first column mean: a statistic for :func:`cluster_bootstrap`."""
    return np.asarray(means[..., 0])


def time_blocks(cutoffs: npt.NDArray[np.datetime64], spans: npt.NDArray[np.timedelta64]) -> npt.NDArray[np.str_]:
    """(N,) labels of blocks of time that are at least as long as what is forecast.

    A cutoff falls into the block number ``floor(cutoff / length)``, length = the horizon's span rounded up to
    whole days: windows whose truths overlap in time share a block or lie in neighbouring ones.
    """
    day = np.timedelta64(1, "D").astype("timedelta64[ns]").astype(np.int64)
    length = np.maximum(1, -(-spans.astype("timedelta64[ns]").astype(np.int64) // day))
    number = cutoffs.astype("datetime64[ns]").astype(np.int64) // (length * day)
    return np.array([f"{size}d:{index}" for size, index in zip(length, number, strict=True)], dtype=str)


@dataclass(frozen=True)
class MeanTest:
    """A mean with its heteroscedasticity- and autocorrelation-robust test against zero."""

    mean: float
    error: float
    t: float
    p: float
    lags: int
    n: int


def newey_west(values: ArrayLike, lags: int | None = None) -> MeanTest:
    """Mean of a time series with its Newey–West (1987) standard error and fixed-b inference.

    ``S = γ0 + 2 Σ_{l ≤ L} (1 - l / (L + 1)) γl`` with γl = (1/T) Σ e[t] e[t-l]; the error is √(S / T). Treating S as
    known rejects far too often at the few dates that evaluations have, so t is divided by cv(b) / 1.96, where
    cv(b) = 1.96 + 2.9694 b + .416 b² - .5324 b³ and b = (L + 1) / T (Kiefer and Vogelsang 2005, table 1, Bartlett,
    97.5 %), before the two-sided p-value is read from Student's t with T - 1 degrees of freedom.

    Args:
        values: (T,) in time order; NaN are left out.
        lags: L; by default ⌈1.3 √T⌉ - 1 (Lazarus, Lewis, Stock and Watson 2018). Give at least the number of
            neighbours whose outcomes overlap.
    """
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    size = len(x)
    if size < 3:
        nan = float("nan")
        return MeanTest(float(x.mean()) if size else nan, nan, nan, nan, 0, size)
    order = min(automatic_lags(size) if lags is None else lags, size - 2)
    mean = float(x.mean())
    hac = _library("statsmodels.stats.sandwich_covariance")
    summed = hac.S_hac_simple((x - mean)[:, None], nlags=order).item()  # of Bartlett-weighted autocovariances, times T
    error = float(np.sqrt(max(summed, 0.0)) / size)
    t = _ratio(mean, error)
    return MeanTest(mean, error, t, _two_sided(t / _fixed_b(order, size), size - 1), order, size)


def automatic_lags(size: int) -> int:
    """⌈1.3 √T⌉ - 1."""
    return max(0, int(np.ceil(1.3 * np.sqrt(size))) - 1)


def _fixed_b(lags: int, size: int) -> float:
    """How much wider the t value's law is than Student's; 1 without lags, where the variance is the plain one."""
    b = (lags + 1) / size
    return 1.0 if lags == 0 else (1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3) / 1.96


def _ratio(mean: float, error: float) -> float:
    """t; infinite where every observation is the same and not zero, NaN where all are zero."""
    if error > 0:
        return mean / error
    return float(np.copysign(np.inf, mean)) if mean else float("nan")


def _two_sided(t: float, degrees: int) -> float:
    return float(2.0 * _library("scipy.stats").t.sf(abs(t), degrees))


def _library(module: str) -> Any:
    """A module of scipy or statsmodels."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], "eval", "Telling how sure a figure is") from error


def diebold_mariano(loss: ArrayLike, other: ArrayLike, overlap: int = 1) -> MeanTest:
    """Diebold–Mariano (1995) test of equal expected loss: :func:`newey_west` on ``loss - other``.

    A negative mean says that the first is better.

    Args:
        loss, other: (T,) losses on the same dates, in time order. Average over symbols on a date first: names that
            move together are not independent evidence.
        overlap: how many consecutive dates share a part of their outcomes (1: none). Above 1, at least
            2 · overlap - 1 lags are used, so that Bartlett's weights do not halve what is known to be there.
    """
    difference = np.asarray(loss, float) - np.asarray(other, float)
    difference = difference[np.isfinite(difference)]
    wanted = 2 * overlap - 1 if overlap > 1 else 0
    return newey_west(difference, max(wanted, automatic_lags(len(difference))))


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p-values, in the order given; NaN stay NaN and do not count.

    Reject where the result is below the level: the chance of any false rejection stays below it, whatever the
    dependence between the tests.
    """
    p = np.asarray(p_values, float)
    adjusted, valid = np.full(p.shape, np.nan), np.isfinite(p)
    if valid.any():
        adjusted[valid] = _library("statsmodels.stats.multitest").multipletests(p[valid], method="holm")[1]
    return adjusted


def block_bootstrap(
    values: ArrayLike, block: int, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Expanded percentile interval of the mean of a time series, circular blocks (Politis and Romano 1992).

    Args:
        values: (T,) in time order; NaN are left out.
        block: consecutive observations kept together; at least the overlap of their outcomes.
    """
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    size = len(x)
    nan = float("nan")
    if size == 0:
        return Estimate(nan, nan, nan)
    block = max(1, min(block, size))
    if size < 2 * block or size < 5:
        return Estimate(float(x.mean()), nan, nan)
    rng = np.random.default_rng([seed, size, block])
    count = -(-size // block)
    starts = rng.integers(size, size=(draws, count))
    places = (starts[..., None] + np.arange(block)) % size
    means = x[places.reshape(draws, -1)[:, :size]].mean(axis=1)
    tail = _expanded_tail(level, count)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(float(x.mean()), float(low), float(high))


def verdict(name: str, difference: Estimate, adjusted_p: float, *, lower_is_better: bool = True) -> str:
    """The comparison in words: "better than X", "worse than X" or "no edge shown over X".

    A side is taken only if the adjusted p-value is below .05 *and* the bootstrap interval leaves zero out.

    Args:
        name: the baseline; ``difference``: ours minus theirs; ``adjusted_p``: after Holm's correction.
    """
    clear = np.isfinite(adjusted_p) and adjusted_p < 0.05 and (difference.low > 0 or difference.high < 0)
    if not clear:
        return f"no edge shown over {name}"
    return f"{'better' if (difference.value < 0) == lower_is_better else 'worse'} than {name}"


def cluster_test(clusters: npt.NDArray[Any], values: ArrayLike) -> MeanTest:
    """Mean of observations with its cluster-robust test against zero.

    ``error² = G / (G - 1) · Σ_g (Σ_{i in g} (x_i - mean))² / N²`` over G clusters; Student's t with G - 1 degrees of
    freedom. ``n`` in the result is G. For windows of many markets, where "the next date" means nothing.
    """
    x = np.asarray(values, float)
    keep = np.isfinite(x)
    x, labels = x[keep], np.asarray(clusters)[keep].astype(str)
    nan = float("nan")
    if len(x) == 0:
        return MeanTest(nan, nan, nan, nan, 0, 0)
    names, member = np.unique(labels, return_inverse=True)
    count, mean = len(names), float(x.mean())
    if count < 5:
        return MeanTest(mean, nan, nan, nan, 0, count)
    sums = np.bincount(member, weights=x - mean, minlength=count)
    error = float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(x))
    t = _ratio(mean, error)
    return MeanTest(mean, error, t, _two_sided(t, count - 1), 0, count)


@dataclass(frozen=True, eq=False)
class Means:
    """Means over the windows of one forecaster, in one market or over all of them.

    Args:
        labels: (N,) cluster of each window, see ``summary.cluster_labels``; the bootstrap draws whole clusters.
        dates: (N,) common cutoff of each window.
        span: from a cutoff to its last step; dates nearer than this share a part of their truths.
        pooled: several markets, where "the next date" means nothing: errors are cluster-robust then. Otherwise
            windows are averaged over the symbols of a date, and the series of dates gets Newey–West errors.
    """

    labels: npt.NDArray[Any]
    dates: npt.NDArray[np.datetime64]
    span: Any
    pooled: bool = False

    def of(self, values: Any, null: float = 0.0) -> dict[str, float]:
        """``value``, ``low``, ``high`` (95 %), ``error`` (standard error) and ``t`` of the mean against ``null``."""
        x = np.asarray(values, dtype=float)
        estimate, test = cluster_bootstrap(self.labels, x, first_mean), self._test(x - null)
        return {**estimate.as_dict(), "error": test.error, "t": test.t}

    def function(self, columns: Any, statistic: Callable[[FloatArray], FloatArray]) -> dict[str, float]:
        """``value``, ``low`` and ``high`` of a function of column means."""
        return cluster_bootstrap(self.labels, columns, statistic).as_dict()

    def correlation(self, x: Any, y: Any) -> dict[str, float]:
        """Pearson's correlation over all windows with its interval; NaN for a constant side."""
        return pooled_correlation(self.labels, np.asarray(x, float), np.asarray(y, float)).as_dict()

    def _test(self, x: FloatArray) -> MeanTest:
        if self.pooled:
            return cluster_test(self.labels, x)
        by_date = pd.Series(x).groupby(self.dates).mean().sort_index()
        return dates_test(by_date, self.span)


def dates_test(by_date: pd.Series, span: Any) -> MeanTest:
    """Newey–West test of a series of dates against zero, with lags for the truths that they share."""
    overlap = overlap_of(by_date.index.to_numpy(), span)
    return diebold_mariano(by_date, np.zeros(len(by_date)), overlap)


def dates_interval(by_date: pd.Series, span: Any) -> Estimate:
    """Mean of a series of dates with its interval from circular blocks as long as the truths that they share."""
    overlap = overlap_of(by_date.index.to_numpy(), span)
    return block_bootstrap(by_date, max(overlap, round(float(np.cbrt(len(by_date))))))


def overlap_of(dates: npt.NDArray[np.datetime64], span: Any) -> int:
    """How many consecutive dates share a part of their truths (1: none)."""
    if len(dates) < 2:
        return 1
    gap = float(np.median(np.diff(np.sort(dates)).astype("timedelta64[ns]").astype(np.int64)))
    shared = math.ceil(float(pd.Timedelta(span).value) / max(gap, 1.0) - 1e-9)
    return max(1, shared)


def pooled_correlation(labels: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Estimate:
    """Correlation over all windows with an interval by clusters; NaN for a constant side."""
    value = correlation(x, y)
    if not np.isfinite(value):
        return Estimate(value, value, value)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y, labels = x[keep], y[keep], labels[keep]
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()

    def statistic(m: npt.NDArray[Any]) -> npt.NDArray[Any]:
        cross = m[..., 4] - m[..., 0] * m[..., 1]
        return np.asarray(cross / np.sqrt((m[..., 2] - m[..., 0] ** 2) * (m[..., 3] - m[..., 1] ** 2)))

    return cluster_bootstrap(labels, np.column_stack([a, b, a * a, b * b, a * b]), statistic)


def r_squared_of_means(means: FloatArray) -> FloatArray:
    """R² from the means of (y - f)², y² and y: a statistic for :meth:`Means.function`."""
    return np.asarray(1.0 - means[..., 0] / (means[..., 1] - means[..., 2] ** 2))

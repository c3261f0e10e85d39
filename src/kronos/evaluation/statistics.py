"""Does a score order outcomes, and how sure is a number, where neighbouring dates and markets move together?

The autocovariances of Newey and West and Holm's correction are those of statsmodels. The bootstraps are written here:
``arch.bootstrap.CircularBlockBootstrap`` draws the same blocks from the same stream (a test compares them) in a Python
loop, 5 to 19 times as slow at 400 and 60 dates, and knows no bootstrap of clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import ArrayLike

from kronos.errors import MissingExtraError
from kronos.protocol import FloatArray

Statistic = Callable[[FloatArray], FloatArray]

#: Fewer names than this on a date say nothing about a cross-section.
MIN_NAMES = 5
#: Fewer clusters or dates than this cannot be resampled.
FEWEST = 5
NAN = float("nan")


def _library(module: str) -> Any:
    """A module of scipy or statsmodels."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], "eval", "Telling how sure a figure is") from error


def _finite_pairs(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]


def correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation in [-1, 1]; NaN if either side is constant or there are fewer than three finite pairs."""
    a, b = _finite_pairs(x, y)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NAN
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float((a @ b) / scale) if scale > 0 else NAN


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the average ranks."""
    return correlation(*(pd.Series(side).rank() for side in _finite_pairs(x, y)))


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x with an intercept; NaN if x is constant."""
    a, b = _finite_pairs(x, y)
    if a.size < 3 or np.ptp(a) == 0:
        return NAN
    a = a - a.mean()
    return float((a @ (b - b.mean())) / (a @ a))


def ic_by_date(
    dates: npt.NDArray[np.datetime64], score: ArrayLike, outcome: ArrayLike, *, rank: bool
) -> tuple[npt.NDArray[np.datetime64], FloatArray]:
    """Correlation across names on each date: (D,) dates and (D,) coefficients.

    Dates with fewer than five finite pairs, or with a constant side, are left out. The mean over dates
    with its Newey–West t value is the usual IC and its significance.
    """
    a, b = np.asarray(score, float), np.asarray(outcome, float)
    measure = rank_correlation if rank else correlation
    keep = np.isfinite(a) & np.isfinite(b)
    days, counts = np.unique(dates[keep], return_counts=True)
    days = days[counts >= MIN_NAMES]
    values = np.array([measure(a[here], b[here]) for here in (keep & (dates == day) for day in days)], dtype=float)
    return days[np.isfinite(values)].astype("datetime64[ns]"), values[np.isfinite(values)]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float = NAN
    high: float = NAN

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def first_mean(means: FloatArray) -> FloatArray:
    """The first column mean: a statistic for :func:`cluster_bootstrap`."""
    return np.asarray(means[..., 0])


def ratio_of_means(means: FloatArray) -> FloatArray:
    """First column mean over second column mean: a statistic for :func:`cluster_bootstrap`."""
    return np.asarray(means[..., 0] / means[..., 1])


def cluster_bootstrap(
    clusters: npt.NDArray[Any],
    columns: ArrayLike,
    statistic: Statistic = first_mean,
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
        statistic: maps column means (..., K) to (...,), e.g. :func:`ratio_of_means`.
        draws: bootstrap repetitions; ``level``: of the interval; ``seed``: of the resampling.

    Returns:
        The statistic of the data and its interval; NaN with fewer than five clusters: there is nothing to resample.
    """
    x = np.asarray(columns, float)
    x = x[:, None] if x.ndim == 1 else x
    keep = np.isfinite(x).all(axis=1)
    x, (names, member) = x[keep], np.unique(np.asarray(clusters)[keep].astype(str), return_inverse=True)
    if len(x) == 0:
        return Estimate(NAN)
    with np.errstate(divide="ignore", invalid="ignore"):  # a side without variation: the figure is not defined
        value, count = float(statistic(x.mean(axis=0))), len(names)
    if count < FEWEST:
        return Estimate(value)
    sums = np.zeros((count, x.shape[1]))
    np.add.at(sums, member, x)
    sizes = np.bincount(member, minlength=count).astype(float)
    rng = np.random.default_rng([seed, count])
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = statistic((weights @ sums) / (weights @ sizes)[:, None])
    return _percentiles(value, drawn, level, count)


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
    block = max(1, min(block, size))
    if size < 2 * block or size < FEWEST:
        return Estimate(float(x.mean()) if size else NAN)
    rng, count = np.random.default_rng([seed, size, block]), -(-size // block)
    places = (rng.integers(size, size=(draws, count))[..., None] + np.arange(block)) % size
    return _percentiles(float(x.mean()), x[places.reshape(draws, -1)[:, :size]].mean(axis=1), level, count)


def _percentiles(value: float, draws: FloatArray, level: float, units: int) -> Estimate:
    """The interval of bootstrap draws from this many clusters or blocks."""
    tail = _expanded_tail(level, units)
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


def _expanded_tail(level: float, units: int) -> float:
    """The tail probability at which a percentile interval from this many units holds its level."""
    stats = _library("scipy.stats")
    return float(stats.norm.sf(stats.t.isf((1.0 - level) / 2.0, units - 1) * np.sqrt(units / (units - 1))))


def time_blocks(cutoffs: npt.NDArray[np.datetime64], spans: npt.NDArray[np.timedelta64]) -> npt.NDArray[np.str_]:
    """(N,) labels of blocks of time that are at least as long as what is forecast.

    A cutoff falls into the block number ``floor(cutoff / length)``, length = the horizon's span rounded up to
    whole days: windows whose truths overlap in time share a block or lie in neighbouring ones.
    """
    day = 86_400 * 10**9
    length = np.maximum(1, -(-spans.astype("timedelta64[ns]").astype(np.int64) // day))
    number = cutoffs.astype("datetime64[ns]").astype(np.int64) // (length * day)
    return np.array([f"{size}d:{index}" for size, index in zip(length, number, strict=True)], dtype=str)


@dataclass(frozen=True)
class MeanTest:
    """A mean with its heteroscedasticity- and autocorrelation-robust test against zero."""

    mean: float
    error: float = NAN
    t: float = NAN
    p: float = NAN
    lags: int = 0
    n: int = 0


def automatic_lags(size: int) -> int:
    """⌈1.3 √T⌉ - 1."""
    return max(0, int(np.ceil(1.3 * np.sqrt(size))) - 1)


def newey_west(values: ArrayLike, lags: int | None = None) -> MeanTest:
    """Mean of a time series with its Newey–West (1987) standard error and fixed-b inference.

    ``S = γ0 + 2 Σ_{l ≤ L} (1 - l / (L + 1)) γl`` with γl = (1/T) Σ e[t] e[t-l]; the error is √(S / T). Treating S as
    known rejects far too often at the few dates that evaluations have, so t is divided by cv(b) / 1.96, where
    cv(b) = 1.96 + 2.9694 b + .416 b² - .5324 b³ and b = (L + 1) / T (Kiefer and Vogelsang 2005, table 1, Bartlett,
    97.5 %), before the two-sided p-value is read from Student's t with T - 1 degrees of freedom. Without lags the
    variance is the plain one, and t is Student's.

    Args:
        values: (T,) in time order; NaN are left out.
        lags: L; by default ⌈1.3 √T⌉ - 1 (Lazarus, Lewis, Stock and Watson 2018). Give at least the number of
            neighbours whose outcomes overlap.
    """
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    size, mean = len(x), float(x.mean()) if len(x) else NAN
    if size < 3:
        return MeanTest(mean, n=size)
    order = min(automatic_lags(size) if lags is None else lags, size - 2)
    b = (order + 1) / size
    wider = (1.96 + 2.9694 * b + 0.416 * b**2 - 0.5324 * b**3) / 1.96 if order else 1.0
    hac = _library("statsmodels.stats.sandwich_covariance")
    summed = hac.S_hac_simple((x - mean)[:, None], nlags=order).item()  # of Bartlett-weighted autocovariances, times T
    return _tested(mean, float(np.sqrt(max(summed, 0.0)) / size), size, order, wider)


def cluster_test(clusters: npt.NDArray[Any], values: ArrayLike) -> MeanTest:
    """Mean of observations with its cluster-robust test against zero.

    ``error² = G / (G - 1) · Σ_g (Σ_{i in g} (x_i - mean))² / N²`` over G clusters; Student's t with G - 1 degrees of
    freedom. ``n`` in the result is G. For windows of many markets, where "the next date" means nothing.
    """
    x = np.asarray(values, float)
    keep = np.isfinite(x)
    x, (names, member) = x[keep], np.unique(np.asarray(clusters)[keep].astype(str), return_inverse=True)
    count, mean = len(names), float(x.mean()) if len(x) else NAN
    if count < FEWEST:
        return MeanTest(mean, n=count)
    sums = np.bincount(member, weights=x - mean, minlength=count)
    return _tested(mean, float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(x)), count)


def _tested(mean: float, error: float, n: int, lags: int = 0, wider: float = 1.0) -> MeanTest:
    """t is infinite where every observation is the same and not zero, NaN where all are zero."""
    t = mean / error if error > 0 else float(np.copysign(np.inf, mean)) if mean else NAN
    return MeanTest(mean, error, t, float(2.0 * _library("scipy.stats").t.sf(abs(t / wider), n - 1)), lags, n)


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
    return newey_west(difference, max(2 * overlap - 1 if overlap > 1 else 0, automatic_lags(len(difference))))


def overlap_of(dates: npt.NDArray[np.datetime64], span: Any) -> int:
    """How many consecutive dates share a part of their truths (1: none)."""
    if len(dates) < 2:
        return 1
    gap = float(np.median(np.diff(np.sort(dates)).astype("timedelta64[ns]").astype(np.int64)))
    return max(1, math.ceil(float(pd.Timedelta(span).value) / max(gap, 1.0) - 1e-9))


def dates_test(by_date: pd.Series, span: Any) -> MeanTest:
    """Newey–West test of a series of dates against zero, with lags for the truths that they share."""
    return diebold_mariano(by_date, np.zeros(len(by_date)), overlap_of(by_date.index.to_numpy(), span))


def dates_interval(by_date: pd.Series, span: Any) -> Estimate:
    """Mean of a series of dates with its interval from circular blocks as long as the truths that they share."""
    overlap = overlap_of(by_date.index.to_numpy(), span)
    return block_bootstrap(by_date, max(overlap, round(float(np.cbrt(len(by_date))))))


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


def verdict(name: str, difference: Estimate, adjusted_p: float, *, lower_is_better: bool = True) -> str:
    """The comparison in words: "better than X", "worse than X" or "no edge shown over X".

    A side is taken only if the adjusted p-value is below .05 *and* the bootstrap interval leaves zero out.

    Args:
        name: the baseline; ``difference``: ours minus theirs; ``adjusted_p``: after Holm's correction.
    """
    if not (adjusted_p < 0.05 and (difference.low > 0 or difference.high < 0)):
        return f"no edge shown over {name}"
    return f"{'better' if (difference.value < 0) == lower_is_better else 'worse'} than {name}"

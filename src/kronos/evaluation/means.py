"""A mean over windows with what says how sure it is: a block-bootstrap interval and a robust error and t value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.evaluation.signals import correlation
from kronos.evaluation.statistics import (
    Estimate,
    MeanTest,
    block_bootstrap,
    cluster_bootstrap,
    cluster_test,
    diebold_mariano,
    first_mean,
)

FloatArray = npt.NDArray[np.float64]


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

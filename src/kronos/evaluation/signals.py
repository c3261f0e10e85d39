"""Does a score order outcomes? Information coefficients and slopes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
ArrayLike = npt.ArrayLike

#: Fewer names than this on a date say nothing about a cross-section.
MIN_NAMES = 5


def _finite_pairs(x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]


def correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation in [-1, 1]; NaN if either side is constant or there are fewer than three finite pairs."""
    a, b = _finite_pairs(x, y)
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float((a @ b) / scale) if scale > 0 else float("nan")


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation: Pearson's of the average ranks."""
    a, b = _finite_pairs(x, y)
    return correlation(pd.Series(a).rank(), pd.Series(b).rank())


def ic_by_date(
    dates: npt.NDArray[np.datetime64], score: ArrayLike, outcome: ArrayLike, *, rank: bool, min_names: int = MIN_NAMES
) -> tuple[npt.NDArray[np.datetime64], FloatArray]:
    """Correlation across names on each date: (D,) dates and (D,) coefficients.

    Dates with fewer than ``min_names`` finite pairs, or with a constant side, are left out. The mean over dates
    with its Newey–West t value (statistics.py) is the usual IC and its significance.
    """
    a, b = np.asarray(score, float), np.asarray(outcome, float)
    measure = rank_correlation if rank else correlation
    keep = np.isfinite(a) & np.isfinite(b)
    when: list[np.datetime64] = []
    values: list[float] = []
    for date in np.unique(dates[keep]):
        here = keep & (dates == date)
        if here.sum() < min_names:
            continue
        value = measure(a[here], b[here])
        if np.isfinite(value):
            when.append(date)
            values.append(value)
    return np.array(when, dtype="datetime64[ns]"), np.array(values, dtype=float)


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of y on x with an intercept; NaN if x is constant."""
    a, b = _finite_pairs(x, y)
    if a.size < 3 or np.ptp(a) == 0:
        return float("nan")
    a = a - a.mean()
    return float((a @ (b - b.mean())) / (a @ a))

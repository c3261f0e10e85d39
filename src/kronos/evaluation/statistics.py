"""How sure is a number? Intervals and tests that know that neighbouring dates and markets move together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    clusters: npt.NDArray[np.object_] | npt.NDArray[np.str_],
    columns: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Percentile interval of a function of means, resampling whole clusters.

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
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(statistic(means), [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))


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

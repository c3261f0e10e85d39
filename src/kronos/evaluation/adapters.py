"""Other people's models as forecasters: anything that gives closes by quantile, by sample or as a point.

They forecast one column, the close. Its bars are completed with gaps, shadows and volumes drawn from the context, as
the baselines do, so that they can stand in the same table; what is theirs is the close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.baselines import BarShapes, build_bars, context_rng
from kronos.evaluation.protocol import CLOSE, Context, FloatArray

#: Closes of each context (T,), the horizon, the levels -> quantiles of the closes (N, H, Q).
QuantileModel = Callable[[Sequence[FloatArray], int, Sequence[float]], FloatArray]
#: Closes of one context (T,), the horizon -> closes (H,).
PointModel = Callable[[FloatArray, int], Any]

DEFAULT_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class QuantileForecaster:
    """A model that gives quantiles of the close per step.

    Quantiles say nothing about how steps hang together. Each step gets one sample per path at levels
    (k - ½) / S, interpolated between the given levels (linearly in log close over normal scores, also beyond the
    outermost ones), and the samples are dealt to the paths in the rank order of resampled random-walk paths (Schaake
    shuffle): the margins are the model's, the dependence between steps is a random walk's.

    Args:
        name: for the tables.
        model: see :data:`QuantileModel`; its closes must be positive.
        levels: asked of the model, ascending, at least two.
    """

    def __init__(self, name: str, model: QuantileModel, levels: Sequence[float] = DEFAULT_LEVELS) -> None:
        rising = all(a < b for a, b in pairwise(levels))
        if len(levels) < 2 or not rising or levels[0] <= 0 or levels[-1] >= 1:
            raise ConfigError(f"quantile levels {tuple(levels)} must ascend inside (0, 1), at least two of them")
        self.name, self._model, self._levels = name, model, tuple(levels)

    def forecast(self, contexts: Sequence[Context], horizon: int, num_samples: int, seed: int) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        closes = [context.values[:, CLOSE].copy() for context in contexts]
        quantiles = np.asarray(self._model(closes, horizon, self._levels), dtype=float)
        if quantiles.shape != (len(contexts), horizon, len(self._levels)) or not (quantiles > 0).all():
            raise ConfigError(
                f"forecaster {self.name!r}: quantiles of shape {quantiles.shape} for {len(contexts)} contexts, "
                f"{horizon} steps and {len(self._levels)} levels; they must be positive prices"
            )
        return [
            self._paths(context, np.sort(own, axis=-1), num_samples, seed)
            for context, own in zip(contexts, quantiles, strict=True)
        ]

    def _paths(self, context: Context, quantiles: FloatArray, num_samples: int, seed: int) -> FloatArray:
        wanted = np.asarray(stats.norm.ppf((np.arange(num_samples) + 0.5) / num_samples))
        logs = _interpolate(wanted, np.asarray(stats.norm.ppf(self._levels)), np.log(quantiles))  # (H, S), ascending
        rng, shapes = context_rng(seed, context), BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, len(quantiles)))
        walk = np.cumsum(shapes.move[picked] + 1e-12 * rng.standard_normal(picked.shape), axis=1)
        ranks = walk.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")  # (S, H)
        dealt = np.take_along_axis(logs.T, ranks, axis=0)
        moves = np.diff(dealt, axis=1, prepend=np.log(context.last_close))
        return build_bars(context.last_close, shapes, picked, moves, np.ones(picked.shape))


def _interpolate(wanted: FloatArray, known: FloatArray, values: FloatArray) -> FloatArray:
    """Piecewise linear through (known, values[h]) with straight ends: (H, S)."""
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    left = right - 1
    share = (wanted - known[left]) / (known[right] - known[left])
    return np.asarray(values[:, left] + share * (values[:, right] - values[:, left]))


class PointForecaster:
    """A model that gives one close per step, such as a statsmodels result: ``lambda y, h: ARIMA(y).fit().forecast(h)``.

    One path per context: it has errors and directions, but no intervals.
    """

    def __init__(self, name: str, model: PointModel) -> None:
        self.name, self._model = name, model

    def forecast(self, contexts: Sequence[Context], horizon: int, num_samples: int, seed: int) -> list[FloatArray]:
        """One path (1, horizon, 6) for each context; each bar opens at the close before it and has no shadows."""
        out = []
        for context in contexts:
            closes = np.asarray(self._model(context.values[:, CLOSE].copy(), horizon), dtype=float)
            if closes.shape != (horizon,) or not (closes > 0).all():
                raise ConfigError(
                    f"forecaster {self.name!r} gave {closes.shape} closes, expected {horizon} positive ones"
                )
            opens = np.concatenate([[context.last_close], closes[:-1]])
            prices = np.stack([opens, np.maximum(opens, closes), np.minimum(opens, closes), closes], axis=-1)
            traded = np.broadcast_to(context.values[-1, CLOSE + 1 :], (horizon, 2))
            out.append(np.concatenate([prices, traded], axis=-1)[None])
        return out


def chronos_forecaster(
    name: str = "amazon/chronos-bolt-small", device: str = "cpu", levels: Sequence[float] = DEFAULT_LEVELS
) -> QuantileForecaster:
    """A Chronos, Chronos-Bolt or Chronos-2 checkpoint, through the package ``chronos-forecasting``.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        chronos = import_module("chronos")
    except ImportError as error:
        raise MissingExtraError("chronos-forecasting", "eval", "Judging a Chronos checkpoint") from error
    import torch

    pipeline = chronos.BaseChronosPipeline.from_pretrained(name, device_map=device)

    def quantiles(closes: Sequence[FloatArray], horizon: int, levels: Sequence[float]) -> FloatArray:
        series = [torch.tensor(values, dtype=torch.float32) for values in closes]
        found, _ = pipeline.predict_quantiles(series, prediction_length=horizon, quantile_levels=list(levels))
        rows = [np.asarray(one, dtype=float).reshape(horizon, len(levels)) for one in found]
        return np.stack(rows)  # Chronos-2 gives one (1, H, Q) per series, the others one (N, H, Q)

    return QuantileForecaster(name.rsplit("/", 1)[-1], quantiles, levels)

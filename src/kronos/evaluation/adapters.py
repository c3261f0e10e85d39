"""Other people's models as forecasters: anything that gives closes by quantile, by sample or as a point.

They forecast one column, the close. Its bars are completed with gaps, shadows and volumes drawn from the context, as
the baselines do, so that they can stand in the same table; what is theirs is the close.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from kronos.errors import CheckpointError, ConfigError, MissingExtraError
from kronos.evaluation.shapes import BarShapes, bars_of_line, build_bars, context_rng
from kronos.protocol import CLOSE, Context, FloatArray, Forecaster
from kronos.spec import ForecastSpec

#: Closes of each context (T,), the horizon, the levels -> quantiles of the closes (N, H, Q).
QuantileModel = Callable[[Sequence[FloatArray], int, Sequence[float]], FloatArray]
#: Context, its closes (T,), the horizon, number of paths, seed -> closes (S, H).
SampleModel = Callable[[Context, FloatArray, int, int, int], FloatArray]
#: Closes of one context (T,), the horizon -> closes (H,).
PointModel = Callable[[FloatArray, int], Any]

#: A series (T,) → an unfitted model, whose ``fit().forecast(horizon)`` gives (horizon,).
Build = Callable[[FloatArray], Any]
Recipe = Callable[[], Forecaster]

#: A price cannot be negative, but a model of raw closes may say so of a far quantile: it is cut at this share of the
#: last close.
FLOOR = 1e-3
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def as_prices(name: str, found: Any, shape: tuple[int, ...], last_close: float) -> FloatArray:
    """What a model answered for one context, as positive prices of the expected shape.

    Raises:
        ConfigError: another shape, or numbers that are not finite.
    """
    prices = np.asarray(found, dtype=float)
    if prices.shape != shape or not np.isfinite(prices).all():
        broken = "" if prices.shape != shape else ", some of them not finite"
        raise ConfigError(f"forecaster {name!r} answered with prices of shape {prices.shape}{broken}; expected {shape}")
    return np.asarray(np.maximum(prices, FLOOR * last_close))


class SampleForecaster:
    """A model that draws paths of the close: those are taken as they are.

    Args:
        name: for the tables.
        model: see :data:`SampleModel`.
    """

    fingerprint = ""
    recipe: Recipe | None = None
    training_cutoff: np.datetime64[Any] | None

    def __init__(self, name: str, model: SampleModel) -> None:
        self.name, self._model = name, model

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        horizon, num_samples, seed = spec.horizon, spec.num_samples, spec.seed
        out = []
        for context in contexts:
            past = context.values[:, CLOSE].copy()
            found = self._model(context, past, horizon, num_samples, seed)
            closes = as_prices(self.name, found, (num_samples, horizon), context.last_close)
            shapes = BarShapes.of(context)
            picked = context_rng(seed, context).integers(len(shapes.move), size=closes.shape)
            out.append(_whole_bars(context, shapes, picked, np.log(closes)))
        return out


class QuantileForecaster:
    """A model that gives quantiles of the close per step.

    Quantiles say nothing about how steps hang together. Each step gets one sample per path at levels
    (k - ½) / S, interpolated between the given levels (linearly in log close over normal scores, also beyond the
    outermost ones), and the samples are dealt to the paths in the rank order of resampled random-walk paths (Schaake
    shuffle): the margins are the model's, the dependence between steps is a random walk's.

    Args:
        name: for the tables.
        model: see :data:`QuantileModel`.
        levels: that the model gives, ascending, at least two.
    """

    fingerprint = ""
    recipe: Recipe | None = None
    training_cutoff: np.datetime64[Any] | None

    def __init__(self, name: str, model: QuantileModel, levels: Sequence[float] = DECILES) -> None:
        rising = all(a < b for a, b in pairwise(levels))
        if len(levels) < 2 or not rising or levels[0] <= 0 or levels[-1] >= 1:
            raise ConfigError(f"quantile levels {tuple(levels)} must ascend inside (0, 1), at least two of them")
        self.name, self._model, self._levels = name, model, tuple(levels)

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        horizon, num_samples, seed = spec.horizon, spec.num_samples, spec.seed
        closes = [context.values[:, CLOSE].copy() for context in contexts]
        found = self._model(closes, horizon, self._levels)
        if len(found) != len(contexts):
            raise ConfigError(f"forecaster {self.name!r} answered {len(found)} of {len(contexts)} contexts")
        out = []
        for context, one in zip(contexts, found, strict=True):
            quantiles = as_prices(self.name, one, (horizon, len(self._levels)), context.last_close)
            out.append(self._paths(context, np.sort(quantiles, axis=-1), num_samples, seed))
        return out

    def _paths(self, context: Context, quantiles: FloatArray, num_samples: int, seed: int) -> FloatArray:
        wanted = np.asarray(stats.norm.ppf((np.arange(num_samples) + 0.5) / num_samples))
        logs = _interpolate(wanted, np.asarray(stats.norm.ppf(self._levels)), np.log(quantiles))  # (H, S), ascending
        rng, shapes = context_rng(seed, context), BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, len(quantiles)))
        walk = np.cumsum(shapes.move[picked] + 1e-12 * rng.standard_normal(picked.shape), axis=1)
        ranks = walk.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")  # (S, H)
        return _whole_bars(context, shapes, picked, np.take_along_axis(logs.T, ranks, axis=0))


def _whole_bars(context: Context, shapes: BarShapes, picked: Any, logs: FloatArray) -> FloatArray:
    """Bars (S, H, 6) of log closes (S, H), with the gaps, shadows and volumes of the picked bars."""
    moves = np.diff(logs, axis=1, prepend=np.log(context.last_close))
    return build_bars(context.last_close, shapes, picked, moves, np.ones(picked.shape))


def _interpolate(wanted: FloatArray, known: FloatArray, values: FloatArray) -> FloatArray:
    """Piecewise linear through (known, values[h]) with straight ends: (H, S)."""
    right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    left = right - 1
    share = (wanted - known[left]) / (known[right] - known[left])
    return np.asarray(values[:, left] + share * (values[:, right] - values[:, left]))


class PointForecaster:
    """A model that gives one close per step, such as those of statsmodels: :func:`point_model`.

    One path per context: it has errors and directions, but no intervals.
    """

    def __init__(self, name: str, model: PointModel) -> None:
        self.name, self._model = name, model

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """One path (1, horizon, 6) for each context; each bar opens at the close before it and has no shadows."""
        out = []
        for context in contexts:
            found = self._model(context.values[:, CLOSE].copy(), spec.horizon)
            closes = as_prices(self.name, found, (spec.horizon,), context.last_close)
            out.append(bars_of_line(context, closes))
        return out


# -- statsmodels ----------------------------------------------------------------------------------------------------


def point_model(name: str, build: Build) -> PointForecaster:
    """Any model with ``fit()`` and ``forecast(horizon)`` as a forecaster, fitted anew on every context.

    It sees and forecasts the logarithm of the close, so that its forecasts are prices whatever it does.

    Args:
        name: for the tables.
        build: see :data:`Build`; for instance ``lambda y: ARIMA(y, order=(1, 1, 0))``.
    """

    def closes(past: FloatArray, horizon: int) -> FloatArray:
        try:
            model = build(np.log(past))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of convergence, on thousands of windows
                found = model.fit().forecast(horizon)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise ConfigError(f"forecaster {name!r} could not be fitted to a context: {error}") from error
        return np.asarray(np.exp(np.asarray(found, dtype=float)))

    return PointForecaster(name, closes)


def _arima(y: FloatArray) -> Any:
    from statsmodels.tsa.arima.model import ARIMA

    return ARIMA(y, order=(1, 1, 1))


def _ets(y: FloatArray) -> Any:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    return ExponentialSmoothing(y, trend="add", damped_trend=True, initialization_method="estimated")


def _theta(y: FloatArray) -> Any:
    from statsmodels.tsa.forecasting.theta import ThetaModel

    return ThetaModel(y, period=1, deseasonalize=False)


#: The models that have a name: ARIMA(1,1,1), damped trend, and the theta method.
NAMED: dict[str, Build] = {"arima": _arima, "ets": _ets, "theta": _theta}


def statsmodels_forecaster(name: str) -> PointForecaster:
    """One of :data:`NAMED`.

    Raises:
        ConfigError: an unknown name. MissingExtraError: statsmodels is not installed.
    """
    if name not in NAMED:
        raise ConfigError(f"unknown point model {name!r}; known: {', '.join(NAMED)}")
    try:
        import statsmodels  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("statsmodels", "eval", f"The point model {name!r}") from error
    return point_model(name, NAMED[name])


# -- Chronos --------------------------------------------------------------------------------------------------------


def chronos_forecaster(name: str = "amazon/chronos-bolt-small", device: str = "cpu") -> Forecaster:
    """A checkpoint by hub id or folder, ready to be judged on closes.

    Chronos (T5) answers with sample paths, which are taken as they are. Chronos-Bolt and Chronos-2 answer with
    quantiles: at all levels that the checkpoint was trained on, none beyond them.

    Raises:
        MissingExtraError: the package is not installed. CheckpointError: no such checkpoint.
    """
    try:
        chronos = import_module("chronos")
    except ImportError as error:
        raise MissingExtraError("chronos-forecasting", "chronos", "Judging a Chronos checkpoint") from error
    try:
        pipeline = chronos.BaseChronosPipeline.from_pretrained(name, device_map=device)
    except (OSError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{name!r} could not be loaded as a Chronos checkpoint: {error}") from error
    short = name.rstrip("/").rsplit("/", 1)[-1]
    forecaster: QuantileForecaster | SampleForecaster
    if pipeline.forecast_type == chronos.ForecastType.SAMPLES:
        forecaster = SampleForecaster(short, partial(_sampled, pipeline))
    else:
        forecaster = QuantileForecaster(short, partial(_quantiles, pipeline), pipeline.quantiles)
    forecaster.fingerprint = _digest(pipeline)
    forecaster.training_cutoff = None  # trained on public series of all kinds; no date is published
    forecaster.recipe = partial(chronos_forecaster, name, "cpu") if device == "cpu" else None
    return forecaster


def _tensor(closes: FloatArray) -> Any:
    import torch

    return torch.tensor(closes, dtype=torch.float32)


def _quantiles(pipeline: Any, closes: Sequence[FloatArray], horizon: int, levels: Sequence[float]) -> FloatArray:
    """(N, H, Q). Chronos-2 gives one (1, H, Q) per series, Chronos-Bolt one (N, H, Q)."""
    series = [_tensor(values) for values in closes]
    found, _ = pipeline.predict_quantiles(series, prediction_length=horizon, quantile_levels=list(levels))
    return np.stack([np.asarray(one, dtype=float).reshape(horizon, len(levels)) for one in found])


def _sampled(pipeline: Any, context: Context, closes: FloatArray, horizon: int, num_samples: int, seed: int) -> Any:
    """(S, H). Chronos draws from torch's global stream, which is set for the call and put back after it."""
    import torch

    key = hashlib.blake2b(closes.tobytes() + context.symbol.encode(), digest_size=4).digest()
    with torch.random.fork_rng():
        torch.manual_seed(seed * 2**32 + int.from_bytes(key))
        found = pipeline.predict([_tensor(closes)], prediction_length=horizon, num_samples=num_samples)
    return np.asarray(found[0], dtype=float)


def _digest(pipeline: Any) -> str:
    """Digest of the weights."""
    digest = hashlib.blake2b(digest_size=12)
    for key, tensor in sorted(pipeline.inner_model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

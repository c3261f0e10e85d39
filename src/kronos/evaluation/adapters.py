"""Other people's models as forecasters: anything that gives closes by quantile, by sample or as a point.

What is theirs is the close; the rest of the bars is drawn from the context, as the baselines do.
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
from kronos.evaluation.drawing import BarShapes, bars_of_line, build_bars, context_rng
from kronos.files import digest
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


class _OfCloses:
    """What the three kinds have in common."""

    fingerprint: str
    recipe: Recipe | None = None
    training_cutoff: np.datetime64[Any] | None

    def __init__(self, name: str, model: Callable[..., Any]) -> None:
        self.name, self._model = name, model

    def _prices(self, found: Any, shape: tuple[int, ...], context: Context) -> FloatArray:
        """What the model answered for one context, as positive prices of the expected shape."""
        prices = np.asarray(found, dtype=float)
        if prices.shape != shape or not np.isfinite(prices).all():
            broken = "" if prices.shape != shape else ", some of them not finite"
            raise ConfigError(
                f"forecaster {self.name!r} answered with prices of shape {prices.shape}{broken}; expected {shape}"
            )
        return np.asarray(np.maximum(prices, FLOOR * context.last_close))


def _whole_bars(context: Context, shapes: BarShapes, picked: Any, logs: FloatArray) -> FloatArray:
    """Bars (S, H, 6) of log closes (S, H), with the gaps, shadows and volumes of the picked bars."""
    return build_bars(context.last_close, shapes, picked, np.diff(logs, axis=1, prepend=np.log(context.last_close)))


class SampleForecaster(_OfCloses):
    """A model that draws paths of the close, see :data:`SampleModel`: those are taken as they are."""

    fingerprint = ""

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        out, shape = [], (spec.num_samples, spec.horizon)
        for context in contexts:
            found = self._model(context, context.values[:, CLOSE].copy(), spec.horizon, spec.num_samples, spec.seed)
            closes, shapes = self._prices(found, shape, context), BarShapes.of(context)
            picked = context_rng(spec.seed, context).integers(len(shapes.move), size=shape)
            out.append(_whole_bars(context, shapes, picked, np.log(closes)))
        return out


class QuantileForecaster(_OfCloses):
    """A model that gives quantiles of the close per step.

    Quantiles say nothing about how steps hang together. Each step gets one sample per path at levels
    (k - ½) / S, interpolated between the given levels (linearly in log close over normal scores, also beyond the
    outermost ones), and the samples are dealt to the paths in the rank order of resampled random-walk paths (Schaake
    shuffle): the margins are the model's, the dependence between steps is a random walk's.

    Args:
        model: see :data:`QuantileModel`.
        levels: that the model gives, ascending, at least two.
    """

    fingerprint = ""

    def __init__(self, name: str, model: QuantileModel, levels: Sequence[float] = DECILES) -> None:
        rising = all(a < b for a, b in pairwise(levels))
        if len(levels) < 2 or not rising or levels[0] <= 0 or levels[-1] >= 1:
            raise ConfigError(f"quantile levels {tuple(levels)} must ascend inside (0, 1), at least two of them")
        super().__init__(name, model)
        self._levels = tuple(levels)

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) for each context."""
        found = self._model([context.values[:, CLOSE].copy() for context in contexts], spec.horizon, self._levels)
        if len(found) != len(contexts):
            raise ConfigError(f"forecaster {self.name!r} answered {len(found)} of {len(contexts)} contexts")
        levels = (np.arange(spec.num_samples) + 0.5) / spec.num_samples
        wanted, known = (np.asarray(stats.norm.ppf(side)) for side in (levels, self._levels))
        right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)  # piecewise linear, with straight ends
        left = right - 1
        share = (wanted - known[left]) / (known[right] - known[left])
        out = []
        for context, one in zip(contexts, found, strict=True):
            quantiles = np.log(np.sort(self._prices(one, (spec.horizon, len(self._levels)), context), axis=-1))
            logs = quantiles[:, left] + share * (quantiles[:, right] - quantiles[:, left])  # (H, S), ascending
            rng, shapes = context_rng(spec.seed, context), BarShapes.of(context)
            picked = rng.integers(len(shapes.move), size=(spec.num_samples, spec.horizon))
            walk = np.cumsum(shapes.move[picked] + 1e-12 * rng.standard_normal(picked.shape), axis=1)
            ranks = walk.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")  # (S, H)
            out.append(_whole_bars(context, shapes, picked, np.take_along_axis(logs.T, ranks, axis=0)))
        return out


class PointForecaster(_OfCloses):
    """A model that gives one close per step, such as those of statsmodels: :func:`point_model`.

    One path per context: it has errors and directions, but no intervals.
    """

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """One path (1, horizon, 6) for each context; each bar opens at the close before it and has no shadows."""
        found = ((context, self._model(context.values[:, CLOSE].copy(), spec.horizon)) for context in contexts)
        return [bars_of_line(context, self._prices(line, (spec.horizon,), context)) for context, line in found]


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


def _of_statsmodels(module: str, name: str, **settings: Any) -> Build:
    return lambda y: getattr(import_module(f"statsmodels.tsa.{module}"), name)(y, **settings)


_DAMPED: dict[str, Any] = {"trend": "add", "damped_trend": True, "initialization_method": "estimated"}
#: The models that have a name: ARIMA(1,1,1), damped trend, and the theta method.
NAMED: dict[str, Build] = {
    "arima": _of_statsmodels("arima.model", "ARIMA", order=(1, 1, 1)),
    "ets": _of_statsmodels("holtwinters", "ExponentialSmoothing", **_DAMPED),
    "theta": _of_statsmodels("forecasting.theta", "ThetaModel", period=1, deseasonalize=False),
}


def statsmodels_forecaster(name: str) -> PointForecaster:
    """One of :data:`NAMED`.

    Raises:
        ConfigError: an unknown name. MissingExtraError: statsmodels is not installed.
    """
    if name not in NAMED:
        raise ConfigError(f"unknown point model {name!r}; known: {', '.join(NAMED)}")
    try:
        import_module("statsmodels")
    except ImportError as error:
        raise MissingExtraError("statsmodels", "eval", f"The point model {name!r}") from error
    return point_model(name, NAMED[name])


def chronos_forecaster(name: str = "amazon/chronos-bolt-small", device: str = "cpu") -> Forecaster:
    """A Chronos checkpoint by hub id or folder, ready to be judged on closes.

    Chronos (T5) answers with sample paths, which are taken as they are. Chronos-Bolt and Chronos-2 answer with
    quantiles: at all levels that the checkpoint was trained on, none beyond them.

    Raises:
        MissingExtraError: the package is not installed. CheckpointError: no such checkpoint.
    """
    try:
        chronos, torch = import_module("chronos"), import_module("torch")
    except ImportError as error:
        raise MissingExtraError("chronos-forecasting", "chronos", "Judging a Chronos checkpoint") from error
    try:
        pipeline = chronos.BaseChronosPipeline.from_pretrained(name, device_map=device)
    except (OSError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{name!r} could not be loaded as a Chronos checkpoint: {error}") from error

    def quantiles(closes: Sequence[FloatArray], horizon: int, levels: Sequence[float]) -> FloatArray:
        """(N, H, Q). Chronos-2 gives one (1, H, Q) per series, Chronos-Bolt one (N, H, Q)."""
        past = [torch.tensor(values, dtype=torch.float32) for values in closes]
        found, _ = pipeline.predict_quantiles(past, prediction_length=horizon, quantile_levels=list(levels))
        return np.stack([np.asarray(one, dtype=float).reshape(horizon, len(levels)) for one in found])

    def sampled(context: Context, closes: FloatArray, horizon: int, num_samples: int, seed: int) -> FloatArray:
        """(S, H). Chronos draws from torch's global stream, which is set for the call and put back after it."""
        # A key of the random stream, so it stays as it is.
        key = hashlib.blake2b(closes.tobytes() + context.symbol.encode(), digest_size=4).digest()
        with torch.random.fork_rng():
            torch.manual_seed(seed * 2**32 + int.from_bytes(key))
            past = [torch.tensor(closes, dtype=torch.float32)]
            found = pipeline.predict(past, prediction_length=horizon, num_samples=num_samples)
        return np.asarray(found[0], dtype=float)

    short = name.rstrip("/").rsplit("/", 1)[-1]
    forecaster: QuantileForecaster | SampleForecaster
    if pipeline.forecast_type == chronos.ForecastType.SAMPLES:
        forecaster = SampleForecaster(short, sampled)
    else:
        forecaster = QuantileForecaster(short, quantiles, pipeline.quantiles)
    tensors = {key: value.detach().float().cpu().numpy() for key, value in pipeline.inner_model.state_dict().items()}
    forecaster.fingerprint = digest(*(part for key in sorted(tensors) for part in (key, tensors[key])), size=12)
    forecaster.training_cutoff = None  # trained on public series of all kinds; no date is published
    forecaster.recipe = partial(chronos_forecaster, name, "cpu") if device == "cpu" else None
    return forecaster

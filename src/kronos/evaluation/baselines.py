"""Baselines that every forecast is judged against. All return whole, valid bars and need no training.

They share one manner of making bars: the shape of a past bar (opening gap, shadows, volume) is drawn whole from the
context and stretched by the volatility at hand, so that the joint bar is as real as the context's own. And they
share one random stream per (seed, context): two baselines differ by their model, not by their luck.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kronos.errors import ConfigError
from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, OPEN, VOLUME, Context, FloatArray
from kronos.spec import ForecastSpec

if TYPE_CHECKING:
    from kronos.protocol import Forecaster


def context_rng(seed: int, context: Context) -> np.random.Generator:
    """A generator of its own for each seed and context, whatever batch the context comes in."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(context.symbol.encode())
    digest.update(np.int64(context.timestamps[-1].astype(np.int64)).tobytes())
    digest.update(np.ascontiguousarray(context.values[-1]).tobytes())
    return np.random.default_rng([seed, *np.frombuffer(digest.digest(), dtype=np.uint32).tolist()])


@dataclass(frozen=True)
class BarShapes:
    """The bars of a context relative to the close before them; each array (T-1,), logs."""

    gap: FloatArray  # ln open / previous close
    move: FloatArray  # ln close / previous close
    up: FloatArray  # ln high / max(open, close), never negative
    down: FloatArray  # ln min(open, close) / low, never negative
    volume: FloatArray  # as traded
    price_factor: FloatArray  # amount / (volume × mean price); 1 where there is no volume

    @classmethod
    def of(cls, context: Context) -> BarShapes:
        """Measure the context's bars from the second one on."""
        logs = np.log(context.values[:, : CLOSE + 1])
        before, now = logs[:-1, CLOSE], logs[1:]
        body = now[:, [OPEN, CLOSE]]
        volume, amount = context.values[1:, VOLUME], context.values[1:, AMOUNT]
        traded = volume * context.values[1:, : CLOSE + 1].mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(traded > 0, amount / traded, 1.0)
        return cls(
            gap=now[:, OPEN] - before,
            move=now[:, CLOSE] - before,
            up=np.maximum(now[:, HIGH] - body.max(axis=1), 0.0),
            down=np.maximum(body.min(axis=1) - now[:, LOW], 0.0),
            volume=np.maximum(volume, 0.0),
            price_factor=np.where(np.isfinite(factor), np.maximum(factor, 0.0), 1.0),
        )


def build_bars(
    last_close: float, shapes: BarShapes, picked: np.ndarray, moves: FloatArray, stretch: FloatArray
) -> FloatArray:
    """Bars (S, H, 6) from close-to-close log moves (S, H) and the drawn shapes.

    ``picked`` (S, H) numbers the context bar that lends gap, shadows and volume; ``stretch`` (S, H) multiplies gap
    and shadows (a bar drawn from a calm hour becomes larger in a wild one).
    """
    closes = np.log(last_close) + np.cumsum(moves, axis=1)
    opens = closes - moves + shapes.gap[picked] * stretch
    highs = np.maximum(opens, closes) + shapes.up[picked] * stretch
    lows = np.minimum(opens, closes) - shapes.down[picked] * stretch
    prices = np.exp(np.clip(np.stack([opens, highs, lows, closes], axis=-1), -600.0, 600.0))
    volume = shapes.volume[picked]
    amount = volume * prices.mean(axis=-1) * shapes.price_factor[picked]
    return np.concatenate([prices, volume[..., None], amount[..., None]], axis=-1)


class Baseline:
    """Common part of the baselines: one context at a time, each with its own random stream."""

    name = "baseline"
    parallel = True  # no state between contexts but a counter: processes may share the work

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) per context; point forecasters give (1, horizon, 6)."""
        return [
            self.paths(context, spec.horizon, spec.num_samples, context_rng(spec.seed, context)) for context in contexts
        ]

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """The paths of one context."""
        raise NotImplementedError


class LastClose(Baseline):
    """Every future price is the last close (a point forecast)."""

    name = "last-close"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(1, horizon, 6); volume and amount are those of the last bar."""
        bar = np.full(6, context.last_close)
        bar[[VOLUME, AMOUNT]] = context.values[-1, [VOLUME, AMOUNT]]
        return np.broadcast_to(bar, (1, horizon, 6)).copy()


class Drift(Baseline):
    """The line through the first and last close of the context, in logs, goes on (a point forecast)."""

    name = "drift"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(1, horizon, 6) of bars that open at the previous close."""
        slope = float(context.log_returns().mean())
        line = context.last_close * np.exp(slope * np.arange(horizon + 1))
        bars = np.empty((1, horizon, 6))
        bars[0, :, OPEN], bars[0, :, CLOSE] = line[:-1], line[1:]
        bars[0, :, HIGH] = np.maximum(line[:-1], line[1:])
        bars[0, :, LOW] = np.minimum(line[:-1], line[1:])
        bars[0, :, [VOLUME, AMOUNT]] = context.values[-1, [VOLUME, AMOUNT]][:, None]
        return bars


def season_length(context: Context) -> int:
    """Bars of one season: a day of intraday bars, a week of daily ones (5, or 7 where weekends trade), else 1."""
    days = context.timestamps.astype("datetime64[D]")
    per_day = np.unique(days, return_counts=True)[1]
    if np.median(per_day) > 1:
        season = int(np.median(per_day[1:-1])) if len(per_day) > 2 else int(per_day.max())
    else:
        typical = np.median(np.diff(days).astype(np.int64))
        weekend = bool((np.isin(days.astype(np.int64) % 7, (2, 3))).any())  # day 0 was a Thursday
        season = (7 if weekend else 5) if typical <= 1 else 1
    return max(1, min(season, len(context.timestamps) - 1))


class SeasonalNaive(Baseline):
    """The moves of the last season again, chained from the last close (a point forecast).

    Repeating last season's *prices* would begin with a jump back to them; for prices the season is in the moves.
    """

    name = "seasonal-naive"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(1, horizon, 6)."""
        season, shapes = season_length(context), BarShapes.of(context)
        picked = (len(shapes.move) - season + np.arange(horizon) % season)[None, :]
        return build_bars(context.last_close, shapes, picked, shapes.move[picked], np.ones(picked.shape))


class RandomWalkGaussian(Baseline):
    """Independent normal log moves with the context's standard deviation and no drift."""

    name = "rw-gaussian"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(num_samples, horizon, 6)."""
        shapes = BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
        moves = rng.standard_normal(picked.shape) * context.volatility()
        return build_bars(context.last_close, shapes, picked, moves, np.ones(picked.shape))


class RandomWalkResampled(Baseline):
    """Independent draws of the context's own bars.

    Args:
        drift: False takes the context's mean move out of the draws (the default: over 24 bars the estimated drift
            costs more than it brings); True leaves the moves as they were.
    """

    def __init__(self, drift: bool = False) -> None:
        self.drift = drift
        self.name = "rw-resampled-drift" if drift else "rw-resampled"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(num_samples, horizon, 6)."""
        shapes = BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
        moves = shapes.move - (0.0 if self.drift else shapes.move.mean())
        return build_bars(context.last_close, shapes, picked, moves[picked], np.ones(picked.shape))


def filtered_paths(
    context: Context,
    moves: FloatArray,
    sigma: FloatArray,
    advance: Callable[[FloatArray], FloatArray],
    first_variance: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> FloatArray:
    """Filtered historical simulation: draw past bars, each divided by its own volatility, times the path's volatility.

    Args:
        context: where the bar shapes come from.
        moves: (T-1,) centred log moves; ``sigma``: (T-1,) their conditional volatilities.
        advance: given the moves (S,) just made, the variances (S,) of the next bar; it keeps its own state.
        first_variance: variance of the first bar to forecast.
        shape: (num_samples, horizon).
    """
    shapes = BarShapes.of(context)
    residual = moves / sigma
    residual = residual - residual.mean()  # no drift: centred moves do not make centred residuals
    residual = residual / np.sqrt((residual**2).mean())  # unit variance: the recursion alone sets the level
    picked = rng.integers(len(moves), size=shape)
    steps, stretch = np.empty(shape), np.empty(shape)
    variance = np.full(shape[0], first_variance)
    for h in range(shape[1]):
        volatility = np.sqrt(variance)
        steps[:, h] = volatility * residual[picked[:, h]]
        stretch[:, h] = volatility / sigma[picked[:, h]]
        variance = advance(steps[:, h])
    return build_bars(context.last_close, shapes, picked, steps, stretch)


class EwmaVolatility(Baseline):
    """Exponentially weighted variance (RiskMetrics) with filtered historical simulation.

    ``v[t+1] = λ v[t] + (1 - λ) r[t]²``, started at the context's variance; no drift.

    Args:
        decay: λ, .94 as published for daily data.
    """

    def __init__(self, decay: float = 0.94) -> None:
        if not 0.0 < decay < 1.0:
            raise ConfigError(f"EWMA decay {decay} is outside (0, 1)")
        self.decay = decay
        self.name = "ewma"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(num_samples, horizon, 6)."""
        moves = context.log_returns()
        moves = moves - moves.mean()
        if not (moves != 0).any():
            return RandomWalkResampled().paths(context, horizon, num_samples, rng)
        variances = np.empty(len(moves) + 1)
        variances[0] = float((moves**2).mean())
        for t, move in enumerate(moves):
            variances[t + 1] = self.decay * variances[t] + (1.0 - self.decay) * move**2
        state = {"v": np.full(num_samples, variances[-1])}

        def advance(made: FloatArray) -> FloatArray:
            state["v"] = self.decay * state["v"] + (1.0 - self.decay) * made**2
            return state["v"]

        sigma = np.sqrt(variances[:-1])
        return filtered_paths(context, moves, sigma, advance, variances[-1], (num_samples, horizon), rng)


BASELINE_NAMES = (
    "last-close",
    "drift",
    "seasonal-naive",
    "rw-gaussian",
    "rw-resampled",
    "rw-resampled-drift",
    "ewma",
    "garch",
    "garch-best",
)


def make_baselines(names: Sequence[str] | str = "all") -> list[Forecaster]:
    """Baselines by name; ``"all"`` gives every one of :data:`BASELINE_NAMES`.

    Raises:
        ConfigError: an unknown name. MissingExtraError: a GARCH is asked for and ``arch`` is not installed.
    """
    from kronos.evaluation.garch import Garch

    makers: dict[str, Callable[[], Forecaster]] = {
        "last-close": LastClose,
        "drift": Drift,
        "seasonal-naive": SeasonalNaive,
        "rw-gaussian": RandomWalkGaussian,
        "rw-resampled": RandomWalkResampled,
        "rw-resampled-drift": lambda: RandomWalkResampled(drift=True),
        "ewma": EwmaVolatility,
        "garch": Garch,
        "garch-best": lambda: Garch.best(),
    }
    wanted = list(BASELINE_NAMES) if names == "all" else [names] if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if name not in makers]
    if unknown:
        raise ConfigError(f"unknown baseline(s) {', '.join(unknown)}; known: {', '.join(BASELINE_NAMES)}")
    return [makers[name]() for name in wanted]

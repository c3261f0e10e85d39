"""Baselines that every forecast is judged against: whole, valid bars without training, by name in ``BASELINES``.

All use one random stream per (seed, context): two forecasters differ by their model, not by their luck.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kronos.errors import ConfigError, MissingExtraError
from kronos.protocol import AMOUNT, CLOSE, HIGH, LOW, OPEN, VOLUME, Context, FloatArray, Forecaster, traded_value
from kronos.spec import ForecastSpec
from kronos.volatility import har_refit, parkinson, pooled_har

Order = tuple[int, int]

#: ARCH(1..3) and GARCH(1..3, 1..3): (lags of the squared move, lags of the variance).
ALL_ORDERS: tuple[Order, ...] = tuple((p, q) for q in range(4) for p in range(1, 4))


def context_rng(seed: int, context: Context) -> np.random.Generator:
    """The generator of a seed and context, whatever batch the context comes in; its hash fixes published figures."""
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
        bars, logs = context.values[1:], np.log(context.values[:, : CLOSE + 1])
        before, now = logs[:-1, CLOSE], logs[1:]
        body, traded = now[:, [OPEN, CLOSE]], traded_value(bars)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(traded > 0, bars[:, AMOUNT] / traded, 1.0)
        return cls(
            gap=now[:, OPEN] - before,
            move=now[:, CLOSE] - before,
            up=np.maximum(now[:, HIGH] - body.max(axis=1), 0.0),
            down=np.maximum(body.min(axis=1) - now[:, LOW], 0.0),
            volume=np.maximum(bars[:, VOLUME], 0.0),
            price_factor=np.where(np.isfinite(factor), np.maximum(factor, 0.0), 1.0),
        )


def build_bars(
    last_close: float, shapes: BarShapes, picked: np.ndarray, moves: FloatArray, stretch: FloatArray | float = 1.0
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


def bars_of_line(context: Context, closes: FloatArray) -> FloatArray:
    """One path (1, H, 6) of closes (H,): bars without shadows that open at the last close and trade as before."""
    opens = np.concatenate([[context.last_close], closes[:-1]])
    prices = np.stack([opens, np.maximum(opens, closes), np.minimum(opens, closes), closes], axis=-1)
    traded = np.broadcast_to(context.values[-1, CLOSE + 1 :], (len(closes), 2))
    return np.concatenate([prices, traded], axis=-1)[None]


class Baseline:
    """Common part of the baselines: one context at a time, each with a random stream."""

    name = "baseline"
    meaning = ""  # what it does, in a line for reports
    parallel = True  # no state between contexts but a counter: processes may share the work
    ranks = False  # whether it claims an order of returns; the others rank by chance
    straight = False  # whether its path is a straight line, which has no volatility to judge

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """Sample paths (num_samples, horizon, 6) per context; point forecasters give (1, horizon, 6)."""
        return [self.paths(one, spec.horizon, spec.num_samples, context_rng(spec.seed, one)) for one in contexts]

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """The paths of one context."""
        raise NotImplementedError


class LastClose(Baseline):
    """Every future price is the last close (a point forecast)."""

    name, meaning = "last-close", "every price is the last close (a point)"
    ranks = straight = True  # its order is no order: RankIC 0

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        return bars_of_line(context, np.full(horizon, context.last_close))


class Drift(Baseline):
    """The line through the first and last close of the context, in logs, goes on (a point forecast)."""

    name, meaning = "drift", "the line through the context's first and last close goes on (a point)"
    ranks = straight = True

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        slope = float(context.log_returns().mean())
        return bars_of_line(context, context.last_close * np.exp(slope * np.arange(1, horizon + 1)))


def season_length(context: Context) -> int:
    """Bars of one season: a day of intraday bars, a week of daily ones (5, or 7 where weekends trade), else 1."""
    days = context.timestamps.astype("datetime64[D]").astype(np.int64)
    per_day = np.unique(days, return_counts=True)[1]
    if np.median(per_day) > 1:
        season = int(np.median(per_day[1:-1])) if len(per_day) > 2 else int(per_day.max())
    elif np.median(np.diff(days)) <= 1:
        season = 7 if np.isin(days % 7, (2, 3)).any() else 5  # day 0 was a Thursday
    else:
        season = 1
    return max(1, min(season, len(days) - 1))


class SeasonalNaive(Baseline):
    """The moves of the last season again, chained from the last close (a point forecast).

    It is judged on volatility too: its path is not straight, and has that of the last season.
    Repeating last season's *prices* would begin with a jump back to them; for prices the season is in the moves.
    """

    name, meaning = "seasonal-naive", "the moves of the last day, or week, again (a point)"
    ranks = True

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        season, shapes = season_length(context), BarShapes.of(context)
        picked = (len(shapes.move) - season + np.arange(horizon) % season)[None, :]
        return build_bars(context.last_close, shapes, picked, shapes.move[picked])


class RandomWalkGaussian(Baseline):
    """Independent normal log moves with the context's standard deviation and no drift."""

    name, meaning = "rw-gaussian", "a random walk of normal moves with the context's volatility"

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        shapes = BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
        return build_bars(context.last_close, shapes, picked, rng.standard_normal(picked.shape) * context.volatility())


class RandomWalkResampled(Baseline):
    """Independent draws of the bars of the context.

    Its mean move is taken out: over 24 bars the estimated drift costs more than it brings.
    """

    name = "rw-resampled"
    meaning = (
        "a random walk that draws its moves from the context's own bars, mean move taken out; the walk that all are "
        "measured by"
    )
    drift = False  # whether the mean move stays in

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        shapes = BarShapes.of(context)
        picked = rng.integers(len(shapes.move), size=(num_samples, horizon))
        moves = shapes.move - (0.0 if self.drift else shapes.move.mean())
        return build_bars(context.last_close, shapes, picked, moves[picked])


class RandomWalkResampledDrift(RandomWalkResampled):
    """Independent draws of the bars of the context, its mean move among them."""

    name, meaning = "rw-resampled-drift", "the same with the context's mean move left in"
    drift = True


@dataclass(frozen=True)
class VarianceFit:
    """``v[t] = omega + Σ alpha_i r[t-i]² + Σ beta_j v[t-j]`` over the moves of a context."""

    omega: float
    alpha: FloatArray
    beta: FloatArray
    sigma: FloatArray  # (T-1,) conditional volatility of each move
    bic: float = float("nan")


def filtered_paths(
    context: Context, moves: FloatArray, unit: float, fit: VarianceFit, shape: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Filtered historical simulation: draw past bars, each divided by its own volatility, times the path's volatility.

    Args:
        context: where the bar shapes come from.
        moves: (T-1,) centred log moves, divided by ``unit``; ``fit``: their variance, whose recursion goes on.
        shape: (num_samples, horizon).
    """
    residual = moves / fit.sigma
    residual = residual - residual.mean()  # no drift: centred moves do not make centred residuals
    residual = residual / np.sqrt((residual**2).mean())  # unit variance: the recursion alone sets the level
    picked = rng.integers(len(moves), size=shape)
    steps, stretch = np.empty(shape), np.empty(shape)
    squares = [np.full(shape[0], moves[-1 - i] ** 2) for i in range(len(fit.alpha))]  # newest first
    variances = [np.full(shape[0], fit.sigma[-1 - j] ** 2) for j in range(len(fit.beta))]
    for h in range(shape[1]):
        variance = np.full(shape[0], fit.omega)
        for weight, past in zip((*fit.alpha, *fit.beta), (*squares, *variances), strict=True):
            variance = variance + weight * past
        volatility = np.sqrt(variance)
        steps[:, h] = volatility * residual[picked[:, h]]
        stretch[:, h] = volatility / fit.sigma[picked[:, h]]
        squares = [steps[:, h] ** 2, *squares[:-1]]
        variances = [variance, *variances][: len(variances)]
    return build_bars(context.last_close, BarShapes.of(context), picked, unit * steps, stretch)


class EwmaVolatility(Baseline):
    """Exponentially weighted variance (RiskMetrics) with filtered historical simulation.

    ``v[t+1] = λ v[t] + (1 - λ) r[t]²``, started at the context's variance; no drift.

    Args:
        decay: λ, .94 as published for daily data.
    """

    name = "ewma"
    meaning = "a volatility that weighs recent moves most (RiskMetrics), and moves of the context drawn anew"

    def __init__(self, decay: float = 0.94) -> None:
        if not 0.0 < decay < 1.0:
            raise ConfigError(f"EWMA decay {decay} is outside (0, 1)")
        self.decay = decay

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        moves = context.log_returns()
        moves = moves - moves.mean()
        if not (moves != 0).any():
            return RandomWalkResampled().paths(context, horizon, num_samples, rng)
        variances = np.empty(len(moves))
        variances[0] = float((moves**2).mean())
        for t, move in enumerate(moves[:-1]):
            variances[t + 1] = self.decay * variances[t] + (1.0 - self.decay) * move**2
        fit = VarianceFit(0.0, np.array([1.0 - self.decay]), np.array([self.decay]), np.sqrt(variances))
        return filtered_paths(context, moves, 1.0, fit, (num_samples, horizon), rng)


class Garch(Baseline):
    """GARCH paths: the order of lowest BIC among ``orders``, residuals resampled with their whole bars.

    Where no order can be fitted (too few bars, no convergence, explosive parameters) the context gets the EWMA
    baseline's paths, and ``fallbacks`` counts it.
    """

    name, meaning = "garch", "a volatility by GARCH(1,1), fitted on every context, and its residuals drawn anew"

    def __init__(self, orders: Sequence[Order] = ((1, 1),)) -> None:
        self.orders, self.fallbacks = tuple(orders), 0

    def choose(self, moves: FloatArray) -> VarianceFit | None:
        """The fit of lowest BIC on unit-variance moves (T,); larger orders start from the GARCH(1,1) solution."""
        found: dict[Order, VarianceFit | None] = {}
        for order in sorted(self.orders, key=lambda o: (o != (1, 1), o[1], o[0])):
            found[order] = fit_garch(moves, order, found.get((1, 1)) if order[1] > 0 else None)
        return min((fit for fit in found.values() if fit is not None), key=lambda fit: fit.bic, default=None)

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        moves = context.log_returns()
        moves = moves - moves.mean()
        unit = float(moves.std())
        fit = self.choose(moves / unit) if unit > 0 and len(moves) >= 30 else None
        if fit is None:
            self.fallbacks += 1
            return EwmaVolatility().paths(context, horizon, num_samples, rng)
        return filtered_paths(context, moves / unit, unit, fit, (num_samples, horizon), rng)


class GarchBest(Garch):
    """The best of all ARCH and GARCH orders up to (3, 3) on every context."""

    name = "garch-best"
    meaning = "the best of the ARCH and GARCH models up to (3,3) on every context, by BIC"

    def __init__(self) -> None:
        super().__init__(ALL_ORDERS)


class Har(Baseline):
    """The realised variance of a pooled log-HAR model, and the context's bars drawn anew at that size.

    Each past move is divided by its own volatility (exponentially weighted, by the range of the bars before it), and
    multiplied by that of the step it comes to.
    """

    name = "har"
    meaning = "a volatility by a pooled log-HAR model (range, season, volume), and moves of the context drawn anew"
    decay = 0.94

    def variance(self, context: Context, horizon: int) -> FloatArray:
        """(horizon,) expected realised variance up to each bar."""
        return pooled_har().realized_variance(context, horizon)

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        moves, ranges = context.log_returns(), parkinson(context.values)
        moves = moves - moves.mean()
        steps = np.diff(self.variance(context, horizon), prepend=0.0)
        steps = np.maximum(steps, 0.1 * np.maximum(steps.mean(), 0.0))
        if not (moves != 0).any() or not (ranges > 0).all():
            return RandomWalkResampled().paths(context, horizon, num_samples, rng)
        local = np.empty(len(ranges))
        local[0] = ranges.mean()
        for t, one in enumerate(ranges[:-1]):
            local[t + 1] = self.decay * local[t] + (1.0 - self.decay) * one
        sigma = np.sqrt(local)
        residual = moves / sigma
        residual = residual - residual.mean()
        residual = residual / np.sqrt((residual**2).mean())
        picked = rng.integers(len(moves), size=(num_samples, horizon))
        wanted = np.sqrt(steps)
        stretch = wanted / sigma[picked] * np.sqrt(ranges.mean() / (moves**2).mean())
        return build_bars(context.last_close, BarShapes.of(context), picked, wanted * residual[picked], stretch)


class HarRefit(Har):
    """The same with coefficients fitted on every context."""

    name, meaning = "har-refit", "the same with a HAR(1, 5, 22) that is fitted on every context alone"

    def variance(self, context: Context, horizon: int) -> FloatArray:
        return har_refit(context, horizon)


def fit_garch(moves: FloatArray, order: Order, start: VarianceFit | None = None) -> VarianceFit | None:
    """Gaussian quasi-maximum likelihood for one order by ``arch``; None where the optimiser fails.

    Args:
        moves: (T,) centred log moves scaled to unit variance (the optimiser's home ground).
        order: (p, q).
        start: a fit of a smaller order to begin at, instead of arch's grid search.
    """
    try:
        from arch.univariate import GARCH, ZeroMean
    except ImportError as error:
        raise MissingExtraError("arch", "eval", "The GARCH baseline") from error
    values = None
    if start is not None:  # with tiny weights for the added lags
        alpha, beta = (
            np.pad(np.maximum(known[:lags], 0.01), (0, lags - len(known[:lags])), constant_values=0.01)
            for known, lags in zip((start.alpha, start.beta), order, strict=True)
        )
        shrink = min(1.0, 0.97 / (alpha.sum() + beta.sum()))
        values = np.concatenate([[max(start.omega, 1e-3)], alpha * shrink, beta * shrink])
    p, q = order
    model = ZeroMean(moves, volatility=GARCH(p=p, q=q), rescale=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result: Any = model.fit(disp="off", show_warning=False, starting_values=values, options={"maxiter": 200})
    except (ValueError, FloatingPointError, np.linalg.LinAlgError):
        return None
    numbers, sigma = (np.asarray(found, dtype=float) for found in (result.params, result.conditional_volatility))
    fit = VarianceFit(float(numbers[0]), numbers[1 : 1 + p], numbers[1 + p :], sigma, float(result.bic))
    healthy = result.convergence_flag == 0 and np.isfinite(numbers).all() and np.isfinite(sigma).all()
    calm = float(fit.alpha.sum() + fit.beta.sum()) < 1.0  # the variance returns to its mean
    return fit if healthy and calm and fit.omega > 0 and (sigma > 0).all() else None


_ALL: tuple[type[Baseline], ...] = (
    LastClose,
    Drift,
    SeasonalNaive,
    RandomWalkGaussian,
    RandomWalkResampled,
    RandomWalkResampledDrift,
    EwmaVolatility,
    Garch,
    GarchBest,
    Har,
    HarRefit,
)
BASELINES: dict[str, type[Baseline]] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by name, each made without arguments."""

MEANINGS = {name: baseline.meaning for name, baseline in BASELINES.items()}
RANKING = tuple(name for name, baseline in BASELINES.items() if baseline.ranks)
STRAIGHT = tuple(name for name, baseline in BASELINES.items() if baseline.straight)


def make_baselines(names: Sequence[str] | str = "all") -> list[Forecaster]:
    """Baselines by name; ``"all"`` gives every one of :data:`BASELINES`.

    Raises:
        ConfigError: an unknown name.
    """
    wanted = list(BASELINES) if names == "all" else [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in wanted if name not in BASELINES]:
        raise ConfigError(f"unknown baseline(s) {', '.join(unknown)}; known: {', '.join(BASELINES)}")
    return [BASELINES[name]() for name in wanted]

"""Baselines whose volatility changes from bar to bar: EWMA, GARCH and HAR, with moves of the context drawn anew."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.drawing import BarShapes, Baseline, build_bars, resampled_walk
from kronos.protocol import Context, FloatArray
from kronos.volatility import har_refit, log_levels, parkinson, pooled_har, usual_variance

Order = tuple[int, int]

#: ARCH(1..3) and GARCH(1..3, 1..3): (lags of the squared move, lags of the variance).
ALL_ORDERS: tuple[Order, ...] = tuple((p, q) for q in range(4) for p in range(1, 4))


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
            return resampled_walk(context, horizon, num_samples, rng)
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
    """The realised volatility of a pooled log-HAR model, and the context's bars drawn anew at that size.

    Each past move is divided by its own volatility (exponentially weighted, by the range of the bars before it); then
    all paths are brought to the level that the model expects over the whole horizon, on average of the logarithm; of
    too few bars for the model they keep the context's.
    """

    name = "har"
    meaning = "a volatility by a pooled log-HAR model (range, season, volume), and moves of the context drawn anew"
    decay = 0.94
    calmest = 0.02  # of the mean variance: the least that a bar has of its own, after bars that stood still

    def log_ratios(self, context: Context, horizon: int) -> FloatArray:
        """(horizon,) expected ln of the mean squared move up to each bar, over that of the context; NaN: not known."""
        return pooled_har().log_ratios(context, horizon)

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        moves, ranges, usual = context.log_returns(), parkinson(context.values), usual_variance(context)
        moves = moves - moves.mean()
        if not (moves != 0).any() or not usual > 0:
            return resampled_walk(context, horizon, num_samples, rng)
        local = np.empty(len(ranges))
        local[0] = ranges.mean()
        for t, one in enumerate(ranges[:-1]):
            local[t + 1] = self.decay * local[t] + (1.0 - self.decay) * one
        local = np.maximum(local, self.calmest * ranges.mean())
        residual = moves / np.sqrt(local)
        residual = residual - residual.mean()
        picked = rng.integers(len(moves), size=(num_samples, horizon))
        wanted = self.log_ratios(context, horizon)[-1]
        steps = residual[picked] * np.sqrt(usual / (residual**2).mean())
        for _ in range(3 if np.isfinite(wanted) else 0):  # .02 before the logarithm: once does not quite reach it
            steps = steps * np.exp((wanted - log_levels(np.cumsum(steps, axis=1), usual)[-1]) / 2)
        stretch = np.sqrt((steps**2).mean() / (moves**2).mean() * ranges.mean() / local[picked])
        return build_bars(context.last_close, BarShapes.of(context), picked, steps, stretch)


class HarRefit(Har):
    """The same with coefficients fitted on every context."""

    name, meaning = "har-refit", "the same with a HAR(1, 5, 22) that is fitted on every context alone"

    def log_ratios(self, context: Context, horizon: int) -> FloatArray:
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

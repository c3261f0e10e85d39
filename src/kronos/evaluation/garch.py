"""GARCH baselines: fitted by ``arch`` on each context, simulated to paths with resampled residuals."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kronos.errors import MissingExtraError
from kronos.evaluation.baselines import Baseline, EwmaVolatility, filtered_paths
from kronos.protocol import Context, FloatArray

Order = tuple[int, int]

#: ARCH(1..3) and GARCH(1..3, 1..3): (lags of the squared move, lags of the variance).
ALL_ORDERS: tuple[Order, ...] = tuple((p, q) for q in range(4) for p in range(1, 4))


@dataclass(frozen=True)
class GarchFit:
    """``v[t] = omega + Σ alpha_i r[t-i]² + Σ beta_j v[t-j]`` on moves of unit variance."""

    omega: float
    alpha: FloatArray
    beta: FloatArray
    sigma: FloatArray  # (T-1,) fitted conditional volatility
    bic: float

    @property
    def persistence(self) -> float:
        """Σ alpha + Σ beta; below 1 the variance returns to its mean."""
        return float(self.alpha.sum() + self.beta.sum())


def fit_garch(moves: FloatArray, order: Order, start: GarchFit | None = None) -> GarchFit | None:
    """Gaussian quasi-maximum likelihood for one order; None where the optimiser fails.

    Args:
        moves: (T,) centred log moves scaled to unit variance (the optimiser's home ground).
        order: (p, q).
        start: a fit of a smaller order to begin at, instead of arch's own grid search.
    """
    try:
        from arch.univariate import GARCH, ZeroMean
    except ImportError as error:  # pragma: no cover - exercised by hiding the package in a test
        raise MissingExtraError("arch", "eval", "The GARCH baseline") from error
    p, q = order
    model = ZeroMean(moves, volatility=GARCH(p=p, q=q), rescale=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result: Any = model.fit(
                disp="off", show_warning=False, starting_values=_start_values(start, order), options={"maxiter": 200}
            )
    except (ValueError, FloatingPointError, np.linalg.LinAlgError):
        return None
    numbers = np.asarray(result.params, dtype=float)
    sigma = np.asarray(result.conditional_volatility, dtype=float)
    fit = GarchFit(float(numbers[0]), numbers[1 : 1 + p], numbers[1 + p :], sigma, float(result.bic))
    healthy = result.convergence_flag == 0 and np.isfinite(numbers).all() and np.isfinite(sigma).all()
    return fit if healthy and fit.omega > 0 and (sigma > 0).all() and fit.persistence < 1.0 else None


def _start_values(start: GarchFit | None, order: Order) -> FloatArray | None:
    """Parameters of a smaller order with tiny weights for the added lags."""
    if start is None:
        return None
    p, q = order
    alpha, beta = np.full(p, 0.01), np.full(q, 0.01)
    alpha[: min(p, len(start.alpha))] = np.maximum(start.alpha[:p], 0.01)
    beta[: min(q, len(start.beta))] = np.maximum(start.beta[:q], 0.01)
    total = alpha.sum() + beta.sum()
    shrink = min(1.0, 0.97 / total)
    return np.concatenate([[max(start.omega, 1e-3)], alpha * shrink, beta * shrink])


class Garch(Baseline):
    """GARCH paths: the order of lowest BIC among ``orders``, residuals resampled with their whole bars.

    Where no order can be fitted (too few bars, no convergence, explosive parameters) the context gets the EWMA
    baseline's paths, and ``fallbacks`` counts it.
    """

    def __init__(self, orders: Sequence[Order] = ((1, 1),), name: str = "garch") -> None:
        self.orders = tuple(orders)
        self.name = name
        self.fallbacks = 0

    @classmethod
    def best(cls) -> Garch:
        """The best of ARCH and GARCH up to (3, 3) by BIC, chosen anew on each context."""
        return cls(ALL_ORDERS, "garch-best")

    def choose(self, moves: FloatArray) -> GarchFit | None:
        """The fit of lowest BIC on unit-variance moves (T,); larger orders start from the GARCH(1,1) solution."""
        best: GarchFit | None = None
        seed_fit: GarchFit | None = None
        for order in sorted(self.orders, key=lambda o: (o != (1, 1), o[1], o[0])):
            fit = fit_garch(moves, order, seed_fit if order[1] > 0 else None)
            if order == (1, 1):
                seed_fit = fit
            if fit is not None and (best is None or fit.bic < best.bic):
                best = fit
        return best

    def paths(self, context: Context, horizon: int, num_samples: int, rng: np.random.Generator) -> FloatArray:
        """(num_samples, horizon, 6)."""
        moves = context.log_returns()
        moves = moves - moves.mean()
        unit = float(moves.std())
        fit = self.choose(moves / unit) if unit > 0 and len(moves) >= 30 else None
        if fit is None:
            self.fallbacks += 1
            return EwmaVolatility().paths(context, horizon, num_samples, rng)
        scaled = moves / unit
        state = _Recursion(fit, scaled, num_samples)
        first = float(state.variance()[0])

        def advance(made: FloatArray) -> FloatArray:
            return unit**2 * state.push(made / unit)

        sigma = fit.sigma * unit
        return filtered_paths(context, moves, sigma, advance, first * unit**2, (num_samples, horizon), rng)


class _Recursion:
    """The variance recursion of many paths at once, begun at the end of the context."""

    def __init__(self, fit: GarchFit, moves: FloatArray, size: int) -> None:
        p, q = len(fit.alpha), len(fit.beta)
        self._fit = fit
        self._squares = [np.full(size, moves[-1 - i] ** 2) for i in range(p)]  # newest first
        self._variances = [np.full(size, fit.sigma[-1 - j] ** 2) for j in range(q)]
        self._now = self._next()

    def _next(self) -> FloatArray:
        total = np.full(len(self._squares[0]), self._fit.omega)
        for weight, square in zip(self._fit.alpha, self._squares, strict=True):
            total = total + weight * square
        for weight, variance in zip(self._fit.beta, self._variances, strict=True):
            total = total + weight * variance
        return total

    def variance(self) -> FloatArray:
        """(S,) variances of the bar to come."""
        return self._now

    def push(self, made: FloatArray) -> FloatArray:
        """Take the moves (S,) of the bar to come and return the variances of the one after it."""
        self._squares = [made**2, *self._squares[:-1]]
        if self._variances:
            self._variances = [self._now, *self._variances[:-1]]
        self._now = self._next()
        return self._now

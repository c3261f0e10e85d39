"""What every transform has, the arithmetic that they share, and the two that look at a context as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DEFAULT_CLIP = 5.0
QUIETEST = -0.8  # of the clip: positive volumes are kept above this, so that …
ZERO_BELOW = -0.9  # … anything decoded below this can only mean zero
LOG_LARGEST = 80.0  # float32, in which paths are kept, ends at exp(±87)
_EPSILON = 1e-5  # the published guard against a constant column
_SIGMA_FLOOR = 1e-6  # a context whose close never moves
_LOG_VOLUME_FLOOR = 0.05  # spread of log volume below which it counts as constant


class BarTransform(Protocol):
    """A fitted-per-context, invertible map between bars and features."""

    lost: int  # leading bars of a context that give no feature
    takes_moves: bool  # logs of ratios: prices must be positive, and whatever is decoded is a valid bar
    causal: bool  # each feature follows from its own and earlier bars, wherever the context ends

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> Any:
        """Statistics of a context.

        Args:
            values: (…, T, 6) bars.
            length: (…) how many leading bars are the context; None means all T.
            clip: bound of every feature.
        """
        ...

    def encode(self, values: Array, state: Any) -> NDArray[np.float32]:
        """(…, T, 6) bars -> (…, T - lost, 6) features."""
        ...

    def decode(self, features: Array, state: Any) -> NDArray[np.float64]:
        """(S, H, 6) features that follow the fitted context -> (S, H, 6) bars."""
        ...


def log_ratio(a: Array, b: Array) -> Array:
    """``ln(a / b)``, exact to rounding also where a and b nearly agree."""
    return np.log1p((a - b) / b)


def log_moves(values: Array) -> Array:
    """(…, T, 6) bars -> (…, T - 1, 4): gap from the close before, upper and lower shadow, body; all in logs."""
    before = values[..., :-1, 3]
    o, h, low, c = (values[..., 1:, i] for i in range(4))
    upper, lower = log_ratio(h, np.maximum(o, c)), log_ratio(np.minimum(o, c), low)
    return np.stack((log_ratio(o, before), np.maximum(upper, 0.0), np.maximum(lower, 0.0), log_ratio(c, o)), axis=-1)


def prices_after(last_close: Array, moves: Array) -> Array:
    """Inverse of :func:`log_moves`: (…) closes and (…, S, H, 4) moves that follow them -> (…, S, H, 4) prices."""
    gap, upper, lower, body = (moves[..., i] for i in range(4))
    anchor = np.log(np.asarray(last_close, dtype=np.float64))[..., None, None]
    log_close = anchor + np.cumsum(gap + body, axis=-1)
    log_open = log_close - body
    top = np.maximum(log_open, log_close) + np.maximum(upper, 0.0)
    bottom = np.minimum(log_open, log_close) - np.maximum(lower, 0.0)
    return finite_exp(np.stack((log_open, top, bottom, log_close), axis=-1))


def finite_exp(x: Array) -> Array:
    """``exp`` that stays a positive float32 however wild the path."""
    return np.asarray(np.exp(np.clip(x, -LOG_LARGEST, LOG_LARGEST)))


def traded_features(traded: Array, mean: Array, spread: Array, known: Array, clip: float) -> Array:
    """(…, T, 2) volume and amount -> features: standardised logs, ``-clip`` for none, 0 where none is ever known."""
    positive = traded > 0
    z = (np.log(np.where(positive, traded, 1.0)) - mean) / spread
    return np.where(known, np.where(positive, np.clip(z, QUIETEST * clip, clip), -clip), 0.0)


def join_features(moves: Array, traded: Array, clip: float) -> NDArray[np.float32]:
    """(…, T, 4) scaled moves, which are clipped, and (…, T, 2) :func:`traded_features` -> (…, T, 6) features."""
    return np.concatenate((np.clip(moves, -clip, clip), traded), axis=-1).astype(np.float32)


# --- the two whose statistics are those of the whole context -------------------------------------------


@dataclass(frozen=True)
class ZScoreState:
    mean: Array  # (…, 6) float32
    scale: Array  # (…, 6) float32, standard deviation plus the guard
    clip: float


class ZScore:
    """The published transform, in float32 so that published tokens come out bit for bit."""

    lost = 0
    takes_moves = False
    causal = False

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> ZScoreState:
        x = np.asarray(values, dtype=np.float32)
        if length is None:  # published tables lie column by column, which is how their numbers were added up
            x = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
            mean, std = x.mean(axis=-2), x.std(axis=-2)
        else:
            known = _leading(x.shape[-2], length)[..., None]
            mean, std = (moment.astype(np.float32) for moment in _moments(x, known))
        return ZScoreState(mean, std + np.float32(_EPSILON), clip)

    def encode(self, values: Array, state: ZScoreState) -> NDArray[np.float32]:
        x = np.asarray(values, dtype=np.float32)
        z = (x - state.mean[..., None, :]) / state.scale[..., None, :]
        return np.clip(z, -state.clip, state.clip)

    def decode(self, features: Array, state: ZScoreState) -> NDArray[np.float64]:
        x = np.asarray(features, dtype=np.float32)
        return (x * state.scale[..., None, :] + state.mean[..., None, :]).astype(np.float64)


@dataclass(frozen=True)
class ReturnsState:
    sigma: Array  # (…) one bar's typical log move
    last_close: Array  # (…) where the market stands
    log_mean: Array  # (…, 2) of positive volume and amount
    log_std: Array  # (…, 2); 0 marks a column without a single positive value
    clip: float


class Returns:
    """Moves in units of the context's volatility; see the module's text."""

    lost = 1
    takes_moves = True
    causal = False

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> ReturnsState:
        close = values[..., 3]
        n_bars = values.shape[-2]
        if length is None:
            length = np.full(values.shape[:-2], n_bars)
        known = _leading(n_bars, length)  # (…, T)
        _, std = _moments(log_ratio(close[..., 1:], close[..., :-1])[..., None], known[..., 1:, None])
        last = np.take_along_axis(close, np.asarray(length)[..., None] - 1, axis=-1)[..., 0]
        traded = values[..., 4:]
        positive = (traded > 0) & known[..., None]
        mean, spread = _moments(np.log(np.where(positive, traded, 1.0)), positive)
        spread = np.where(positive.any(-2), np.maximum(spread, _LOG_VOLUME_FLOOR), 0.0)
        return ReturnsState(np.maximum(std[..., 0], _SIGMA_FLOOR), last, mean, spread, clip)

    def encode(self, values: Array, state: ReturnsState) -> NDArray[np.float32]:
        moves = np.arcsinh(log_moves(values) / state.sigma[..., None, None])
        mean, std = state.log_mean[..., None, :], state.log_std[..., None, :]
        known = std > 0  # a context without volume knows none later either
        traded = traded_features(values[..., 1:, 4:], mean, np.where(known, std, 1.0), known, state.clip)
        return join_features(moves, traded, state.clip)

    def decode(self, features: Array, state: ReturnsState) -> NDArray[np.float64]:
        f = np.clip(np.asarray(features, dtype=np.float64), -state.clip, state.clip)
        moves = np.sinh(f[..., :4]) * np.asarray(state.sigma)[..., None, None, None]
        mean, std = state.log_mean[..., None, None, :], state.log_std[..., None, None, :]
        z = f[..., 4:]
        traded = np.where((std > 0) & (z >= ZERO_BELOW * state.clip), finite_exp(z * std + mean), 0.0)
        return np.concatenate((prices_after(state.last_close, moves), traded), axis=-1)


def _leading(n_bars: int, length: Array) -> Array:
    """(…, T) bool, True for the first ``length`` bars."""
    return np.arange(n_bars) < np.asarray(length)[..., None]


def _moments(x: Array, known: Array) -> tuple[Array, Array]:
    """Mean and population standard deviation over the bars (axis -2) that are known."""
    count = np.maximum(known.sum(-2), 1)
    mean = np.where(known, x, 0.0).sum(-2) / count
    variance = (np.where(known, x - mean[..., None, :], 0.0) ** 2).sum(-2) / count
    return mean, np.sqrt(variance)

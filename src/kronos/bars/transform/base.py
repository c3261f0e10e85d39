"""What every transform has, and the arithmetic that they share."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DEFAULT_CLIP = 5.0
QUIETEST = -0.8  # of the clip: positive volumes are kept above this, so that …
ZERO_BELOW = -0.9  # … anything decoded below this can only mean zero
LOG_LARGEST = 80.0  # float32, in which paths are kept, ends at exp(±87)


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


def leading(n_bars: int, length: Array) -> Array:
    """(…, T) bool, True for the first ``length`` bars."""
    return np.arange(n_bars) < np.asarray(length)[..., None]


def masked_moments(x: Array, known: Array) -> tuple[Array, Array]:
    """Mean and population standard deviation over the bars (axis -2) that are known."""
    count = np.maximum(known.sum(-2), 1)
    mean = np.where(known, x, 0.0).sum(-2) / count
    variance = (np.where(known, x - mean[..., None, :], 0.0) ** 2).sum(-2) / count
    return mean, np.sqrt(variance)

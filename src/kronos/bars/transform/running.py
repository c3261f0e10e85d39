"""``running``: moves in units of a running volatility, known before each bar.

The variance of a bar is a mean over the bars before it of

    ln(open / previous close)² + ln(high / low)² / (4 ln 2),

the gap and Parkinson's (1980) estimate of what happened inside the bar: four fifths the exponentially weighted mean
(λ = .94, as RiskMetrics has it), one fifth the mean with equal weights, to which volatility returns after a while, and
which a halt does not wear down. Log volume and log amount are standardised by weighted means
of the same kind. Where volatility has changed within the context a model starts from where it is now, and a decoded
path carries its own volatility along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kronos.bars.transform.base import (
    DEFAULT_CLIP,
    LOG_LARGEST,
    ZERO_BELOW,
    Array,
    join_features,
    log_moves,
    log_ratio,
    prices_after,
    traded_features,
)

DECAY = 0.94
_SLOW_SHARE = 0.2  # of the mean with equal weights
_LEAST, _MOST = 1e-12, 10.0  # variance of bars that never move, and of a path gone wild
_BLOCK = 1024  # bars: no power of DECAY in between leaves float64
_SEEN = 1e-6  # weight of bars with volume below which none is known


@dataclass(frozen=True)
class Sums:
    """Sums over the bars so far; leading dimensions of any shape, a last one of volume and amount."""

    variance: Array  # (…) weighted
    weight: Array  # (…)
    slow: Array  # (…) variance, every bar alike
    bars: Array  # (…) how many
    known: Array  # (…, 2) weight of the bars with volume
    log: Array  # (…, 2) weighted
    square: Array  # (…, 2) weighted

    def sigma(self) -> Array:
        """(…) volatility of the next bar."""
        return np.sqrt(_variance(self.variance, self.weight, self.slow, self.bars))

    def volume(self) -> tuple[Array, Array]:
        """Mean and spread of log volume and log amount, (…, 2) each."""
        return _volume(self.known, self.log, self.square)

    def at(self, index: tuple[Any, ...]) -> Sums:
        """The sums at an index of the leading dimensions."""
        return Sums(*(np.asarray(sums)[index] for sums in vars(self).values()))


@dataclass(frozen=True)
class RunningState:
    """What a path goes on from."""

    last_close: Array  # (…)
    sums: Sums  # (…), after the context's last bar
    clip: float

    @property
    def sigma(self) -> Array:
        """(…) volatility at the end of the context."""
        return self.sums.sigma()


class RunningReturns:
    """Moves in units of the volatility of the bars before; see the module's text.

    Args:
        gain: what decoded moves are multiplied by. A token stands for many bars and is decoded to their mean, whose
            moves are smaller than theirs; where a path's volatility feeds on its moves, that would add up.
    """

    lost = 1
    takes_moves = True
    causal = True

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> RunningState:
        last = np.broadcast_to(np.asarray(values.shape[-2] if length is None else length) - 1, values.shape[:-2])
        where = (*np.indices(last.shape), last)
        return RunningState(np.asarray(values[..., 3], dtype=np.float64)[where], _sums(values).at(where), clip)

    def encode(self, values: Array, state: RunningState) -> NDArray[np.float32]:
        before = _sums(values).at((*(slice(None),) * (values.ndim - 2), slice(None, -1)))
        x = values.astype(np.float64)
        moves = np.arcsinh(log_moves(x) / before.sigma()[..., None])
        traded = traded_features(x[..., 1:, 4:], *before.volume(), before.known > _SEEN, state.clip)
        return join_features(moves, traded, state.clip)

    def decode(self, features: Array, state: RunningState) -> NDArray[np.float64]:
        f = np.clip(np.asarray(features, dtype=np.float64), -state.clip, state.clip)
        moves = self.gain * np.sinh(f[..., :4])  # in units of each bar's σ
        moves *= _sigma_along(moves_variance(moves), state.sums)[..., None]
        prices = prices_after(state.last_close, moves)
        return np.concatenate((prices, _traded_along(f[..., 4:], state)), axis=-1)


def bar_variance(gap: Array, reach: Array) -> Array:
    """A bar's variance from its gap and its reach, high over low, both in logs."""
    return np.asarray(gap**2 + reach**2 / (4.0 * np.log(2.0)))


def moves_variance(moves: Array) -> Array:
    """The same from (…, 4) moves, as :func:`log_moves` has them; a shadow below 0 counts as none."""
    gap, upper, lower, body = (moves[..., i] for i in range(4))
    return bar_variance(gap, np.abs(body) + np.maximum(upper, 0.0) + np.maximum(lower, 0.0))


def _sums(values: Array) -> Sums:
    """Sums after each bar of (…, T, 6)."""
    x = values.astype(np.float64)
    gap = np.zeros(x.shape[:-1])
    gap[..., 1:] = log_ratio(x[..., 1:, 0], x[..., :-1, 3])
    variance = bar_variance(gap, log_ratio(x[..., 1], x[..., 2]))
    positive = x[..., 4:] > 0
    volume = np.log(np.where(positive, x[..., 4:], 1.0))
    one = np.ones_like(gap)
    return Sums(
        _weighted(variance, -1),
        _weighted(one, -1),
        np.cumsum(variance, axis=-1),
        np.cumsum(one, axis=-1),
        _weighted(positive.astype(np.float64), -2),
        _weighted(volume, -2),
        _weighted(volume**2, -2),
    )


def _weighted(x: Array, axis: int) -> Array:
    """Running sums along an axis, every step a little of the past forgotten: ``s[t] = DECAY * s[t - 1] + x[t]``."""
    x = np.moveaxis(x, axis, -1)
    out = np.empty_like(x)
    carried: Array = np.zeros((*x.shape[:-1], 1))
    for start in range(0, x.shape[-1], _BLOCK):
        block = slice(start, start + _BLOCK)
        left = DECAY ** np.arange(1, x[..., block].shape[-1] + 1)  # of what was there before the block
        out[..., block] = (carried + np.cumsum(x[..., block] / left, axis=-1)) * left
        carried = out[..., block][..., -1:]
    return np.moveaxis(out, -1, axis)


def _variance(weighted: Array, weight: Array, slow: Array, bars: Array) -> Array:
    mean = (1.0 - _SLOW_SHARE) * (weighted / weight) + _SLOW_SHARE * (slow / bars)
    return np.asarray(np.minimum(np.maximum(mean, _LEAST), _MOST))


def _volume(known: Array, log: Array, square: Array) -> tuple[Array, Array]:
    """Mean and spread of log volume and log amount; the spread leans on 1, one bar's worth."""
    mean = log / np.maximum(known, _SEEN)
    inside = np.maximum(square - known * mean**2, 0.0)
    return mean, np.sqrt((inside + 1.0) / (known + 1.0))


def _sigma_along(squares: Array, sums: Sums) -> Array:
    """(…, S, H) volatility before each bar of paths, from what each bar moves in units of it, squared."""
    weighted, weight, slow, bars = (
        np.asarray(part)[..., None] for part in (sums.variance, sums.weight, sums.slow, sums.bars)
    )
    out = np.empty_like(squares)
    for bar in range(squares.shape[-1]):
        out[..., bar] = variance = _variance(weighted, weight, slow, bars)
        moved = variance * squares[..., bar]
        weighted, weight = DECAY * weighted + moved, DECAY * weight + 1.0
        slow, bars = slow + moved, bars + 1.0
    return np.sqrt(out)


def _traded_along(z: Array, state: RunningState) -> Array:
    """(…, S, H, 2) volume and amount of paths from their features; nothing where the context knows none."""
    known, log, square = (np.asarray(s)[..., None, :] for s in (state.sums.known, state.sums.log, state.sums.square))
    some = z >= ZERO_BELOW * state.clip
    logs = np.empty_like(z)
    for bar in range(z.shape[-2]):
        mean, spread = _volume(known, log, square)
        some[..., bar, :] &= known > _SEEN
        positive = some[..., bar, :]
        value = np.clip(z[..., bar, :] * spread + mean, -LOG_LARGEST, LOG_LARGEST) * positive
        logs[..., bar, :] = value
        known, log, square = DECAY * known + positive, DECAY * log + value, DECAY * square + value**2
    return np.where(some, np.exp(logs), 0.0)

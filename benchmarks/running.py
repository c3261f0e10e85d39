"""A bar transform for experiments: returns in units of a running volatility, known before each bar.

As ``returns`` in :mod:`kronos.bars.transform`, but σ is no property of the context. The variance of bar t is the
exponentially weighted mean (λ = .94) over the bars before it of

    ln(open / previous close)² + ln(high / low)² / (4 ln 2),

the gap and Parkinson's estimate of what happened inside the bar. Volume and amount are standardised the same way. So
no feature of a bar knows anything of later bars, every bar of a window may be asked about, and where volatility has
changed within the context a model starts from where it is now. The inverse lets the volatility follow the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from kronos.bars.transform import DEFAULT_CLIP, TransformName

Array = NDArray[Any]
DECAY = 0.94
_FLOOR = 1e-12  # of the variance
_QUIETEST, _ZERO_BELOW = -0.8, -0.9  # of the clip: positive volumes stay above, anything decoded below means zero


@dataclass(frozen=True)
class Sums:
    """Exponentially weighted sums over the bars so far; leading dimensions of any shape, last one: volume, amount."""

    variance: Array  # (…)
    count: Array  # (…) of bars
    known: Array  # (…, 2) of bars with volume
    log: Array  # (…, 2)
    square: Array  # (…, 2)

    def sigma(self) -> Array:
        """(…) the running volatility."""
        return np.sqrt(np.maximum(self.variance / np.maximum(self.count, 1e-9), _FLOOR))

    def volume(self) -> tuple[Array, Array]:
        """Mean and spread of log volume and log amount, (…, 2) each; the spread leans on 1, one bar's worth."""
        mean = self.log / np.maximum(self.known, 1e-9)
        inside = np.maximum(self.square - self.known * mean**2, 0.0)
        return mean, np.sqrt((inside + 1.0) / (self.known + 1.0))

    def after(self, variance: Array, traded: Array) -> Sums:
        """One more bar: its variance (…) and its volume and amount (…, 2)."""
        positive = traded > 0
        logs = np.log(np.where(positive, traded, 1.0))
        return Sums(
            DECAY * self.variance + variance,
            DECAY * self.count + 1.0,
            DECAY * self.known + positive,
            DECAY * self.log + logs,
            DECAY * self.square + logs**2,
        )

    def at(self, index: Any) -> Sums:
        """The sums at an index of the leading dimensions."""
        return Sums(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class RunningState:
    """What the path goes on from."""

    last_close: Array  # (…)
    sums: Sums  # (…), after the context's last bar
    clip: float

    @property
    def sigma(self) -> Array:
        """(…) volatility at the end of the context."""
        return self.sums.sigma()


class RunningReturns:
    """Moves in units of the volatility of the bars before; see the module's text."""

    name: TransformName = "returns"  # paths are valid bars, as those of ``returns`` are
    lost = 1

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> RunningState:
        """State after the first ``length`` (…) of the bars (…, T, 6)."""
        last = np.asarray(values.shape[-2] if length is None else length) - 1
        last = np.broadcast_to(last, values.shape[:-2])
        where = (*np.indices(last.shape), last)
        return RunningState(values[..., 3][where].astype(np.float64), _sums(values).at(where), clip)

    def encode(self, values: Array, state: RunningState) -> NDArray[np.float32]:
        """(…, T, 6) bars -> (…, T - 1, 6) features, each from the bars up to its own."""
        before = _sums(values).at((slice(None),) * (values.ndim - 2) + (slice(None, -1),))
        logs = np.log(values[..., :4].astype(np.float64))
        previous, (o, h, low, c) = logs[..., :-1, 3], (logs[..., 1:, i] for i in range(4))
        upper, lower = np.maximum(h - np.maximum(o, c), 0.0), np.maximum(np.minimum(o, c) - low, 0.0)
        moves = np.stack((o - previous, upper, lower, c - o), axis=-1) / before.sigma()[..., None]
        mean, spread = before.volume()
        traded = values[..., 1:, 4:]
        positive, seen = traded > 0, before.known > 1e-6
        z = (np.log(np.where(positive, traded, 1.0)) - mean) / spread
        z = np.clip(z, _QUIETEST * state.clip, state.clip)
        z = np.where(seen, np.where(positive, z, -state.clip), 0.0)
        return np.concatenate((np.clip(np.arcsinh(moves), -state.clip, state.clip), z), axis=-1).astype(np.float32)

    def decode(self, features: Array, state: RunningState) -> NDArray[np.float64]:
        """(S, H, 6) features that follow the context -> (S, H, 6) bars, the volatility following each path."""
        f = np.clip(np.asarray(features, dtype=np.float64), -state.clip, state.clip)
        n_paths = f.shape[0]
        sums = Sums(
            *(np.repeat(np.asarray(getattr(state.sums, k))[None], n_paths, 0) for k in Sums.__dataclass_fields__)
        )
        close = np.full(n_paths, np.log(float(state.last_close)))
        bars = np.empty_like(f)
        for bar in range(f.shape[1]):
            gap, upper, lower, body = (np.sinh(f[:, bar, :4]) * sums.sigma()[:, None]).T
            opening = close + gap
            close = opening + body
            high = np.maximum(opening, close) + np.maximum(upper, 0.0)
            low = np.minimum(opening, close) - np.maximum(lower, 0.0)
            mean, spread = sums.volume()
            z = f[:, bar, 4:]
            quiet = (sums.known <= 1e-6) | (z < _ZERO_BELOW * state.clip)
            traded = np.where(quiet, 0.0, np.exp(np.clip(z * spread + mean, -80.0, 80.0)))
            bars[:, bar, :4] = np.exp(np.clip(np.stack((opening, high, low, close), axis=-1), -80.0, 80.0))
            bars[:, bar, 4:] = traded
            sums = sums.after(running_variance(gap, high - low), traded)
        return bars


def running_variance(gap: Array, reach: Array) -> Array:
    """A bar's variance from its gap and its reach, high over low, both in logs."""
    return np.asarray(gap**2 + reach**2 / (4.0 * np.log(2.0)))


def _sums(values: Array) -> Sums:
    """Sums after each bar of (…, T, 6)."""
    logs = np.log(values[..., :4].astype(np.float64))
    gap = np.zeros(logs.shape[:-1])
    gap[..., 1:] = logs[..., 1:, 0] - logs[..., :-1, 3]
    positive = values[..., 4:] > 0
    volume = np.log(np.where(positive, values[..., 4:], 1.0).astype(np.float64))

    def weighted(x: Array, axis: int) -> Array:
        return np.asarray(lfilter([1.0], [1.0, -DECAY], x.astype(np.float64), axis=axis))

    return Sums(
        weighted(running_variance(gap, logs[..., 1] - logs[..., 2]), -1),
        weighted(np.ones_like(gap), -1),
        weighted(positive, -2),
        weighted(volume, -2),
        weighted(volume**2, -2),
    )

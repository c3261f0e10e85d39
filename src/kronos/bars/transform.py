"""Bars ↔ the six features that a tokenizer reads.

Two transforms, chosen by ``bar_transform`` in the tokenizer's config:

``zscore`` (published checkpoints)
    every column standardised over the context, clipped. Not scale-free, and a decoded bar need not be valid.

``returns`` (our checkpoints)
    with σ the standard deviation of the context's close-to-close log returns, each bar after the first becomes

    - ``asinh(ln(open / previous close) / σ)`` — the gap,
    - ``asinh(ln(high / max(open, close)) / σ)`` — the upper shadow, never negative,
    - ``asinh(ln(min(open, close) / low) / σ)`` — the lower shadow, never negative,
    - ``asinh(ln(close / open) / σ)`` — the body,
    - log volume and log amount, standardised over the context; zero stands apart at the lower end.

    The inverse accumulates from the context's last close, so a path starts where the market stands and every bar is
    valid by construction; scaling prices or volumes by a constant scales the forecast by the same constant.

Statistics come from the context alone. Shapes: ``…`` any leading dimensions, T bars, H horizon, 6 features in the order
of :data:`kronos.bars.schema.FEATURES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kronos.errors import ConfigError

Array = NDArray[Any]
TransformName = Literal["zscore", "returns"]

DEFAULT_CLIP = 5.0
_EPSILON = 1e-5  # the published guard against a constant column
_SIGMA_FLOOR = 1e-6  # a context whose close never moves
_LOG_VOLUME_FLOOR = 0.05  # spread of log volume below which it counts as constant
_QUIETEST = -0.8  # of the clip: positive volumes are kept above this, so that …
_ZERO_BELOW = -0.9  # … anything decoded below this can only mean zero
_LOG_LARGEST = 80.0  # float32, in which paths are kept, ends at exp(±87)


class BarTransform(Protocol):
    """A fitted-per-context, invertible map between bars and features."""

    name: TransformName
    lost: int  # leading bars of a context that give no feature

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


@dataclass(frozen=True)
class ZScoreState:
    mean: Array  # (…, 6) float32
    scale: Array  # (…, 6) float32, standard deviation plus the guard
    clip: float


class ZScore:
    """The published transform, in float32 so that published tokens come out bit for bit."""

    name: TransformName = "zscore"
    lost = 0

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> ZScoreState:
        x = np.asarray(values, dtype=np.float32)
        if length is None:
            mean, std = x.mean(axis=-2), x.std(axis=-2)
        else:
            known = _leading(x.shape[-2], length)[..., None]
            mean, std = (moment.astype(np.float32) for moment in _masked_moments(x, known))
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

    name: TransformName = "returns"
    lost = 1

    def fit(self, values: Array, length: Array | None = None, *, clip: float = DEFAULT_CLIP) -> ReturnsState:
        close = values[..., 3]
        n_bars = values.shape[-2]
        if length is None:
            length = np.full(values.shape[:-2], n_bars)
        known = _leading(n_bars, length)  # (…, T)
        _, std = _masked_moments(_log_ratio(close[..., 1:], close[..., :-1])[..., None], known[..., 1:, None])
        last = np.take_along_axis(close, np.asarray(length)[..., None] - 1, axis=-1)[..., 0]
        traded = values[..., 4:]
        positive = (traded > 0) & known[..., None]
        mean, spread = _masked_moments(np.log(np.where(positive, traded, 1.0)), positive)
        spread = np.where(positive.any(-2), np.maximum(spread, _LOG_VOLUME_FLOOR), 0.0)
        return ReturnsState(np.maximum(std[..., 0], _SIGMA_FLOOR), last, mean, spread, clip)

    def encode(self, values: Array, state: ReturnsState) -> NDArray[np.float32]:
        before = values[..., :-1, 3]
        o, h, low, c = (values[..., 1:, i] for i in range(4))
        sigma = state.sigma[..., None]
        moves = (
            _log_ratio(o, before),
            np.maximum(_log_ratio(h, np.maximum(o, c)), 0.0),
            np.maximum(_log_ratio(np.minimum(o, c), low), 0.0),
            _log_ratio(c, o),
        )
        features = np.empty((*o.shape, 6), dtype=np.float32)
        for i, move in enumerate(moves):
            features[..., i] = np.clip(np.arcsinh(move / sigma), -state.clip, state.clip)
        features[..., 4:] = self._encode_traded(values[..., 1:, 4:], state)
        return features

    def _encode_traded(self, traded: Array, state: ReturnsState) -> Array:
        mean, std = state.log_mean[..., None, :], state.log_std[..., None, :]
        positive = traded > 0
        z = (np.log(np.where(positive, traded, 1.0)) - mean) / np.where(std > 0, std, 1.0)
        z = np.where(positive, np.clip(z, _QUIETEST * state.clip, state.clip), -state.clip)
        return np.where(std > 0, z, 0.0)  # a context without volume knows none later either

    def decode(self, features: Array, state: ReturnsState) -> NDArray[np.float64]:
        f = np.clip(np.asarray(features, dtype=np.float64), -state.clip, state.clip)
        moves = np.sinh(f[..., :4]) * np.asarray(state.sigma)[..., None, None, None]
        gap, upper, lower, body = (moves[..., i] for i in range(4))
        anchor = np.log(np.asarray(state.last_close, dtype=np.float64))[..., None, None]
        log_close = anchor + np.cumsum(gap + body, axis=-1)
        log_open = log_close - body
        top = np.maximum(log_open, log_close) + np.maximum(upper, 0.0)
        bottom = np.minimum(log_open, log_close) - np.maximum(lower, 0.0)
        prices = _finite_exp(np.stack((log_open, top, bottom, log_close), axis=-1))
        mean, std = state.log_mean[..., None, None, :], state.log_std[..., None, None, :]
        z = f[..., 4:]
        traded = np.where((std > 0) & (z >= _ZERO_BELOW * state.clip), _finite_exp(z * std + mean), 0.0)
        return np.concatenate((prices, traded), axis=-1)


def get_transform(name: str) -> BarTransform:
    """The transform that a tokenizer's ``bar_transform`` names.

    Raises:
        ConfigError: no such transform.
    """
    if name == "zscore":
        return ZScore()
    if name == "returns":
        return Returns()
    raise ConfigError(f"bar_transform is {name!r}; choose 'zscore' or 'returns'")


def _log_ratio(a: Array, b: Array) -> Array:
    """``ln(a / b)``, exact to rounding also where a and b nearly agree."""
    return np.log1p((a - b) / b)


def _finite_exp(x: Array) -> Array:
    """``exp`` that stays a positive float32 however wild the path."""
    return np.asarray(np.exp(np.clip(x, -_LOG_LARGEST, _LOG_LARGEST)))


def _leading(n_bars: int, length: Array) -> Array:
    """(…, T) bool, True for the first ``length`` bars."""
    return np.arange(n_bars) < np.asarray(length)[..., None]


def _masked_moments(x: Array, known: Array) -> tuple[Array, Array]:
    """Mean and population standard deviation over the bars (axis -2) that are known."""
    count = np.maximum(known.sum(-2), 1)
    mean = np.where(known, x, 0.0).sum(-2) / count
    variance = (np.where(known, x - mean[..., None, :], 0.0) ** 2).sum(-2) / count
    return mean, np.sqrt(variance)

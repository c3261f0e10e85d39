"""``returns``: moves in units of the context's volatility."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kronos.bars.transform.base import (
    DEFAULT_CLIP,
    ZERO_BELOW,
    Array,
    finite_exp,
    join_features,
    leading,
    log_moves,
    log_ratio,
    masked_moments,
    prices_after,
    traded_features,
)

_SIGMA_FLOOR = 1e-6  # a context whose close never moves
_LOG_VOLUME_FLOOR = 0.05  # spread of log volume below which it counts as constant


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
        known = leading(n_bars, length)  # (…, T)
        _, std = masked_moments(log_ratio(close[..., 1:], close[..., :-1])[..., None], known[..., 1:, None])
        last = np.take_along_axis(close, np.asarray(length)[..., None] - 1, axis=-1)[..., 0]
        traded = values[..., 4:]
        positive = (traded > 0) & known[..., None]
        mean, spread = masked_moments(np.log(np.where(positive, traded, 1.0)), positive)
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

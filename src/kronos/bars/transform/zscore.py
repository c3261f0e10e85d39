"""``zscore``, the published transform: every column standardised over the context."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kronos.bars.transform.base import DEFAULT_CLIP, Array, leading, masked_moments

_EPSILON = 1e-5  # the published guard against a constant column


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
        if length is None:
            mean, std = x.mean(axis=-2), x.std(axis=-2)
        else:
            known = leading(x.shape[-2], length)[..., None]
            mean, std = (moment.astype(np.float32) for moment in masked_moments(x, known))
        return ZScoreState(mean, std + np.float32(_EPSILON), clip)

    def encode(self, values: Array, state: ZScoreState) -> NDArray[np.float32]:
        x = np.asarray(values, dtype=np.float32)
        z = (x - state.mean[..., None, :]) / state.scale[..., None, :]
        return np.clip(z, -state.clip, state.clip)

    def decode(self, features: Array, state: ZScoreState) -> NDArray[np.float64]:
        x = np.asarray(features, dtype=np.float32)
        return (x * state.scale[..., None, :] + state.mean[..., None, :]).astype(np.float64)

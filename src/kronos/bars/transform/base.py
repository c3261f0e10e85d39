"""What every transform has."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kronos.bars.transform.common import DEFAULT_CLIP, Array


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

"""One who was told what comes and one who guesses, for tests of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kronos.evaluation.baselines import RandomWalkResampled
from kronos.evaluation.protocol import Context, FloatArray


class Knowing(RandomWalkResampled):
    """Was told the closes to come.

    Args:
        bars: of all symbols, the future included.
        noise: standard deviation of the log error that each path gets.
    """

    parallel = False

    def __init__(self, bars: pd.DataFrame, noise: float = 0.0) -> None:
        super().__init__()
        self.name = "knowing"
        self.noise = noise
        self.closes = bars.set_index(["symbol", "timestamp"])["close"]

    def forecast(self, contexts: Sequence[Context], horizon: int, num_samples: int, seed: int) -> list[FloatArray]:
        """The true closes and their noise, as bars without shadows."""
        out = []
        for context in contexts:
            close = np.array([self.closes[context.symbol, t] for t in pd.DatetimeIndex(context.future_timestamps)])
            errors = np.random.default_rng(seed).normal(size=(num_samples, horizon))
            out.append(np.repeat((close * np.exp(self.noise * errors))[..., None], 6, axis=2))
        return out


class Stranger(RandomWalkResampled):
    """The yardstick under another name and with other random numbers."""

    parallel = False

    def __init__(self) -> None:
        super().__init__()
        self.name = "stranger"

    def forecast(self, contexts: Sequence[Context], horizon: int, num_samples: int, seed: int) -> list[FloatArray]:
        """As the parent, from another seed."""
        return super().forecast(contexts, horizon, num_samples, seed + 2000)

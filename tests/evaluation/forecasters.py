"""One who was told what comes and one who guesses, for tests of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kronos.evaluation.baselines import RandomWalkResampled
from kronos.protocol import Context, FloatArray
from kronos.spec import ForecastSpec


def asking(horizon: int, num_samples: int, seed: int = 0) -> ForecastSpec:
    """A spec in one short line."""
    return ForecastSpec(horizon=horizon, num_samples=num_samples, seed=seed)


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

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """The true closes and their noise, as bars without shadows."""
        out = []
        for context in contexts:
            close = np.array([self.closes[context.symbol, t] for t in pd.DatetimeIndex(context.future_timestamps)])
            errors = np.random.default_rng(spec.seed).normal(size=(spec.num_samples, spec.horizon))
            out.append(np.repeat((close * np.exp(self.noise * errors))[..., None], 6, axis=2))
        return out


class Stranger(RandomWalkResampled):
    """The yardstick under another name and with other random numbers."""

    parallel = False

    def __init__(self) -> None:
        super().__init__()
        self.name = "stranger"

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[FloatArray]:
        """As the parent, from another seed."""
        return super().sample_paths(contexts, spec.replace(seed=spec.seed + 2000))

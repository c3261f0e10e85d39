"""Synthetic forecasts for the tests of the views, the files and the charts; bars and tiny pairs for those of paths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import tiny

from kronos.bars import sample_bars
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor

MakeForecast = Callable[..., Forecast]


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return sample_bars("sp500").iloc[-90:].reset_index(drop=True)


@pytest.fixture(scope="module", params=["consistent", "published"])
def predictor(request: pytest.FixtureRequest) -> KronosPredictor:
    return tiny.predictor(getattr(tiny, request.param)())


@pytest.fixture
def make_forecast() -> MakeForecast:
    """A maker of forecasts whose paths are valid bars with the gaps, ties and spikes of real ones."""

    def make(
        paths: int = 40,
        horizon: int = 12,
        *,
        seed: int = 0,
        frequency: str = "D",
        volume: float = 1e6,
        history: int = 150,
        symbol: str | None = "ACME",
    ) -> Forecast:
        rng = np.random.default_rng(seed)
        times = pd.date_range(
            "2024-03-01 09:30" if frequency != "D" else "2024-03-01", periods=history + horizon, freq=frequency
        )
        past = _bars(rng, 1, history, 100.0, volume)[0].astype(np.float64)
        table = pd.DataFrame(past, columns=["open", "high", "low", "close", "volume", "amount"]).round(2)
        table.insert(0, "timestamp", times[:history])
        last = float(table["close"].iloc[-1]) if history else 100.0
        samples = _bars(rng, paths, horizon, last, volume)
        metadata = {"model": "test", "seed": seed, "cutoff": times[history - 1], "settings": {"top_p": 0.9}}
        return Forecast(samples, times[history:], metadata, history=table if history else None, symbol=symbol)

    return make


def _bars(rng: np.random.Generator, paths: int, horizon: int, start: float, volume: float) -> np.ndarray:
    """(paths, horizon, 6) valid bars in float32, a third of them flat."""
    if horizon == 0:
        return np.empty((paths, 0, 6), dtype=np.float32)
    moves = rng.standard_t(3, (paths, horizon)) * 0.01 * (rng.random((paths, horizon)) > 1 / 3)
    close = start * np.exp(np.cumsum(moves, axis=1))
    opened = np.concatenate([np.full((paths, 1), start), close[:, :-1]], axis=1)
    reach = np.abs(rng.normal(0, 0.004, (2, paths, horizon))) * (moves != 0)
    high = np.maximum(opened, close) * (1 + reach[0])
    low = np.minimum(opened, close) * (1 - reach[1])
    traded = volume * rng.lognormal(0, 0.3, (paths, horizon))
    return np.stack([opened, high, low, close, traded, traded * close], axis=-1).astype(np.float32)

"""Small synthetic markets for the evaluation's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from kronos.evaluation.windows import Series, Window
from kronos.protocol import Context

BarsMaker = Callable[..., pd.DataFrame]


def random_bars(
    length: int = 400, seed: int = 0, *, start: str = "2020-01-01", step: str = "1h", volatility: float = 0.01
) -> pd.DataFrame:
    """A random walk with valid bars and volume; fat-tailed moves."""
    rng = np.random.default_rng(seed)
    moves = rng.standard_t(5, size=length) * volatility
    close = 100.0 * np.exp(np.cumsum(moves))
    opening = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.1 * volatility, length))
    high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0, 0.5 * volatility, length)))
    low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0, 0.5 * volatility, length)))
    volume = rng.lognormal(5.0, 0.5, length)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=length, freq=step),
            "open": opening,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "amount": volume * (opening + high + low + close) / 4.0,
        }
    )


@pytest.fixture(scope="session")
def make_bars() -> BarsMaker:
    """The maker of synthetic bars."""
    return random_bars


@pytest.fixture
def window(make_bars: BarsMaker) -> Window:
    """Context of 200 bars, 12 bars of truth."""
    return Series.from_frame("AAA", make_bars()).window(300, 200, 12, "market_1h")


@pytest.fixture
def context(window: Window) -> Context:
    """The context of that window."""
    return window.context

"""A small checkpoint and series for the adapters: random walks with the ranges of bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kronos import KronosPredictor

REFERENCE = Path(__file__).parents[1] / "data" / "reference_tiny"
HORIZON = 6


@pytest.fixture(scope="session")
def tiny() -> KronosPredictor:
    return KronosPredictor.from_pretrained(REFERENCE, device="cpu")


@pytest.fixture
def bars() -> pd.DataFrame:
    """120 daily bars, by business day."""
    return walk(120, seed=3)


def walk(length: int, seed: int, frequency: str = "B") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, length)))
    opened = np.concatenate([[100.0], close[:-1]])
    reach = 1 + np.abs(rng.normal(0, 0.004, (2, length)))
    high, low = np.maximum(opened, close) * reach[0], np.minimum(opened, close) / reach[1]
    index = pd.date_range("2022-01-03", periods=length, freq=frequency, name="date")
    volume = 1e6 * rng.lognormal(0, 0.3, length)
    columns = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame(columns, index)


def needs(package: str) -> None:
    """Skips where a library is not here, or asks for an older pandas than is installed: make test-adapters has both."""
    pytest.importorskip(package, reason=f"{package} asks for another pandas than ours: make test-adapters runs this")

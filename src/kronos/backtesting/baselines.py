"""What any signal must beat: lots, and the past return of the very bars that the model saw."""

from __future__ import annotations

import numpy as np
import pandas as pd


def random_signal(index: pd.Index, seed: int) -> pd.Series:
    """Independent normal numbers for each (datetime, instrument)."""
    return pd.Series(np.random.default_rng(seed).standard_normal(len(index)), index=index)


def momentum_signal(index: pd.Index, closes: pd.DataFrame, lookback: int) -> pd.Series:
    """The return over the last ``lookback`` sessions of each (datetime, instrument).

    Args:
        closes: (sessions, instruments); suspended days take the last known close.
    """
    known = closes.ffill()
    past = known / known.shift(lookback) - 1.0
    past.index.name, past.columns.name = "datetime", "instrument"
    stacked = pd.Series(past.stack())
    return stacked.reindex(index)

"""Bars in which nothing happened: written by the source so that no row is missing."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.runs import long_runs
from kronos.bars.schema import PRICES

_RUN: Final = 3  # bars in a row; quiet minutes stand alone or in pairs
_RUN_UNKNOWN: Final = 10  # … where no volume says whether anybody traded
_MOST_FILLED: Final = 0.5  # of a series; where more days stand still, few people trade
_WEEKENDS: Final = 0.05  # of its other days; with more, it trades then


def flat_filler(bars: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """True on runs of bars of one series that repeat the close before four times over and trade nothing.

    Args:
        bars: a bars table of one symbol.
    """
    return long_runs(_still(bars), (_RUN if (bars["volume"] > 0).any() else _RUN_UNKNOWN) - 1)


def suspended_days(bars: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """True on days, one or more, that repeat the close before and trade nothing, in a series that knows its volume.

    Args:
        bars: a bars table of one symbol, a bar a day.
    """
    return _still(bars) & bool((bars["volume"] > 0).any())


def filled_days(bars: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """True on days that a source has filled although nobody could trade: suspended days, and weekends beside them.

    Of a market that trades on weekends, and of a series of which most days are so, none: there nobody traded.

    Args:
        bars: a bars table of daily bars, of one symbol or of many one below the other.
    """
    filled = np.zeros(len(bars), dtype=bool)
    if not (bars["volume"] == 0).any():
        return filled  # the usual case
    named = bars.groupby("symbol", sort=False, observed=True).indices if "symbol" in bars.columns else None
    for rows in [np.arange(len(bars))] if named is None else named.values():
        part = bars.iloc[rows]
        still = suspended_days(part)
        weekend = (pd.DatetimeIndex(part["timestamp"]).day_of_week >= 5) & ~still
        if still.mean() <= _MOST_FILLED and weekend.sum() <= _WEEKENDS * (~still).sum():
            filled[rows] = still
    return filled


def named_days(times: pd.DatetimeIndex) -> str:
    """The first few of some days, as an example in a report."""
    return ", ".join(f"{day:%Y-%m-%d}" for day in times[:4]) + " …" * (len(times) > 4)


def _still(bars: pd.DataFrame) -> npt.NDArray[np.bool_]:
    prices, volume = bars[list(PRICES)].to_numpy(), bars["volume"].to_numpy()
    before = np.append(np.nan, prices[:-1, 3])
    still: npt.NDArray[np.bool_] = (prices == before[:, None]).all(axis=1) & (volume == 0)
    return still

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


def _still(bars: pd.DataFrame) -> npt.NDArray[np.bool_]:
    prices, volume = bars[list(PRICES)].to_numpy(), bars["volume"].to_numpy()
    before = np.append(np.nan, prices[:-1, 3])
    still: npt.NDArray[np.bool_] = (prices == before[:, None]).all(axis=1) & (volume == 0)
    return still

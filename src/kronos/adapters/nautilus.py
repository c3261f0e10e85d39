"""Bars of nautilus_trader as a bars table, and forecast bars as theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from nautilus_trader.model.data import Bar
from nautilus_trader.model.objects import Price, Quantity

from kronos.bars import read_bars
from kronos.bars.schema import FEATURES
from kronos.errors import ConfigError, DataError
from kronos.inference.forecast import Forecast


def bars_from_nautilus(bars: Sequence[Bar]) -> pd.DataFrame:
    """A list of ``Bar`` of one type as a bars table, with the instrument as symbol and times in UTC.

    Nautilus stamps a bar at its close: pass ``stamp="end"`` where the times to come are to be found by a calendar.

    Raises:
        DataError: no bars, bars of several types, or bars that ``read_bars`` refuses.
    """
    if not bars:
        raise DataError("There are no bars in the list.")
    kinds = sorted({str(bar.bar_type) for bar in bars})
    if len(kinds) > 1:
        raise DataError(f"The list holds bars of {len(kinds)} types ({', '.join(kinds[:3])}); give those of one.")
    rows = [[float(part) for part in (bar.open, bar.high, bar.low, bar.close, bar.volume)] for bar in bars]
    table = pd.DataFrame(rows, columns=list(FEATURES[:5]))
    table.insert(0, "timestamp", pd.to_datetime([bar.ts_event for bar in bars], unit="ns", utc=True))
    return read_bars(table, symbol=str(bars[0].bar_type.instrument_id))


def bars_to_nautilus(source: Forecast | pd.DataFrame, like: Bar, path: int | None = None) -> list[Bar]:
    """Forecast bars, or a bars table, as a list of ``Bar``.

    Args:
        source: a forecast, or a table with ``timestamp`` and the features.
        like: a bar whose type and whose decimals of price and size the new ones have.
        path: which sample path of a forecast; None: the mean bars.

    Raises:
        ConfigError: no such path.
    """
    if isinstance(source, Forecast):
        if path is not None and not 0 <= path < source.num_samples:
            raise ConfigError(f"path counts sample paths from 0 to {source.num_samples - 1}; it is {path}.")
        values = source.mean().to_numpy() if path is None else source.samples[path].astype(np.float64)
        times = source.timestamps
    else:
        values, times = source[list(FEATURES)].to_numpy(dtype=np.float64), pd.DatetimeIndex(source["timestamp"])
    moments = (times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")).as_unit("ns").asi8
    return [_bar(like, row, int(moment)) for row, moment in zip(values, moments, strict=True)]


def _bar(like: Bar, row: Any, moment: int) -> Bar:
    prices = [Price(float(value), like.close.precision) for value in row[:4]]
    return Bar(like.bar_type, *prices, Quantity(float(row[4]), like.volume.precision), moment, moment)

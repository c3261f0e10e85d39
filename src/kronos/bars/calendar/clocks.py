"""The clock that timestamps were written by: from wall time to UTC nanoseconds and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.calendar.markets import FX, Market

Nanos = npt.NDArray[np.int64]

_SERVER: Final = "New York + 7 h (MetaTrader server)"


@dataclass(frozen=True)
class Clock:
    """Reads naive timestamps as wall time in ``zone`` plus ``shift`` hours.

    Aware timestamps know their own zone; for them the clock only serves to convert.
    """

    label: str
    zone: str
    shift: int = 0

    def to_utc(self, times: pd.DatetimeIndex) -> Nanos:
        """Nanoseconds of UTC, one a timestamp."""
        times = times.as_unit("ns")
        if times.tz is not None:
            return times.asi8
        moved = times - pd.Timedelta(hours=self.shift)
        # The repeated autumn hour is read as its first pass; no exchange trades then.
        local = moved.tz_localize(self.zone, ambiguous=np.ones(len(moved), dtype=bool), nonexistent="shift_forward")
        return local.tz_convert("UTC").asi8

    def from_utc(self, nanos: Nanos, like: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The same instants written as ``like`` is written: in its zone, or naive by this clock."""
        aware = pd.DatetimeIndex(np.asarray(nanos, dtype="datetime64[ns]")).tz_localize("UTC")
        if like.tz is not None:
            return aware.tz_convert(like.tz)
        return aware.tz_convert(self.zone).tz_localize(None) + pd.Timedelta(hours=self.shift)


def clocks_for(market: Market, times: pd.DatetimeIndex) -> list[Clock]:
    """The clocks that stamps for this market may be written by, likeliest first."""
    local = Clock(market.zone, market.zone)
    if times.tz is not None or len(times) < 2:
        return [local if market.name != FX else Clock("UTC", "UTC")]
    utc = Clock("UTC", "UTC")
    if market.name == FX:
        return [utc, local, Clock(_SERVER, market.zone, 7), Clock("Europe/Athens", "Europe/Athens")]
    return [local] if market.zone == "UTC" else [local, utc]

"""Bars that a calendar says are due and that are not there."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kronos.bars.calendar.frequency import BarSize
from kronos.bars.calendar.grid import intraday_stamps
from kronos.bars.calendar.guess import Fit
from kronos.bars.calendar.markets import ALWAYS, RULES, Nanos, market


def missing_before(times: pd.DatetimeIndex, size: BarSize, calendar: str | None, fit: Fit | None) -> Nanos | None:
    """How many bars are missing just before each timestamp; None where no calendar says what is due."""
    if size.unit in ("w", "mo"):
        return None
    if fit is not None:
        nanos = fit.clock.to_utc(times)
        due, _ = intraday_stamps(fit.market.sessions_around(nanos), size, fit.grid, fit.market.zone)
    elif calendar == ALWAYS:
        steps = np.diff(times.as_unit("ns").asi8) / size.delta.value
        return np.maximum(np.round(np.append(1, steps)).astype(np.int64) - 1, 0)
    elif calendar is not None and calendar not in RULES and not size.intraday and size.count == 1:
        wall = times.tz_localize(None).normalize().as_unit("ns")
        nanos, due = wall.asi8, market(calendar).days(wall[0], wall[-1]).dates
    else:
        return None
    # Of the bars due between two timestamps, those not present are missing.
    between = np.diff(np.searchsorted(due, nanos)) - np.isin(nanos, due)[:-1]
    return np.append(0, np.maximum(between, 0))

"""When bars fall: bar sizes, the sessions of markets, which calendar timestamps follow, and the bars to come."""

from kronos.bars.calendar.frames import calendar_covariates
from kronos.bars.calendar.frequency import BarSize, infer_frequency, parse_frequency
from kronos.bars.calendar.future import FutureTimes, future_times, future_timestamps, infer_calendar
from kronos.bars.calendar.grid import Stamp
from kronos.bars.calendar.markets import calendar_aliases, calendar_names
from kronos.bars.calendar.year import SESSIONS_A_YEAR, BarsAYear, bars_a_year

__all__ = [
    "SESSIONS_A_YEAR",
    "BarSize",
    "BarsAYear",
    "FutureTimes",
    "Stamp",
    "bars_a_year",
    "calendar_aliases",
    "calendar_covariates",
    "calendar_names",
    "future_times",
    "future_timestamps",
    "infer_calendar",
    "infer_frequency",
    "parse_frequency",
]

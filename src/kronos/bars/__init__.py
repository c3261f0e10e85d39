"""Tables and time: schema and validation, readers of real-world layouts, calendars, sources and stores.

Everything is loaded when it is first used; importing this package alone loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronos.bars.calendar import FutureTimes, future_times, future_timestamps, infer_calendar
    from kronos.bars.frequency import BarSize, infer_frequency, parse_frequency
    from kronos.bars.read import read_bars
    from kronos.bars.report import BarsReport, Defect
    from kronos.bars.samples import sample_bars, sample_path
    from kronos.bars.schema import FEATURES, PRICES, TIME_FEATURES, to_table
    from kronos.bars.validate import validate_bars

_WHERE = {
    "FEATURES": "schema",
    "PRICES": "schema",
    "TIME_FEATURES": "schema",
    "BarSize": "frequency",
    "BarsReport": "report",
    "Defect": "report",
    "FutureTimes": "calendar",
    "future_times": "calendar",
    "future_timestamps": "calendar",
    "infer_calendar": "calendar",
    "infer_frequency": "frequency",
    "parse_frequency": "frequency",
    "read_bars": "read",
    "sample_bars": "samples",
    "sample_path": "samples",
    "to_table": "schema",
    "validate_bars": "validate",
}

__all__ = [
    "FEATURES",
    "PRICES",
    "TIME_FEATURES",
    "BarSize",
    "BarsReport",
    "Defect",
    "FutureTimes",
    "future_times",
    "future_timestamps",
    "infer_calendar",
    "infer_frequency",
    "parse_frequency",
    "read_bars",
    "sample_bars",
    "sample_path",
    "to_table",
    "validate_bars",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""Tables and time: schema and validation, readers of real-world layouts, calendars, sources and stores.

Everything is loaded when it is first used; importing this package alone loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kronos.bars.adjust import SplitSuspect, adjust_bars, split_suspects
    from kronos.bars.breaks import Break, find_breaks
    from kronos.bars.calendar import (
        BarSize,
        FutureTimes,
        calendar_aliases,
        calendar_covariates,
        calendar_names,
        future_times,
        future_timestamps,
        infer_calendar,
        infer_frequency,
        parse_frequency,
    )
    from kronos.bars.clean import CLEANING, CleanedBars, CleaningRule, clean_bars
    from kronos.bars.reading import describe, inspect_bars, read_bars, sample_bars, validate_bars
    from kronos.bars.report import BarsReport, Defect
    from kronos.bars.resample import resample_bars
    from kronos.bars.samples import SAMPLES, sample_path
    from kronos.bars.schema import FEATURES, PRICES, TIME_FEATURES, to_table
    from kronos.bars.store import BarStore, fetch_bars, import_bars, write_bars

__all__ = [
    "CLEANING",
    "FEATURES",
    "PRICES",
    "SAMPLES",
    "TIME_FEATURES",
    "BarSize",
    "BarStore",
    "BarsReport",
    "Break",
    "CleanedBars",
    "CleaningRule",
    "Defect",
    "FutureTimes",
    "SplitSuspect",
    "adjust_bars",
    "calendar_aliases",
    "calendar_covariates",
    "calendar_names",
    "clean_bars",
    "describe",
    "fetch_bars",
    "find_breaks",
    "future_times",
    "future_timestamps",
    "import_bars",
    "infer_calendar",
    "infer_frequency",
    "inspect_bars",
    "parse_frequency",
    "read_bars",
    "resample_bars",
    "sample_bars",
    "sample_path",
    "split_suspects",
    "to_table",
    "validate_bars",
    "write_bars",
]

_HOMES = {
    "adjust": ("SplitSuspect", "adjust_bars", "split_suspects"),
    "breaks": ("Break", "find_breaks"),
    "clean": ("CLEANING", "CleanedBars", "CleaningRule", "clean_bars"),
    "reading": ("describe", "inspect_bars", "read_bars", "sample_bars", "validate_bars"),
    "report": ("BarsReport", "Defect"),
    "resample": ("resample_bars",),
    "samples": ("SAMPLES", "sample_path"),
    "schema": ("FEATURES", "PRICES", "TIME_FEATURES", "to_table"),
    "store": ("BarStore", "fetch_bars", "import_bars", "write_bars"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "calendar")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__

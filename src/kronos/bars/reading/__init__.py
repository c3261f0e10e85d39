"""From files and tables of any layout to validated bars: bytes → cells → columns → times → checked table."""

from kronos.bars.reading.read import describe, inspect_bars, read_bars, sample_bars
from kronos.bars.reading.validate import as_bars, validate_bars
from kronos.bars.report import OnDefect, shown

__all__ = ["OnDefect", "as_bars", "describe", "inspect_bars", "read_bars", "sample_bars", "shown", "validate_bars"]

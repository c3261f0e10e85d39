"""Bars on disk and from the net: files, a store of many series, downloads from exchanges and vendors."""

from kronos.bars.store.folder import BarStore, Imported, import_bars, read_last, write_bars, write_parquet
from kronos.bars.store.sources import fetch_bars

__all__ = ["BarStore", "Imported", "fetch_bars", "import_bars", "read_last", "write_bars", "write_parquet"]

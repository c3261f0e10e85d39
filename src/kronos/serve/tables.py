"""Tables of bars as the API shows them. Runs in the reader and in the forecaster, never in the server itself."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pandas as pd

from kronos.bars import read_bars
from kronos.bars.reading import describe
from kronos.errors import CapacityError, DataError

PREVIEW_ROWS = 5
_PRICES = ("open", "high", "low", "close")
_MOST_SYMBOLS = 10_000


class Tables:
    """The tables read last, so that paging through candles does not read a file again and again.

    Args:
        most: tables to keep.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, int, int, str | None], pd.DataFrame] = OrderedDict()

    def read(self, path: Path, symbol: str | None = None) -> pd.DataFrame:
        """The bars of a file, of one symbol where one is named.

        Raises:
            DataError: the file cannot be read as bars, or lacks the symbol.
        """
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"{path.name} is no longer there.") from error
        key = (str(path), stat.st_mtime_ns, stat.st_size, symbol)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        bars = read_bars(path, symbol=symbol)
        self._kept[key] = bars
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return bars


def one_series(bars: pd.DataFrame) -> pd.DataFrame:
    """The table, if it holds one symbol.

    Raises:
        DataError: it holds several.
    """
    report = bars.attrs["report"]
    if len(report.symbols) > 1:
        some = ", ".join(report.symbols[:6]) + (" …" if len(report.symbols) > 6 else "")
        raise DataError(f"These bars are of {len(report.symbols)} symbols ({some}); choose one of them as symbol.")
    return bars


def description(bars: pd.DataFrame) -> dict[str, Any]:
    """The report on a table, with its calendar, symbols, and first and last rows.

    Raises:
        CapacityError: there are more symbols than anybody could choose from.
    """
    symbols = bars.attrs["report"].symbols
    if len(symbols) > _MOST_SYMBOLS:
        raise CapacityError(f"The table names {len(symbols):,} symbols; at most {_MOST_SYMBOLS:,} are shown here.")
    report = dict(describe(bars).to_dict())
    report.pop("source", None)  # the server's path
    report.pop("symbols")
    ends = pd.concat([bars.head(PREVIEW_ROWS), bars.iloc[PREVIEW_ROWS:].tail(PREVIEW_ROWS)])
    preview = [{name: _plain(value) for name, value in row.items()} for row in ends.to_dict("records")]
    return {"rows": len(bars), "symbols": list(symbols), "report": report, "preview": preview}


def candles(bars: pd.DataFrame, limit: int | None = None, before: str | None = None) -> dict[str, Any]:
    """Columns of the last bars, or of the last ones earlier than a time; ``total`` counts all bars of the series."""
    total, frequency = len(bars), bars.attrs["report"].frequency
    if before is not None:
        moment = as_written(before, bars)
        bars = bars.iloc[: int(bars["timestamp"].searchsorted(moment, side="left"))]
    return {**columns(bars if limit is None else bars.tail(limit)), "frequency": frequency, "total": total}


def columns(bars: pd.DataFrame) -> dict[str, Any]:
    """Bars as lists by column; ``volume`` is null where none was ever traded."""
    shown: dict[str, Any] = {"timestamp": isoformat(pd.DatetimeIndex(bars["timestamp"]))}
    shown |= {name: bars[name].tolist() for name in _PRICES}
    shown["volume"] = bars["volume"].tolist() if bars["volume"].any() else None
    return shown


def isoformat(times: pd.DatetimeIndex) -> list[str]:
    """Times as text."""
    return [time.isoformat() for time in times]


def as_written(text: str, bars: pd.DataFrame) -> pd.Timestamp:
    """A time in the clock of the bars: one without a zone is theirs, one with a zone is converted.

    Raises:
        DataError: it is no time.
    """
    try:
        moment = pd.Timestamp(text)
    except (ValueError, OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise DataError(f"'{text[:40]}' is no time; write it as 2024-07-01T15:30:00.") from error
    zone = pd.DatetimeIndex(bars["timestamp"]).tz
    if zone is None:
        return moment.tz_localize(None) if moment.tz is not None else moment
    if moment.tz is None:
        try:
            return moment.tz_localize(zone)
        except ValueError as error:  # an hour that a clock change skips or repeats
            raise DataError(f"{text[:40]} is not one moment in {zone}; write its offset too.") from error
    return moment.tz_convert(zone)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, pd.Timestamp) else value

"""The front door: any table of bars in, one bars table out, with a report of what was recognised."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars.reading.content import open_content
from kronos.bars.reading.context import OnDefect, ReadContext
from kronos.bars.reading.layouts import SPARE, normal
from kronos.bars.reading.tables import from_arrow, from_frame, from_text, open_arrow
from kronos.bars.reading.times import TimeColumn, check_zone, parse_times
from kronos.bars.reading.validate import build_bars, refuse_empty, refuse_mixed_zones
from kronos.bars.report import BarsReport, Defect, RowNumbers, shown
from kronos.bars.samples import locate, sample_path
from kronos.bars.schema import FEATURES, to_table
from kronos.errors import DataError

_STEP = 5e-4  # prices with six digits blur the ratio less than this


def read_bars(
    path_or_table: Any,
    *,
    symbol: str | None = None,
    columns: dict[str, str | int] | None = None,
    timezone: str | None = None,
    on_defect: OnDefect = "strict",
    min_rows: int = 1,
    dayfirst: bool | None = None,
    epoch: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    newest_first: bool | None = None,
) -> pd.DataFrame:
    """Read bars from a file or a table; layout, units and zone are recognised by content.

    Args:
        path_or_table: CSV text in any common encoding, Parquet, Feather, Arrow (each also in gzip or zip),
            ``sample:NAME`` for a packaged sample, or a pandas, polars or Arrow table.
        symbol: of a table of many symbols, return this one; of a table that names none, call it so.
        columns: role → column name or position (from 0), where names do not tell: roles are ``timestamp,
            symbol, open, high, low, close, volume, amount`` and ``clock`` (a time of day beside a date).
        timezone: IANA name. Times without a zone are wall time there; others are converted to it.
        on_defect: ``strict`` refuses defects, ``drop`` drops the defective rows and reports them.
        min_rows: refuse fewer bars.
        dayfirst, epoch, decimal, encoding: decide where two readings of dates, epoch units, decimal marks
            or characters fit.
        newest_first: the rows run backwards; None: only for layouts known to.

    Returns:
        DataFrame ``timestamp[, symbol], open, high, low, close, volume, amount``, sorted, with a
        ``BarsReport`` in ``attrs["report"]``.

    Raises:
        DataError: what cannot be read without guessing, with file, row, column and what to do.
    """
    reading = ReadContext(
        symbol=symbol,
        columns=columns,
        timezone=timezone,
        on_defect=on_defect,
        min_rows=min_rows,
        dayfirst=dayfirst,
        epoch=epoch,
        decimal=decimal,
        encoding=encoding,
        newest_first=newest_first,
    )
    return read_with_rows(path_or_table, reading)[0]


def sample_bars(name: str) -> pd.DataFrame:
    """A packaged sample as a bars table, with its report in ``attrs["report"]``; names as in ``SAMPLES``."""
    return read_bars(sample_path(name))


def read_with_rows(path_or_table: Any, reading: ReadContext) -> tuple[pd.DataFrame, RowNumbers]:
    """As ``read_bars``, with the row number in the file of each bar."""
    check_zone(reading.timezone)
    is_path = isinstance(path_or_table, (str, os.PathLike))
    if is_path:
        path = locate(path_or_table)
        reading = replace(reading, where=path.name)
        content = open_content(path, reading)
        if content.kind == "text":
            found, roles, names = from_text(content, reading)
        else:
            found, roles, names = from_arrow(open_arrow(content, reading), reading)
    else:
        found, roles, names = from_frame(to_table(path_or_table), reading)
    if not found.ragged:
        refuse_empty(len(found.data["timestamp"]), reading)
    report = BarsReport(layout=roles.layout, source=str(path) if is_path else "table", left_out=roles.left_out(names))
    times = parse_times(found.data["timestamp"], reading, clock=found.data.get("clock"), header_zone=roles.zone)
    refuse_mixed_zones(times, found.rows, reading.where)
    backwards = _runs_backwards(times, reading.newest_first, roles.newest_first and is_path)
    data: dict[str, Any] = {}
    if "symbol" in found.data:
        data["symbol"] = _symbol_column(found.data["symbol"])
    data |= {name: _values(found.data[name]) for name in FEATURES if name in found.data}
    frame = pd.DataFrame(data, copy=False)
    spare: dict[str, Any] = {role: _values(found.data[role]) for role in SPARE if role in found.data}
    if _use_tick_volume(frame, spare, reading):
        kept = (name for name in report.left_out if normal(name) not in ("tickvol", "tickvolume"))
        report = replace(report, left_out=tuple(kept))
    report = replace(report, warnings=_adjustments(frame, spare, found.rows))
    picked = _picked_rows(frame, reading.symbol, backwards, reading.where)
    if reading.symbol is not None and "symbol" not in frame.columns:
        frame["symbol"] = str(reading.symbol)
    rows = found.rows
    if picked is not None:
        frame, rows = frame.iloc[picked].reset_index(drop=True), rows.picked(picked)
        times = replace(times, index=times.index[picked])
    if backwards:
        reading.note("rows run newest first: reversed")
    return build_bars(frame, times, rows, report, reading, earlier=found.ragged)


def _use_tick_volume(frame: pd.DataFrame, spare: Mapping[str, Any], reading: ReadContext) -> bool:
    """MetaTrader counts ticks where it knows no volume: then the ticks are the volume."""
    ticks = spare.get("tick_volume")
    if ticks is None or "volume" not in frame.columns or not pd.api.types.is_numeric_dtype(frame["volume"].dtype):
        return False
    if len(frame) == 0 or (frame["volume"].to_numpy() != 0).any():
        return False
    frame["volume"] = ticks
    reading.note("volume is 0 throughout: tick volume used")
    return True


def _adjustments(frame: pd.DataFrame, spare: Mapping[str, Any], rows: RowNumbers) -> tuple[Defect, ...]:
    """Where an adjusted close stands beside the close, their ratio steps at each dividend and split."""
    adjusted, close = spare.get("adjusted"), frame["close"].to_numpy()
    plain = all(isinstance(column, np.ndarray) and column.dtype.kind in "iuf" for column in (adjusted, close))
    if adjusted is None or not plain or len(frame) < 2:
        return ()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        factor = np.asarray(adjusted, dtype=float) / close.astype(float)
        places = np.flatnonzero(np.abs(factor[1:] / factor[:-1] - 1) > _STEP) + 1
    if len(places) == 0:
        return ()
    example = f"{factor[places[0]] / factor[places[0] - 1]:.5g} times"
    return (Defect("dividend_suspect", len(places), rows.first(places), "Adj Close", example),)


def _runs_backwards(times: TimeColumn, choice: bool | None, known: bool) -> bool:
    """Whether to turn the rows round: where the caller says so, or a layout known to run backwards does."""
    filled = times.index.dropna()
    return (known if choice is None else choice) and len(filled) > 1 and filled[0] > filled[-1]


def _picked_rows(frame: pd.DataFrame, symbol: str | None, backwards: bool, where: str) -> Any:
    """The rows to take, in their order; None for all as they stand."""
    picked = None
    if symbol is not None and "symbol" in frame.columns:
        names = frame["symbol"].astype(str)
        picked = np.flatnonzero((names == str(symbol)).to_numpy())
        if len(picked) == 0:
            some = ", ".join(shown(name, 24) for name in pd.unique(names)[:6])
            raise DataError(f"{where}: there is no symbol '{symbol}'; there are {some}.")
    if backwards:
        picked = (np.arange(len(frame)) if picked is None else picked)[::-1]
    return picked


def _values(column: Any) -> Any:
    """Numbers stay numbers; text stays text for the validator to judge."""
    if isinstance(column, pd.Series):
        return column.to_numpy() if column.dtype.kind in "iuf" and isinstance(column.dtype, np.dtype) else column.array
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column.to_numpy(zero_copy_only=False)
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    return column.to_pandas()


def _symbol_column(column: Any) -> Any:
    if isinstance(column, pd.Series):
        return column.array
    return column.cast(pa.string()).to_pandas()

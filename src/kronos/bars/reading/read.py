"""The front door: any table of bars in, one bars table out, with a report of what was recognised."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars.reading.content import open_content
from kronos.bars.reading.layouts import SPARE, normal
from kronos.bars.reading.rows import RowNumbers
from kronos.bars.reading.tables import from_arrow, from_frame, from_text, open_arrow
from kronos.bars.reading.times import TimeColumn, check_zone, parse_times
from kronos.bars.reading.validate import OnDefect, build_bars, refuse_mixed_zones
from kronos.bars.report import BarsReport, Defect, shown
from kronos.bars.samples import locate
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
    return read_with_rows(
        path_or_table,
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
    )[0]


def read_with_rows(
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
) -> tuple[pd.DataFrame, RowNumbers]:
    """As ``read_bars``, with the row number in the file of each bar."""
    check_zone(timezone)
    is_path = isinstance(path_or_table, (str, os.PathLike))
    if is_path:
        path_or_table = locate(path_or_table)
    where = Path(path_or_table).name if is_path else "The table"
    if is_path:
        source = str(path_or_table)
        content = open_content(Path(path_or_table))
        if content.kind == "text":
            found, roles, report = from_text(content, columns, decimal, encoding, where)
        else:
            found, roles, report = from_arrow(open_arrow(content, columns, where), columns, where)
        report = replace(report, notes=(*content.notes, *report.notes))
    else:
        source = "table"
        found, roles, report = from_frame(to_table(path_or_table), columns, where)
    if len(found.data["timestamp"]) == 0 and not found.ragged:
        raise DataError(f"{where}: there are no rows of data. Bars need at least {max(min_rows, 1)}.")
    times = parse_times(
        found.data["timestamp"],
        clock=found.data.get("clock"),
        timezone=timezone,
        header_zone=roles.zone,
        dayfirst=dayfirst,
        epoch=epoch,
        where=where,
    )
    refuse_mixed_zones(times, found.rows, where)
    backwards = _runs_backwards(times, newest_first, roles.newest_first and is_path)
    data: dict[str, Any] = {}
    if "symbol" in found.data:
        data["symbol"] = _symbol_column(found.data["symbol"])
    data |= {name: _values(found.data[name]) for name in FEATURES if name in found.data}
    frame = pd.DataFrame(data, copy=False)
    spare: dict[str, Any] = {role: _values(found.data[role]) for role in SPARE if role in found.data}
    report = _use_tick_volume(frame, spare, report)
    report = _told_adjustments(frame, spare, found.rows, report)
    picked = _picked_rows(frame, times, symbol, backwards, where)
    if symbol is not None and "symbol" not in frame.columns:
        frame["symbol"] = str(symbol)
    if picked is not None:
        frame = frame.iloc[picked].reset_index(drop=True)
        times = replace(times, index=times.index[picked])
    rows = found.rows if picked is None else found.rows.picked(picked)
    turned = ("rows run newest first: reversed",) if picked is not None and backwards else ()
    report = replace(report, source=source, notes=(*report.notes, *found.notes, *turned))
    return build_bars(
        frame, times, rows, report, where=where, on_defect=on_defect, min_rows=min_rows, earlier=found.ragged
    )


def _use_tick_volume(frame: pd.DataFrame, spare: Mapping[str, Any], report: BarsReport) -> BarsReport:
    """MetaTrader counts ticks where it knows no volume: then the ticks are the volume, and the report says so."""
    ticks = spare.get("tick_volume")
    if ticks is None or "volume" not in frame.columns or not pd.api.types.is_numeric_dtype(frame["volume"].dtype):
        return report
    if not (frame["volume"].to_numpy() == 0).all() or len(frame) == 0:
        return report
    frame["volume"] = ticks
    kept = tuple(name for name in report.left_out if normal(name) not in ("tickvol", "tickvolume"))
    return replace(report, left_out=kept, notes=(*report.notes, "volume is 0 throughout: tick volume used"))


def _told_adjustments(
    frame: pd.DataFrame, spare: Mapping[str, Any], rows: RowNumbers, report: BarsReport
) -> BarsReport:
    """Where an adjusted close stands beside the close, their ratio steps at each dividend and split."""
    adjusted = spare.get("adjusted")
    plain = all(
        isinstance(column, np.ndarray) and column.dtype.kind in "iuf"
        for column in (adjusted, frame["close"].to_numpy())
    )
    if adjusted is None or not plain or len(frame) < 2:
        return report
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        factor = np.asarray(adjusted, dtype=float) / frame["close"].to_numpy(dtype=float)
        places = np.flatnonzero(np.abs(factor[1:] / factor[:-1] - 1) > _STEP) + 1
    if len(places) == 0:
        return report
    example = f"{factor[places[0]] / factor[places[0] - 1]:.5g} times"
    warned = Defect("dividend_suspect", len(places), tuple(int(row) for row in rows[places[:10]]), "Adj Close", example)
    return replace(report, warnings=(*report.warnings, warned))


def _runs_backwards(times: TimeColumn, asked: bool | None, known: bool) -> bool:
    """Whether to turn the rows round: where the caller says so, or a layout known to run backwards does."""
    filled = times.index.dropna()
    return (known if asked is None else asked) and len(filled) > 1 and filled[0] > filled[-1]


def _picked_rows(frame: pd.DataFrame, times: TimeColumn, symbol: str | None, backwards: bool, where: str) -> Any:
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

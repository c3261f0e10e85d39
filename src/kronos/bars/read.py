"""The front door: any table of bars in, one bars table out, with a report of what was recognised."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars.files import Content, open_content
from kronos.bars.layouts import Roles, assign, given
from kronos.bars.report import BarsReport
from kronos.bars.schema import FEATURES, to_table
from kronos.bars.sniff import Shape, decode, shape_of
from kronos.bars.textfile import Columns, read_text
from kronos.bars.times import as_arrow, check_zone, parse_times
from kronos.bars.validate import OnDefect, validate_bars
from kronos.errors import DataError


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
            or a pandas, polars or Arrow table.
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
    check_zone(timezone)
    is_path = isinstance(path_or_table, (str, os.PathLike))
    where = Path(path_or_table).name if is_path else "The table"
    if is_path:
        source = str(path_or_table)
        content = open_content(Path(path_or_table))
        if content.kind == "text":
            found, roles, report = _from_text(content, columns, decimal, encoding, where)
        else:
            found, roles, report = _from_arrow(_arrow_table(content, columns, where), columns, where)
        report = replace(report, notes=(*content.notes, *report.notes))
    else:
        source = "table"
        found, roles, report = _from_frame(to_table(path_or_table), columns, where)
    backwards = roles.newest_first and is_path if newest_first is None else newest_first
    times = parse_times(
        found.data["timestamp"],
        clock=found.data.get("clock"),
        timezone=timezone,
        header_zone=roles.zone,
        dayfirst=dayfirst,
        epoch=epoch,
        where=where,
    )
    frame = pd.DataFrame({"timestamp": times.index})
    if "symbol" in found.data:
        frame["symbol"] = _symbol_column(found.data["symbol"])
    for name in FEATURES:
        if name in found.data:
            frame[name] = _values(found.data[name])
    rows = found.rows
    if backwards and len(times.index.dropna()) > 1 and times.index.dropna()[0] > times.index.dropna()[-1]:
        frame, rows = frame.iloc[::-1].reset_index(drop=True), rows[::-1]
        report = replace(report, notes=(*report.notes, "rows run newest first: reversed"))
    frame, rows, report = _choose_symbol(frame, rows, symbol, report, where)
    report = replace(report, source=source, notes=(*report.notes, *found.notes, *times.notes))
    return validate_bars(
        frame,
        on_defect=on_defect,
        source=source if is_path else None,
        min_rows=min_rows,
        rows=rows,
        report=report,
        earlier=found.ragged,
    )


def _left_out(names: list[str], at: dict[str, int]) -> tuple[str, ...]:
    used = set(at.values())
    return tuple(str(name) for k, name in enumerate(names) if k not in used and str(name) not in ("", "(empty)"))


def _from_text(
    content: Content, columns: dict[str, str | int] | None, decimal: str | None, encoding: str | None, where: str
) -> tuple[Columns, Roles, BarsReport]:
    data, name = decode(bytes(content.data), encoding, where)
    shape = shape_of(data, where)
    roles = assign(list(shape.names), columns, where) if shape.names else _headless(shape, columns, where)
    found = read_text(data, shape, roles.at, decimal, where)
    notes = [*roles.notes]
    if name not in ("ascii", "utf-8"):
        notes.append(f"encoding {name}")
    if shape.delimiter != ",":
        notes.append(
            {"\t": "tab-separated", ";": "semicolon-separated", " ": "space-separated"}.get(
                shape.delimiter, "|-separated"
            )
        )
    report = BarsReport(layout=roles.layout, left_out=_left_out(list(shape.names), roles.at), notes=tuple(notes))
    return found, roles, report


def _headless(shape: Shape, columns: dict[str, str | int] | None, where: str) -> Roles:
    names = [f"column {k}" for k in range(shape.width)]
    if columns:
        return Roles("no header", given(names, columns, where))
    raise DataError(
        f"{where}: there is no header with column names. "
        "Say which column is which by position: columns={'timestamp': 0, 'open': 1, …}."
    )


def _arrow_table(content: Content, columns: dict[str, str | int] | None, where: str) -> Any:
    """Parquet or Arrow as a table, only the columns that play a part where that can be told early."""
    buffer = pa.BufferReader(content.data)
    try:
        if content.kind == "parquet":
            import pyarrow.parquet as pq

            return pq.ParquetFile(buffer).read()
        if bytes(content.data[:4]) == b"\xff\xff\xff\xff":
            return pa.ipc.open_stream(buffer).read_all()
        import pyarrow.feather as feather

        return feather.read_table(buffer)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        detail = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise DataError(f"{where}: the {content.kind.title()} file is damaged or cut ({detail}).") from error


def _from_arrow(table: Any, columns: dict[str, str | int] | None, where: str) -> tuple[Columns, Roles, BarsReport]:
    names = [str(name) for name in table.column_names]
    names = ["index" if name.startswith("__index_level_") else name for name in names]
    roles = assign(names, columns, where)
    data = {role: as_arrow(table.column(position)) for role, position in roles.at.items()}
    found = Columns(data, np.arange(1, table.num_rows + 1))
    return found, roles, BarsReport(layout=roles.layout, left_out=_left_out(names, roles.at), notes=roles.notes)


def _from_frame(
    frame: pd.DataFrame, columns: dict[str, str | int] | None, where: str
) -> tuple[Columns, Roles, BarsReport]:
    if not isinstance(frame.index, pd.RangeIndex) and not (
        isinstance(frame.index, pd.Index) and _is_count(frame.index)
    ):
        frame = frame.reset_index(names=_index_names(frame))
    names = [str(name) for name in frame.columns]
    roles = assign(names, columns, where)
    data: dict[str, Any] = {role: frame.iloc[:, position] for role, position in roles.at.items()}
    found = Columns(data, np.arange(1, len(frame) + 1))
    return found, roles, BarsReport(layout=roles.layout, left_out=_left_out(names, roles.at), notes=roles.notes)


def _is_count(index: pd.Index[Any]) -> bool:
    return bool(index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype) and index.name is None)


def _index_names(frame: pd.DataFrame) -> list[str]:
    """Names for index levels: their own, or what they hold."""
    names: list[str] = []
    for level in range(frame.index.nlevels):
        values = frame.index.get_level_values(level)
        own = values.name
        fallback = (
            "timestamp" if isinstance(values, pd.DatetimeIndex) else "symbol" if frame.index.nlevels > 1 else "index"
        )
        name = str(own) if own is not None else fallback
        names.append(name if name not in frame.columns else f"{name} (index)")
    return names


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


def _choose_symbol(
    frame: pd.DataFrame, rows: Any, symbol: str | None, report: BarsReport, where: str
) -> tuple[pd.DataFrame, Any, BarsReport]:
    if symbol is None:
        return frame, rows, report
    if "symbol" not in frame.columns:
        return frame.assign(symbol=str(symbol)), rows, report
    chosen = (frame["symbol"].astype(str) == str(symbol)).to_numpy()
    if not chosen.any():
        some = ", ".join(str(name) for name in pd.unique(frame["symbol"].astype(str))[:6])
        raise DataError(f"{where}: there is no symbol '{symbol}'; there are {some} …")
    return frame[chosen].reset_index(drop=True), rows[chosen], report

"""From text, Arrow and pandas to columns by role; the reader's middle part."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from kronos.bars.reading.content import Content
from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.headless import recognise
from kronos.bars.reading.layouts import ALIASES, Roles, assign, given, normal
from kronos.bars.reading.textfile import Columns, Shape, decode, read_every_column, read_text, shape_of
from kronos.bars.reading.times import as_arrow
from kronos.bars.report import RowNumbers, shown
from kronos.bars.schema import PRICES
from kronos.errors import DataError

Parts = tuple[Columns, Roles, list[str]]
"""The columns found, their roles, and the names of all columns of the source."""

_SEPARATED: Final = {"\t": "tab-separated", ";": "semicolon-separated", " ": "space-separated", "|": "|-separated"}


def from_text(content: Content, reading: ReadContext) -> Parts:
    """Columns of a text file."""
    data = decode(content.read(), reading)
    shape = shape_of(data, reading.where)
    if shape.delimiter in _SEPARATED:
        reading.note(_SEPARATED[shape.delimiter])
    if shape.delimiter == " ":
        data, shape = re.sub(rb"[ \t]+", b"\t", data), replace(shape, delimiter="\t")
    names = list(shape.names)
    tickers = list(dict.fromkeys(name for name in shape.tickers[1:] if name))
    if len(tickers) > 1 and not reading.columns:
        return _wide_text(data, shape, tickers, reading)
    roles = assign(names, reading) if names else _headless(data, shape, reading)
    found = read_text(data, shape, roles.at, reading)
    if len(tickers) == 1:
        roles = replace(roles, layout="yfinance")
        found.data["symbol"] = pa.array([tickers[0]] * len(found.data["open"]))
    return found, roles, names


def from_arrow(table: Any, reading: ReadContext) -> Parts:
    """Columns of an Arrow table."""
    names = _plain_names(table.column_names)
    roles = assign(names, reading)
    data = {role: _column(table.column(position)) for role, position in roles.at.items()}
    return Columns(data, RowNumbers.counted(table.num_rows)), roles, names


def from_frame(frame: pd.DataFrame, reading: ReadContext) -> Parts:
    """Columns of a pandas table; a meaningful index counts as columns."""
    if frame.columns.nlevels == 2:
        return _wide_frame(frame, reading)
    if not _is_count(frame.index):
        frame = frame.reset_index(names=_index_names(frame))
    names = [str(name) for name in frame.columns]
    roles = assign(names, reading)
    data: dict[str, Any] = {role: frame.iloc[:, position] for role, position in roles.at.items()}
    return Columns(data, RowNumbers.counted(len(frame))), roles, names


def _plain_names(names: list[str]) -> list[str]:
    """Column names of an Arrow table, without those that pandas makes up for its index."""
    return ["index" if str(name).startswith("__index_level_") else str(name) for name in names]


def _column(column: Any) -> Any:
    """Plain numbers stay in their chunks; everything else becomes one array that needs no special care."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column
    return as_arrow(column)


def open_arrow(content: Content, reading: ReadContext) -> Any:
    """Parquet, Feather or an Arrow stream as a table; of Parquet only the columns that play a part."""
    try:
        source = content.open()
        if content.kind == "parquet":
            return _parquet(source, reading)
        if content.head[:4] == b"\xff\xff\xff\xff":
            return pa.ipc.open_stream(source).read_all()
        return feather.read_table(source)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        detail = shown(str(error).splitlines()[0], 100) if str(error) else type(error).__name__
        raise DataError(f"{reading.where}: the {content.kind.title()} file is damaged or cut ({detail}).") from error


def _parquet(source: Any, reading: ReadContext) -> Any:
    file = pq.ParquetFile(source)
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        return file.read()
    needed = set(assign(_plain_names(names), reading).at.values())
    # Columns that play no part stay in the table as empty ones, so that the report can name them.
    table = file.read(columns=[names[k] for k in sorted(needed)], use_pandas_metadata=False)
    empty = pa.nulls(table.num_rows) if len(needed) < len(names) else None
    return pa.table([table.column(name) if k in needed else empty for k, name in enumerate(names)], names=names)


def _headless(data: bytes, shape: Shape, reading: ReadContext) -> Roles:
    if not reading.columns:
        return recognise(read_every_column(data, shape, reading), reading)
    at = given([f"column {k}" for k in range(shape.width)], reading)
    missing = [role for role in ("timestamp", *PRICES) if role not in at]
    if missing:
        raise DataError(f"{reading.where}: there is no header; columns must also place {', '.join(missing)}.")
    return Roles("no header", at)


def _wide_text(data: bytes, shape: Shape, tickers: list[str], reading: ReadContext) -> Parts:
    """One column for each price and symbol (yfinance, many tickers): read as one table below the other."""
    parts: list[tuple[str, Columns]] = []
    roles = Roles("yfinance", {})
    for ticker in tickers:
        names = [
            name if k == 0 or shape.tickers[k] == ticker else f"({shape.tickers[k]})"
            for k, name in enumerate(shape.names)
        ]
        roles = assign(names, reading)
        parts.append((ticker, read_text(data, shape, roles.at, reading)))
    return _stack(parts, reading), replace(roles, layout="yfinance"), []


def _wide_frame(frame: pd.DataFrame, reading: ReadContext) -> Parts:
    """Two-level columns, as yfinance returns for several tickers."""
    prices = {alias for price in PRICES for alias in ALIASES[price]}
    level = max((0, 1), key=lambda k: sum(normal(name) in prices for name in set(frame.columns.get_level_values(k))))
    symbols = frame.columns.get_level_values(1 - level)
    parts: list[tuple[str, Columns]] = []
    roles = Roles("yfinance", {})
    for symbol in dict.fromkeys(symbols):
        one = frame.loc[:, np.asarray(symbols == symbol)]
        found, roles, _ = from_frame(one.set_axis(one.columns.get_level_values(level), axis=1), reading)
        arrays = {role: as_arrow(column) for role, column in found.data.items()}
        parts.append((str(symbol), Columns(arrays, found.rows)))
    return _stack(parts, reading), replace(roles, layout="yfinance"), []


def _stack(parts: list[tuple[str, Columns]], reading: ReadContext) -> Columns:
    """Tables of single symbols as one; rows in which a symbol has no price at all are not its bars."""
    if len(parts) > 1:
        reading.note(f"{len(parts)} symbols side by side")
    tables: list[dict[str, Any]] = []
    numbers: list[Any] = []
    for symbol, part in parts:
        empty = np.ones(len(part.data["open"]), dtype=bool)
        for price in PRICES:
            empty &= part.data[price].is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        table = {role: column.filter(pa.array(~empty)) for role, column in part.data.items()}
        tables.append({**table, "symbol": pa.array([symbol] * int((~empty).sum()), type=pa.string())})
        numbers.append(part.rows.numbers[~empty])
    rows = np.concatenate(numbers)
    absent = sum(len(part.data["open"]) for _, part in parts) - len(rows)
    if absent:
        reading.note(f"{absent} cells of days without a bar of their symbol left out")
    roles = dict.fromkeys(role for table in tables for role in table)
    data = {role: _joined([table.get(role, pa.nulls(len(table["symbol"]))) for table in tables]) for role in roles}
    return Columns(data, RowNumbers(lambda: rows), parts[0][1].ragged)


def _joined(columns: list[Any]) -> Any:
    """Columns one below the other; as text where one of them is, so that the validator names its rows."""
    kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
    kind = kinds.pop() if len(kinds) == 1 else pa.string() if kinds else pa.null()
    return pa.chunked_array([column.cast(kind) for column in columns], type=kind).combine_chunks()


def _is_count(index: pd.Index[Any]) -> bool:
    """A row count, not data."""
    if isinstance(index, pd.RangeIndex):
        return True
    return bool(index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype) and index.name is None)


def _index_names(frame: pd.DataFrame) -> list[str]:
    """Names for index levels: their own, or what they hold."""
    names: list[str] = []
    for level in range(frame.index.nlevels):
        values = frame.index.get_level_values(level)
        fallback = "index"
        if isinstance(values, pd.DatetimeIndex):
            fallback = "timestamp"
        elif frame.index.nlevels > 1:
            fallback = "symbol"
        name = str(values.name) if values.name is not None else fallback
        names.append(name if name not in frame.columns else f"{name} (index)")
    return names

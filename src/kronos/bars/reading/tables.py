"""From text, Arrow and pandas to columns by role."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from kronos.bars.reading.layouts import ALIASES, Roles, assign, given, normal, recognise
from kronos.bars.reading.textfile import Columns, read_every_column, read_text, shape_of
from kronos.bars.reading.times import as_arrow
from kronos.bars.report import ReadContext, shown
from kronos.bars.schema import PRICES
from kronos.errors import DataError

_SEPARATED: Final = {"\t": "tab-separated", ";": "semicolon-separated", " ": "space-separated", "|": "|-separated"}


def from_text(data: bytes, reading: ReadContext) -> Columns:
    """Columns of a text file."""
    shape = shape_of(data, reading.where)
    if shape.delimiter in _SEPARATED:
        reading.note(_SEPARATED[shape.delimiter])
    if shape.delimiter == " ":
        data, shape = re.sub(rb"[ \t]+", b"\t", data), replace(shape, delimiter="\t")
    tickers = list(dict.fromkeys(name for name in shape.tickers[1:] if name))
    if len(tickers) > 1 and not reading.columns:
        parts: dict[str, Columns] = {}
        for ticker in tickers:  # one column for each price and symbol: read as one table below the other
            owners = [ticker, *shape.tickers[1:]]
            names = [name if of == ticker else f"({of})" for name, of in zip(shape.names, owners, strict=True)]
            parts[ticker] = read_text(data, shape, assign(names, reading), reading)
        return _stack(parts, reading)
    if shape.names:
        roles = assign(shape.names, reading)
    elif reading.columns:
        at = given([f"column {k}" for k in range(shape.width)], reading)
        if missing := [role for role in ("timestamp", *PRICES) if role not in at]:
            raise DataError(f"{reading.where}: there is no header; columns must also place {', '.join(missing)}.")
        roles = Roles("no header", at)
    else:
        roles = recognise(read_every_column(data, shape, reading), reading)
    found = read_text(data, shape, roles, reading)
    if len(tickers) == 1:
        found.data["symbol"] = pa.array([tickers[0]] * len(found.data["open"]))
        found = replace(found, roles=replace(roles, layout="yfinance"))
    return found


def from_arrow(kind: str, source: Any, reading: ReadContext) -> Columns:
    """Columns of a Parquet, Feather or Arrow file, given as path or bytes."""
    try:
        file = pa.BufferReader(source) if isinstance(source, bytes) else pa.OSFile(str(source))
        if kind == "arrow stream":
            table = pa.ipc.open_stream(file).read_all()
        elif kind == "arrow":
            table = feather.read_table(file)
        else:
            table = _read_parquet(pq.ParquetFile(file), reading)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        detail = shown(str(error).splitlines()[0], 100) if str(error) else type(error).__name__
        name = kind.split()[0].title()
        raise DataError(f"{reading.where}: the {name} file is damaged or cut ({detail}).") from error
    roles = assign(_plain_names(table.column_names), reading)
    data = {role: table.column(position) for role, position in roles.at.items()}
    for role, column in data.items():  # plain numbers stay in their chunks
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            data[role] = as_arrow(column)
    return Columns(data, np.arange(1, 1 + table.num_rows), roles)


def _read_parquet(file: Any, reading: ReadContext) -> Any:
    """The columns that play a part; the others stay in the table as empty ones, so that the report can name them."""
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        return file.read()
    needed = set(assign(_plain_names(names), reading).at.values())
    table = file.read(columns=[names[k] for k in sorted(needed)], use_pandas_metadata=False)
    empty = pa.nulls(table.num_rows) if len(needed) < len(names) else None
    return pa.table([table.column(name) if k in needed else empty for k, name in enumerate(names)], names=names)


def _plain_names(names: list[str]) -> list[str]:
    """Column names of an Arrow table, without those that pandas makes up for its index."""
    return ["index" if str(name).startswith("__index_level_") else str(name) for name in names]


def from_frame(frame: pd.DataFrame, reading: ReadContext) -> Columns:
    """Columns of a pandas table; a meaningful index counts as columns."""
    if frame.columns.nlevels == 2:
        return _from_wide_frame(frame, reading)
    frame = _index_as_columns(frame)
    roles = assign([str(name) for name in frame.columns], reading)
    data: dict[str, Any] = {role: frame.iloc[:, position] for role, position in roles.at.items()}
    return Columns(data, np.arange(1, 1 + len(frame)), roles)


def _index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    index = frame.index
    counts = index.nlevels == 1 and index.name is None and pd.api.types.is_integer_dtype(index.dtype)
    if not counts and not isinstance(index, pd.RangeIndex):
        names: list[str] = []  # of the levels: their own, or what they hold
        for values in map(index.get_level_values, range(index.nlevels)):
            fallback = (
                "timestamp" if isinstance(values, pd.DatetimeIndex) else "symbol" if index.nlevels > 1 else "index"
            )
            name = fallback if values.name is None else str(values.name)
            names.append(name if name not in frame.columns else f"{name} (index)")
        return frame.reset_index(names=names)
    return frame


def by_symbol(frame: pd.DataFrame) -> dict[str, pd.DataFrame] | None:
    """The rows of each symbol of a long table, by whichever column or level of the index holds it; None: none does."""
    frame = _index_as_columns(frame)
    at = assign([str(name) for name in frame.columns], ReadContext()).at.get("symbol")
    if at is None:
        return None
    owners = frame.iloc[:, at]
    return {str(name): rows for name, rows in frame.groupby(owners.to_numpy(), sort=False)}


def _from_wide_frame(frame: pd.DataFrame, reading: ReadContext) -> Columns:
    """Two-level columns, as yfinance returns for several tickers."""
    prices = {alias for price in PRICES for alias in ALIASES[price]}
    level = max((0, 1), key=lambda k: sum(normal(name) in prices for name in set(frame.columns.get_level_values(k))))
    symbols = frame.columns.get_level_values(1 - level)
    parts: dict[str, Columns] = {}
    for symbol in dict.fromkeys(symbols):
        one = frame.loc[:, np.asarray(symbols == symbol)]
        found = from_frame(one.set_axis(one.columns.get_level_values(level), axis=1), reading)
        parts[str(symbol)] = replace(found, data={role: as_arrow(column) for role, column in found.data.items()})
    return _stack(parts, reading)


def _stack(parts: dict[str, Columns], reading: ReadContext) -> Columns:
    """Tables of single symbols as one; rows in which a symbol has no price at all are not its bars."""
    if len(parts) > 1:
        reading.note(f"{len(parts)} symbols side by side")
    tables: list[dict[str, Any]] = []
    numbers: list[Any] = []
    absent = 0
    for symbol, part in parts.items():
        prices = [part.data[price].is_null(nan_is_null=True).to_numpy(zero_copy_only=False) for price in PRICES]
        there = ~np.all(prices, axis=0)
        table = {role: column.filter(pa.array(there)) for role, column in part.data.items()}
        tables.append({**table, "symbol": pa.array([symbol] * int(there.sum()), type=pa.string())})
        numbers.append(part.rows[there])
        absent += int((~there).sum())
    if absent:
        reading.note(f"{absent} cells of days without a bar of their symbol left out")
    data: dict[str, Any] = {}
    for role in dict.fromkeys(role for table in tables for role in table):
        columns = [table.get(role, pa.nulls(len(table["symbol"]))) for table in tables]
        kinds = {column.type for column in columns if not pa.types.is_null(column.type)}
        # As text where one of them is, so that the validator names its rows.
        kind = kinds.pop() if len(kinds) == 1 else pa.string() if kinds else pa.null()
        data[role] = pa.chunked_array([column.cast(kind) for column in columns], type=kind).combine_chunks()
    first, *_, last = *parts.values(), *parts.values()
    return Columns(data, np.concatenate(numbers), replace(last.roles, layout="yfinance", left_out=()), first.ragged)

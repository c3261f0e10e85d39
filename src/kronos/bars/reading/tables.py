"""From text, Arrow and pandas to columns by role."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather
import pyarrow.parquet as pq

from kronos.bars.reading.defects import Finding
from kronos.bars.reading.layouts import Roles, assign, given, recognise
from kronos.bars.reading.objects import FoundTable, find_grids
from kronos.bars.reading.textfile import (
    TEXT_ROLES,
    Columns,
    as_numbers,
    read_every_column,
    read_text,
    shape_of,
    without_sources,
)
from kronos.bars.reading.times import LAST_SERIAL, as_arrow
from kronos.bars.reading.words import ALIASES, header_unit, normal
from kronos.bars.reading.workbook import sheets_as_text
from kronos.bars.report import ReadContext, TwoReadingsError, listing, shown
from kronos.bars.schema import PRICES, to_table
from kronos.errors import DataError

_SEPARATED: Final = {"\t": "tab-separated", ";": "semicolon-separated", " ": "space-separated", "|": "|-separated"}


def from_text(data: bytes, reading: ReadContext) -> Columns:
    """Columns of a text file."""
    shape = shape_of(data, reading.where)
    if shape.delimiter in _SEPARATED:
        reading.note(_SEPARATED[shape.delimiter])
    data = without_sources(data, shape, reading)
    if shape.delimiter == " ":
        data, shape = re.sub(rb"[ \t]+", b"\t", data), replace(shape, delimiter="\t")
    tickers = list(dict.fromkeys(name for name in shape.tickers[1:] if name))
    if len(tickers) > 1 and not reading.columns:
        parts: dict[str, Columns] = {}
        for ticker in tickers:  # one column for each price and symbol: read as one table below the other
            owners = [ticker, *shape.tickers[1:]]
            names = [name if of == ticker else "(empty)" for name, of in zip(shape.names, owners, strict=True)]
            found = read_text(data, shape, assign(names, reading), reading)
            parts[ticker] = replace(found, ragged=()) if parts else found  # broken rows are the same for all
        return _stack(parts, reading)
    if shape.names:
        roles = assign(shape.names, reading)
    elif reading.columns:
        roles = _placed(shape.width, reading)
    else:
        roles = recognise(read_every_column(data, shape, reading), reading)
    found = read_text(data, shape, roles, reading)
    if len(tickers) == 1:
        found.data["symbol"] = pa.array([tickers[0]] * len(found.data["open"]))
        found = replace(found, roles=replace(roles, layout="yfinance"))
    return found


def from_workbook(data: bytes, reading: ReadContext) -> Columns:
    """Columns of the first sheet of a workbook that holds bars; one that can be read in two ways is refused."""
    first: DataError | None = None
    others: list[str] = []
    for name, text, days in sheets_as_text(data, reading):
        where = f"{reading.where}, sheet '{shown(name)}'"
        attempt = replace(reading, where=where, notes=[])
        try:
            found = from_text(text, attempt)
        except TwoReadingsError:
            raise  # these are bars, and the caller must say how to read them
        except DataError as error:
            first, others = first or error, [*others, name]
            continue
        reading.note(f"sheet '{shown(name)}'" + (f", after {len(others)} without bars" if others else ""))
        for note in attempt.notes:
            reading.note(note)
        if days:
            reading.note("dates count from 1904")
            found.data["timestamp"] = _shifted(found.data["timestamp"], days)
        return found
    raise first or DataError(f"{reading.where}: the workbook is empty. Bars need a header and at least one row.")


def _shifted(column: Any, days: int) -> Any:
    """Serial dates, which cells without a date format hold, in the other date system; other stamps stay."""
    try:
        serials = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return column
    largest = pc.max(serials).as_py()
    return pc.add(serials, float(days)) if largest is not None and largest < LAST_SERIAL else column


def _placed(width: int, reading: ReadContext) -> Roles:
    """The parts of columns without names, as the caller places them."""
    at = given([f"column {k}" for k in range(width)], reading)
    if missing := [role for role in ("timestamp", *PRICES) if role not in at]:
        raise DataError(f"{reading.where}: there is no header; columns must also place {', '.join(missing)}.")
    return Roles("no header", at)


def from_objects(value: Any, reading: ReadContext, source: str) -> Columns:
    """Columns of a JSON document or of Python objects: lists, dicts, arrays, at any depth."""
    if isinstance(value, Mapping) and value and all(hasattr(table, "columns") for table in value.values()):
        tables = {str(symbol): from_frame(to_table(table), reading) for symbol, table in value.items()}
        return _stack({symbol: _in_arrow(found) for symbol, found in tables.items()}, reading, source)
    if isinstance(value, Mapping) and value and all(isinstance(column, pd.Series) for column in value.values()):
        return from_frame(pd.DataFrame(value), reading)
    grids = find_grids(value, reading)
    if len(grids) > 1:
        parts = {str(grid.symbol): _in_arrow(_from_grid(grid, reading)) for grid in grids}
        return _stack(parts, reading, layout=source)
    found = _from_grid(grids[0], reading)
    layout = found.roles.layout if found.roles.layout not in ("generic OHLCV", "no header") else source
    return replace(found, roles=replace(found.roles, layout=layout))


def _from_grid(grid: FoundTable, reading: ReadContext) -> Columns:
    """Columns of one table among values."""
    if grid.text is not None:
        found = from_text(grid.text, reading)
    else:
        columns: dict[int, Any] = {}

        def column(k: int) -> Any:
            if k not in columns:
                columns[k] = _plain_cells(as_arrow(grid.column(k)))
            return columns[k]

        if grid.names:
            roles = assign(list(grid.names), reading)
        elif reading.columns:
            roles = _placed(grid.width, reading)
        else:
            roles = recognise([_measured(column(k)) for k in range(grid.width)], reading)
        data = _numbers({role: column(position) for role, position in roles.at.items()}, reading)
        ragged = Finding("ragged_row", example=f"not {grid.width} cells", rows_gone=grid.odd)
        found = Columns(data, grid.rows, replace(roles, zone=grid.zone or roles.zone), (ragged,) if grid.odd else ())
    if grid.symbol and "symbol" not in found.data:
        found.data["symbol"] = pa.array([grid.symbol] * len(found.data["open"]), type=pa.string())
    return found


def _plain_cells(column: Any) -> Any:
    """Lists and objects in cells become text: they are no values of a bar."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return pa.array([None if cell is None else str(cell) for cell in column.to_pylist()], type=pa.string())
    return column


def _measured(column: Any) -> Any:
    """A column as float64 where every cell is a number, for telling columns apart by their values."""
    kind = column.type
    if pa.types.is_string(kind):
        try:
            return pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            return column
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pc.cast(column, pa.float64(), safe=False)
    return column.cast(pa.string())


def _numbers(data: dict[str, Any], reading: ReadContext) -> dict[str, Any]:
    """Columns by role whose numbers are text are read as in a text file; the others stay as they are."""
    text = {
        role: column
        for role, column in data.items()
        if role not in TEXT_ROLES and isinstance(column, pa.Array) and pa.types.is_string(column.type)
    }
    return {**data, **as_numbers(text, reading)} if text else data


def _in_arrow(found: Columns) -> Columns:
    return replace(found, data={role: as_arrow(column) for role, column in found.data.items()})


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
        names: list[str] = []  # of the levels: their own where it is one that we know, or what they hold
        for values in map(index.get_level_values, range(index.nlevels)):
            timed = isinstance(values, pd.DatetimeIndex | pd.PeriodIndex)
            fallback = "timestamp" if timed else "symbol" if index.nlevels > 1 else "index"
            name = fallback if values.name is None else str(values.name)
            if name != fallback and (timed or index.nlevels == 2) and normal(name) not in ALIASES[fallback]:
                name = name if set(map(normal, frame.columns)) & set(ALIASES[fallback]) else fallback
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
        parts[str(symbol)] = _in_arrow(found)
    return _stack(parts, reading)


def _stack(parts: dict[str, Columns], reading: ReadContext, layout: str = "yfinance") -> Columns:
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
    for role in ("volume", "amount"):
        names = [part.roles.names.get(role, "") for part in parts.values() if role in part.data]
        if len({header_unit(name)[1] for name in names}) > 1:
            raise DataError(
                f"{reading.where}: the {role} of each symbol is in its own unit, by the names {listing(set(names))}. "
                "Read each table alone, or write them in one unit."
            )
    left_out = dict.fromkeys(name for part in parts.values() for name in part.roles.left_out)
    roles = replace(next(iter(parts.values())).roles, layout=layout, left_out=tuple(left_out))
    ragged = tuple(finding for part in parts.values() for finding in part.ragged)
    return Columns(data, np.concatenate(numbers), roles, ragged)

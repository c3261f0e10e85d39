"""From text, Arrow and pandas to columns by role; the reader's middle part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from kronos.bars.reading.content import Content
from kronos.bars.reading.headless import recognise
from kronos.bars.reading.layouts import ALIASES, Roles, assign, given, normal
from kronos.bars.reading.rows import RowNumbers
from kronos.bars.reading.sniff import Shape, decode, shape_of
from kronos.bars.reading.textfile import Columns, read_every_column, read_text
from kronos.bars.reading.times import as_arrow
from kronos.bars.report import BarsReport, shown
from kronos.bars.schema import PRICES
from kronos.errors import DataError

Assignment = dict[str, str | int] | None
Parts = tuple[Columns, Roles, BarsReport]

_SEPARATED: Final = {"\t": "tab-separated", ";": "semicolon-separated", " ": "space-separated", "|": "|-separated"}


def from_text(content: Content, columns: Assignment, decimal: str | None, encoding: str | None, where: str) -> Parts:
    """Columns of a text file."""
    data, name = decode(content.read(), encoding, where)
    shape = shape_of(data, where)
    tickers = _distinct(shape.tickers)
    if len(tickers) > 1 and not columns:
        found, roles, names = _wide_text(data, shape, tickers, decimal, where)
    else:
        roles = assign(list(shape.names), columns, where) if shape.names else _headless(data, shape, columns, where)
        found, names = read_text(data, shape, roles.at, decimal, where), list(shape.names)
        if len(tickers) == 1:
            roles = replace(roles, layout="yfinance")
            found.data["symbol"] = pa.array([tickers[0]] * len(found.data["open"]))
    notes = [*roles.notes]
    if name not in ("ascii", "utf-8"):
        notes.append(f"encoding {name}")
    if shape.delimiter in _SEPARATED:
        notes.append(_SEPARATED[shape.delimiter])
    return found, roles, BarsReport(layout=roles.layout, left_out=left_out(names, roles), notes=tuple(notes))


def from_arrow(table: Any, columns: Assignment, where: str) -> Parts:
    """Columns of an Arrow table."""
    names = [str(name) for name in table.column_names]
    names = ["index" if name.startswith("__index_level_") else name for name in names]
    roles = assign(names, columns, where)
    data = {role: _column(table.column(position)) for role, position in roles.at.items()}
    found = Columns(data, RowNumbers.counted(table.num_rows))
    return found, roles, BarsReport(layout=roles.layout, left_out=left_out(names, roles), notes=roles.notes)


def from_frame(frame: pd.DataFrame, columns: Assignment, where: str) -> Parts:
    """Columns of a pandas table; a meaningful index counts as columns."""
    if frame.columns.nlevels == 2:
        return _wide_frame(frame, where)
    if not _is_count(frame.index):
        frame = frame.reset_index(names=_index_names(frame))
    names = [str(name) for name in frame.columns]
    roles = assign(names, columns, where)
    data: dict[str, Any] = {role: frame.iloc[:, position] for role, position in roles.at.items()}
    found = Columns(data, RowNumbers.counted(len(frame)))
    return found, roles, BarsReport(layout=roles.layout, left_out=left_out(names, roles), notes=roles.notes)


def left_out(names: list[str], roles: Roles) -> tuple[str, ...]:
    """Named columns that play no part."""
    used = roles.parts
    return tuple(str(name) for k, name in enumerate(names) if k not in used and str(name) not in ("", "(empty)"))


def _column(column: Any) -> Any:
    """Plain numbers stay in their chunks; everything else becomes one array that needs no special care."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return column
    return as_arrow(column)


def open_arrow(content: Content, columns: Assignment, where: str) -> Any:
    """Parquet, Feather or an Arrow stream as a table; of Parquet only the columns that play a part.

    Raises:
        DataError: damaged files, or columns that are missing.
    """
    try:
        if content.kind == "parquet":
            return _parquet(content.open(), columns, where)
        buffer = content.open()
        if content.head[:4] == b"\xff\xff\xff\xff":
            return pa.ipc.open_stream(buffer).read_all()
        import pyarrow.feather as feather

        return feather.read_table(buffer)
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        detail = shown(str(error).splitlines()[0], 100) if str(error) else type(error).__name__
        raise DataError(f"{where}: the {content.kind.title()} file is damaged or cut ({detail}).") from error


def _parquet(source: Any, columns: Assignment, where: str) -> Any:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source)
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        return file.read()
    plain = ["index" if name.startswith("__index_level_") else name for name in names]
    needed = set(assign(plain, columns, where).at.values())
    # Columns that play no part stay in the table as empty ones, so that the report can name them.
    table = file.read(columns=[names[k] for k in sorted(needed)], use_pandas_metadata=False)
    empty = pa.nulls(table.num_rows) if len(needed) < len(names) else None
    return pa.table([table.column(name) if k in needed else empty for k, name in enumerate(names)], names=names)


def _headless(data: bytes, shape: Shape, columns: Assignment, where: str) -> Roles:
    names = [f"column {k}" for k in range(shape.width)]
    if columns:
        at = given(names, columns, where)
        missing = [role for role in ("timestamp", *PRICES) if role not in at]
        if missing:
            raise DataError(f"{where}: there is no header; columns must also place {', '.join(missing)}.")
        return Roles("no header", at)
    return recognise(read_every_column(data, shape, where), where)


def _distinct(tickers: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(name for name in tickers[1:] if name))


def _wide_text(
    data: bytes, shape: Shape, tickers: list[str], decimal: str | None, where: str
) -> tuple[Columns, Roles, list[str]]:
    """One column for each price and symbol (yfinance, many tickers): read as one table below the other."""
    names = list(shape.names)
    parts: list[tuple[str, Columns]] = []
    roles = Roles("yfinance", {})
    for ticker in tickers:
        own = [
            name if k == 0 or shape.tickers[k] == ticker else f"({shape.tickers[k]})" for k, name in enumerate(names)
        ]
        roles = assign(own, None, where)
        parts.append((ticker, read_text(data, shape, roles.at, decimal, where)))
    found = _stack(parts)
    return found, replace(roles, layout="yfinance", notes=(f"{len(tickers)} symbols side by side",)), names[:1]


def _wide_frame(frame: pd.DataFrame, where: str) -> Parts:
    """Two-level columns, as yfinance returns for several tickers."""
    prices = {alias for price in PRICES for alias in ALIASES[price]}
    level = max((0, 1), key=lambda k: sum(normal(name) in prices for name in set(frame.columns.get_level_values(k))))
    other = frame.columns.get_level_values(1 - level)
    parts: list[tuple[str, Columns]] = []
    roles = Roles("yfinance", {})
    for ticker in dict.fromkeys(other):
        own = frame.loc[:, np.asarray(other == ticker)]
        own = own.set_axis(own.columns.get_level_values(level), axis=1)
        found, roles, _ = from_frame(own, None, where)
        arrays = {role: as_arrow(column) for role, column in found.data.items()}
        parts.append((str(ticker), Columns(arrays, found.rows)))
    notes = (f"{len(parts)} symbols side by side",) if len(parts) > 1 else ()
    return _stack(parts), replace(roles, layout="yfinance"), BarsReport(layout="yfinance", notes=notes)


def _stack(parts: list[tuple[str, Columns]]) -> Columns:
    """Tables of single symbols as one; rows in which a symbol has no price at all are not its bars."""
    kept: list[tuple[str, dict[str, Any], Any]] = []
    absent = 0
    for ticker, part in parts:
        empty = np.ones(len(part.data["open"]), dtype=bool)
        for price in PRICES:
            empty &= part.data[price].is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        absent += int(empty.sum())
        mask = pa.array(~empty)
        kept.append(
            (ticker, {role: column.filter(mask) for role, column in part.data.items()}, part.rows.numbers[~empty])
        )
    roles = list(dict.fromkeys(role for _, columns, _ in kept for role in columns))
    data = {role: _joined([columns.get(role, pa.nulls(len(rows))) for _, columns, rows in kept]) for role in roles}
    data["symbol"] = pa.array([ticker for ticker, _, rows in kept for _ in range(len(rows))], type=pa.string())
    numbers = np.concatenate([rows for _, _, rows in kept])
    found = Columns(data, RowNumbers(lambda: numbers), parts[0][1].ragged)
    if absent:
        found.notes.append(f"{absent} cells of days without a bar of their symbol left out")
    return found


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

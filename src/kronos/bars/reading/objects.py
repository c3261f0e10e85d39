"""Tables of bars in JSON and in Python objects: found in whatever wraps them, as columns with or without names.

Exchanges, brokers and libraries give rows (ccxt, Binance), objects (Polygon), arrays by name (Finnhub), objects by time
(Alpha Vantage) or lines of text (East Money), below ``data``, ``result``, ``chart`` and the like.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from kronos.bars.reading.words import ALIASES, normal
from kronos.bars.report import ReadContext, listing, shown
from kronos.bars.schema import FEATURES, PRICES
from kronos.errors import CapacityError, DataError

_DEEPEST: Final = 8  # wrappers around a table
_WITHIN: Final = "\0"  # between the keys of a label: symbols hold points (600519.SH)
_MOST_MEMORY: Final = 2 * 2**30
_COSTS: Final = {b",": 40, b"[": 100, b"{": 250}  # bytes that Python takes for each value, list and object
_MOST_NAMES: Final = 1000
_SAMPLE: Final = 200  # rows that tell whether a list is a table
_SYMBOL_KEYS: Final = ("symbol", "ticker", "instrument", "pair", "instrument_id", "symbolName")
_HEADS, _BODIES = ("columns", "fields", "header"), ("data", "items", "rows", "values")


@dataclass(frozen=True)
class FoundTable:
    """A table that was found.

    Attributes:
        names: of its columns; empty: they have none.
        column: gives the values of a column by position.
        rows: the number of each row in its list, from 1.
        width: columns.
        odd: numbers of the entries that are no rows of this table.
        label: where it was found, or under which name.
        symbol, zone: what stands beside the table.
        text: lines of text instead of columns.
    """

    names: tuple[str, ...]
    column: Callable[[int], Any]
    rows: Any
    width: int
    odd: tuple[int, ...] = ()
    label: str = ""
    symbol: str | None = None
    zone: str | None = None
    text: bytes | None = None


def parse_json(data: bytes, reading: ReadContext) -> Any:
    """The values of a JSON document, or of one a line.

    Raises:
        CapacityError: it would take gigabytes of memory.
        DataError: it is damaged, or nested deeper than any table.
    """
    memory = len(data) + sum(cost * data.count(mark) for mark, cost in _COSTS.items())
    if memory > _MOST_MEMORY:
        raise CapacityError(
            f"{reading.where}: as JSON this takes about {memory / 2**30:.1f} GiB of memory. "
            "Convert the bars to CSV or Parquet, or cut the file."
        )
    try:
        try:
            return json.loads(data)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
        reading.note("JSON lines")
        return _parse_lines(data)
    except RecursionError:
        raise DataError(f"{reading.where}: the JSON is nested deeper than any table of bars.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{reading.where}, line {error.lineno}, column {error.colno}: the JSON is damaged or cut "
            f"({shown(error.msg, 60)}). Export it again."
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{reading.where}: the JSON is damaged ({shown(error, 80)}).") from error


def _parse_lines(data: bytes) -> list[Any]:
    """A document a line; the error of a line that is none carries its number."""
    values: list[Any] = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except json.JSONDecodeError as error:
                error.lineno = number
                raise
    return values


def find_grids(value: Any, reading: ReadContext) -> list[FoundTable]:
    """The tables of bars in a value; several only where each has a symbol.

    Raises:
        DataError: there is none, or more than one and nothing says whose they are.
    """
    wanted = {str(name) for name in (reading.columns or {}).values()}
    found = list(_search(value, lambda names: _like_bars(names, wanted), "", 0))
    if not found:  # columns whose names nobody knows: the error lists them
        found = list(_search(value, lambda names: len(names) >= 5, "", 0))[:1]
    if not found:
        raise DataError(
            f"{reading.where}: there is no table of bars in {_kind(value)}. Bars are a list of rows or of objects with "
            "a time, open, high, low and close, or a list for each of these."
        )
    names = [grid.symbol or grid.label.rpartition(_WITHIN)[2] for grid in found]
    if len(found) > 1 and (len(set(names)) < len(names) or any(name.isdigit() and len(name) < 4 for name in names)):
        places = ", ".join(shown(grid.label.replace(_WITHIN, ".") or "the top", 40) for grid in found[:4])
        raise DataError(f"{reading.where}: there are {len(found)} tables ({places} …). Keep one, or read each alone.")
    return found if len(found) == 1 else [replace(grid, symbol=name) for grid, name in zip(found, names)]


def _like_bars(names: Sequence[Any], wanted: set[str]) -> bool:
    """At least three prices, so that statistics with ``min`` and ``max`` are none; or columns that the caller names."""
    if len(names) > _MOST_NAMES:
        return False
    plain = {normal(name) for name in names}
    return sum(1 for price in PRICES if plain & set(ALIASES[price])) >= 3 or bool(wanted & set(map(str, names)))


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"an object with {listing(value)}" if value else "an empty object"
    return f"a list of {len(value)} entries" if isinstance(value, Sequence) else f"a {type(value).__name__}"


Test = Callable[[Sequence[Any]], bool]


def _search(value: Any, like: Test, label: str, depth: int) -> Iterator[FoundTable]:
    """The tables in a value, outermost first; what stands beside them tells the symbol."""
    grid = _grid(value, like)
    if grid is not None:
        yield replace(grid, label=label)
        return
    if depth == _DEEPEST:
        return
    children: Any = ()
    symbol = None
    if isinstance(value, Mapping):
        children = value.items()
        beside = {**value, **meta} if isinstance(meta := value.get("meta"), Mapping) else value
        symbol = next((beside[key] for key in _SYMBOL_KEYS if isinstance(beside.get(key), str)), None)
    elif isinstance(value, list | tuple) and len(value) <= _MOST_NAMES:
        children = enumerate(value)
    for key, child in children:
        if isinstance(child, Mapping | list | tuple | np.ndarray):
            for found in _search(child, like, f"{label}{_WITHIN}{key}".lstrip(_WITHIN), depth + 1):
                yield replace(found, symbol=found.symbol or symbol or None)


def _grid(value: Any, like: Test) -> FoundTable | None:
    """A value as a table, None where it is none."""
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, Mapping):
        return _of_mapping(value, like)
    if not isinstance(value, list | tuple) or not value:
        return None
    first = next((entry for entry in value if entry is not None), None)
    if isinstance(first, Mapping):
        return _of_records(value, like)
    if isinstance(first, str):
        some = value[:20]
        if all(isinstance(line, str) and len(line.split(",")) >= 5 for line in some):
            text = "\n".join(str(line).replace("\n", " ") for line in value).encode()
            return FoundTable((), lambda k: None, None, 0, text=text)
        return None
    if isinstance(first, list | tuple | np.ndarray):
        return _of_rows(value, like)
    if is_dataclass(first) or hasattr(first, "__dict__"):
        return _of_records([_fields_of(entry) for entry in value], like)
    return None


def _fields_of(entry: Any) -> Any:
    """What an object holds by name; anything else as it is."""
    if is_dataclass(entry):  # also one with slots
        return {item.name: getattr(entry, item.name) for item in fields(entry)}
    return getattr(entry, "__dict__", entry)


def _of_array(value: Any) -> FoundTable | None:
    if value.dtype.names and value.ndim == 1:
        names = tuple(value.dtype.names)
        return FoundTable(names, lambda k: value[names[k]], np.arange(1, 1 + len(value)), len(names))
    if value.ndim == 2 and value.shape[1] >= 5:
        return FoundTable((), lambda k: value[:, k], np.arange(1, 1 + len(value)), value.shape[1])
    return None


def _of_rows(value: Sequence[Any], like: Test) -> FoundTable | None:
    """A list of rows, with or without one of names on top."""
    if all(len(row) < 5 for row in value[:_SAMPLE] if isinstance(row, list | tuple | np.ndarray)):
        return None
    lengths = Counter(len(row) for row in value if isinstance(row, list | tuple | np.ndarray))
    width = lengths.most_common(1)[0][0]
    plain = all(not isinstance(cell, Mapping | list | tuple | np.ndarray) for cell in value[0] or ())
    if width < 5 or not plain:
        return None
    names = tuple(getattr(value[0], "_fields", ()))
    top = not names and all(isinstance(cell, str) for cell in value[0]) and like(value[0])
    if top:
        names, width = tuple(value[0]), len(value[0])
    good = [isinstance(row, list | tuple | np.ndarray) and len(row) == width for row in value]
    if top:
        good[0] = False
    odd = tuple(k + 1 for k, fits in enumerate(good) if not fits and not (top and k == 0))
    kept = value if all(good) else [row for row, fits in zip(value, good) if fits]
    return FoundTable(names, lambda k: [row[k] for row in kept], np.flatnonzero(good) + 1, width, odd)


def _of_records(value: Sequence[Any], like: Test) -> FoundTable | None:
    """A list of objects; prices may lie one level deeper (OANDA: ``{"time": …, "mid": {"o": …}}``)."""
    some = [row for row in value[:_SAMPLE] if isinstance(row, Mapping)]
    names, inner = _keys(some), None
    if not like(names):
        inner = next((key for key in names if isinstance(some[0].get(key), Mapping) and like(list(some[0][key]))), None)
        if inner is None:
            return None
    good = [isinstance(row, Mapping) for row in value]
    kept = [row for row in value if isinstance(row, Mapping)]
    names = _keys(kept)
    if inner is not None:
        kept = [
            {**row, **(row.get(inner) or {})} if isinstance(row.get(inner), Mapping | None) else row for row in kept
        ]
        names = [name for name in _keys(kept) if name != inner]
    odd = tuple(k + 1 for k, fits in enumerate(good) if not fits)
    shown_names = tuple(map(str, names))
    return FoundTable(
        shown_names, lambda k: [row.get(names[k]) for row in kept], np.flatnonzero(good) + 1, len(names), odd
    )


def _keys(rows: Sequence[Mapping[Any, Any]]) -> list[Any]:
    """The keys of all objects, in the order they come."""
    names: dict[Any, None] = {}
    for row in rows:
        if len(names) > _MOST_NAMES:
            break
        names.update(dict.fromkeys(row))
    return list(names)


def _of_mapping(value: Mapping[Any, Any], like: Test) -> FoundTable | None:
    """Arrays by name, objects by time or by name, and the layouts of pandas and of Yahoo's chart."""
    if "indicators" in value and "timestamp" in value:
        return _of_yahoo(value, like)
    for head in _HEADS:
        names, body = value.get(head), next((value[key] for key in _BODIES if key in value), None)
        if isinstance(names, list) and names and isinstance(body, list) and like([_name(name) for name in names]):
            return _with_names([_name(name) for name in names], body, value.get("index"), like)
    keys = list(value)
    first = next(iter(value.values()), None)
    if like(keys):
        arrays = {str(key): column for key, column in value.items() if _is_array(column)}
        if like(list(arrays)):
            return _of_columns(arrays)
        if isinstance(first, Mapping):  # pandas: a column is an object by the index
            index = list(first)
            given = {str(key): [column.get(k) for k in index] for key, column in value.items() if _is_map(column)}
            counts = [str(k) for k in index] == [str(k) for k in range(len(index))]
            return _of_columns(given if counts else {"index": index, **given})
    if isinstance(first, Mapping) and like(list(first)) and all(map(_is_map, value.values())):
        if like([key for key, column in first.items() if _is_array(column) or _is_map(column)]):
            return None  # a table for each symbol
        inner = {normal(name) for name in first}
        timed = bool(inner & set(ALIASES["timestamp"]))
        counts = [str(k) for k in keys] == [str(k) for k in range(len(keys))]
        name = "(empty)" if timed and counts else "symbol" if timed else "timestamp"
        return _of_records([{name: key, **row} for key, row in value.items()], like)
    return None


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_array(value: Any) -> bool:
    """A list of values, not one of rows."""
    if isinstance(value, list | tuple):
        return not value or not isinstance(value[0], Mapping | list | tuple)
    return isinstance(value, pd.Series | pd.Index) or (hasattr(value, "__array__") and getattr(value, "ndim", 1) == 1)


def _name(head: Any) -> str:
    """A column's name: text, or an object that holds it (pandas' ``table``, Google's charts)."""
    if isinstance(head, Mapping):
        return str(head.get("name") or head.get("label") or head.get("id") or "")
    return str(head)


def _with_names(names: list[str], body: list[Any], index: Any, like: Test) -> FoundTable | None:
    """Rows beside a list of their names; pandas' ``split`` has an index too."""
    if body and isinstance(body[0], Mapping):
        return _of_records(body, like)
    if index is not None and isinstance(index, list) and len(index) == len(body):
        names, body = ["index", *names], [[key, *row] for key, row in zip(index, body) if isinstance(row, list)]
    return _of_rows([names, *body], like) if body else None


def _of_columns(columns: Mapping[str, Any]) -> FoundTable:
    """A list for each column, all of one length; lists that are no columns of bars may have another."""
    lengths = {name: len(column) for name, column in columns.items()}
    count = Counter(lengths.values()).most_common(1)[0][0]
    roles = {alias for role in ("timestamp", *FEATURES) for alias in ALIASES[role]}
    short = [name for name in columns if lengths[name] != count]
    if bad := [name for name in short if normal(name) in roles]:
        raise DataError(
            f"The columns differ in length: {count} values each, but {lengths[bad[0]]} in '{shown(bad[0])}'. "
            "Give every column one value a bar."
        )
    kept = {name: column for name, column in columns.items() if name not in short}
    names = tuple(kept)
    return FoundTable(names, lambda k: kept[names[k]], np.arange(1, 1 + count), len(names))


def _of_yahoo(value: Mapping[Any, Any], like: Test) -> FoundTable | None:
    """Yahoo's chart: times, and prices below ``indicators.quote[0]``; bars that it lacks are nulls."""
    indicators = value["indicators"]
    quotes = indicators.get("quote") if isinstance(indicators, Mapping) else None
    quote = quotes[0] if isinstance(quotes, list) and quotes else None
    if not isinstance(quote, Mapping) or not isinstance(value["timestamp"], list) or not like(list(quote)):
        return None
    adjusted = indicators.get("adjclose")
    extra = adjusted[0] if isinstance(adjusted, list) and adjusted and isinstance(adjusted[0], Mapping) else {}
    every = {"timestamp": value["timestamp"], **quote, **extra}
    grid = _of_columns({str(key): column for key, column in every.items() if isinstance(column, list)})
    meta = beside if isinstance(beside := value.get("meta"), Mapping) else {}
    symbol, zone = meta.get("symbol"), meta.get("exchangeTimezoneName")
    return replace(grid, symbol=str(symbol) if symbol else None, zone=zone if isinstance(zone, str) else None)

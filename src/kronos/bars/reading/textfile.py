"""Text files into Arrow columns: encoding, delimiter and header from what fits most lines, then one parse.

Only the columns that bars need are read, with the line number of each row.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.defects import Finding
from kronos.bars.reading.layouts import has_header, normal
from kronos.bars.reading.numbers import BLANKS, to_plain
from kronos.bars.report import RowNumbers, shown
from kronos.errors import DataError

_HEAD: Final = 256 * 1024
_DELIMITERS: Final = (",", "\t", ";", "|")
_BLOCK: Final = 2**21  # bytes a thread parses at a time; also the longest row
_TEXT_ROLES: Final = ("timestamp", "clock", "symbol")


@dataclass(frozen=True)
class Shape:
    """How a text file is laid out.

    Attributes:
        delimiter: one character; a space stands for runs of white space.
        header_lines: lines before the first row of data (titles, header, unit lines).
        names: column names, or empty when there is no header.
        width: cells a row.
        tickers: the second header line of yfinance's newer files: a symbol for each column.
    """

    delimiter: str
    header_lines: int
    names: tuple[str, ...]
    width: int
    tickers: tuple[str, ...] = ()


def decode(data: bytes, reading: ReadContext) -> bytes:
    """The file as UTF-8 without a byte order mark."""
    if reading.encoding is not None:
        try:
            text = data.decode(reading.encoding)
        except (LookupError, UnicodeError) as error:
            raise DataError(
                f"{reading.where}: the text is not {reading.encoding}. Leave encoding (--encoding) out, or name the "
                "right one."
            ) from error
        return _noted(text, reading.encoding, reading)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _utf16(data, "utf-16", reading)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in data[:_HEAD]:
        for name in ("utf-16-le", "utf-16-be"):
            half = data[0:400:2] if name == "utf-16-be" else data[1:400:2]
            if half.count(0) > 0.8 * len(half):
                return _utf16(data, name, reading)
        raise DataError(f"{reading.where}: this is a binary file, not a table. Give CSV text, Parquet or Feather.")
    if data.isascii():
        return data
    for name in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            text = data.decode(name)
            return data if name == "utf-8" else _noted(text, name, reading)
    return _noted(data.decode("latin-1"), "latin-1", reading)


def _utf16(data: bytes, name: str, reading: ReadContext) -> bytes:
    try:
        return _noted(data.decode(name), name, reading)
    except UnicodeError as error:
        raise DataError(
            f"{reading.where}: the text is cut or damaged (it starts as {name}). Export it again."
        ) from error


def _noted(text: str, encoding: str, reading: ReadContext) -> bytes:
    if encoding not in ("ascii", "utf-8"):
        reading.note(f"encoding {encoding}")
    return text.lstrip("\ufeff").encode()


def shape_of(data: bytes, where: str) -> Shape:
    """Find delimiter, header and width."""
    lines = data[:_HEAD].decode("utf-8", errors="replace").splitlines()
    if len(data) > _HEAD and len(lines) > 1:
        lines = lines[:-1]  # the last one is cut
    lines = lines[:2000]
    if not any(line.strip() for line in lines):
        raise DataError(f"{where}: the file is empty. Bars need a header and at least one row.")
    if lines[0].lstrip()[:1] in ("{", "[", "<") and not lines[0].upper().startswith(("<DATE", "<TICKER", "<TIME")):
        kind = "HTML or XML" if lines[0].lstrip()[0] == "<" else "JSON"
        raise DataError(f"{where}: this is {kind}, not a table. Export the bars as CSV, Parquet or Feather.")
    delimiter = _delimiter(lines)
    cells = [split(line, delimiter) for line in lines]
    width = max(Counter(len(row) for row in cells if any(row)).most_common(1), default=(0, 0))[0]
    if width < 5:
        raise DataError(
            f"{where}: rows have {width} column{'s' if width > 1 else ''}; bars need a timestamp and four prices, "
            "separated by comma, semicolon, tab or |."
        )
    return _header(cells, delimiter, width)


def split(line: str, delimiter: str) -> list[str]:
    """The cells of one line, quotes respected."""
    if delimiter == " ":
        return line.split()
    try:
        return [cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=delimiter), [])]
    except csv.Error:
        return line.split(delimiter)


def _delimiter(lines: list[str]) -> str:
    """The delimiter that cuts most lines into the same number of cells, five or more."""
    sample = [line for line in lines[:300] if line.strip()]
    best, most = ",", 0.0
    for candidate in (*_DELIMITERS, " "):
        widths = Counter(len(split(line, candidate)) for line in sample)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        # White space only where nothing else cuts: dates and times contain it too.
        score = count / len(sample) if width >= 5 else 0.0
        if score > most + (0.2 if candidate == " " else 0.0):
            best, most = candidate, score
    if best == "," and most > 0:
        # 1,5;2,5: decimal commas can cut lines evenly too; a header without commas tells.
        semicolons = Counter(line.count(";") for line in sample)
        width, count = semicolons.most_common(1)[0]
        if width >= 4 and count >= 0.9 * len(sample):
            return ";"
    return best


def _header(cells: list[list[str]], delimiter: str, width: int) -> Shape:
    """The header is the first line with column names of bars, among the first lines."""
    for position, row in enumerate(cells[:30]):
        if not has_header(row):
            continue
        names, tickers, end = _ticker_lines(cells, position)
        body = [row for row in cells[end : end + 200] if any(row)]
        if body and all(len(line) == len(names) + 1 and line[-1] == "" for line in body):
            names = [*names, "(empty)"]  # each row ends with a delimiter, the header does not
        elif body and all(len(line) == len(names) + 1 for line in body):
            names = ["index", *names]  # a nameless index column
        return Shape(delimiter, end, tuple(names), len(names), tickers)
    for position, row in enumerate(cells[:30]):
        if len(row) == width and _is_words(row):  # names in a language that we do not know: the error lists them
            return Shape(delimiter, position + 1, tuple(row), width)
    # Titles and notes may stand above a table without column names.
    blank = next((k for k, row in enumerate(cells) if len(row) == width), 0)
    return Shape(delimiter, blank, (), width)


def _ticker_lines(cells: list[list[str]], position: int) -> tuple[list[str], tuple[str, ...], int]:
    """The extra header lines of yfinance: the ticker of each column, and the name of the index alone."""
    row, end = cells[position], position + 1
    tickers: tuple[str, ...] = ()
    if normal(row[0]) in ("price", ""):
        above = cells[position - 1] if position else [""]
        below = cells[end] if len(cells) > end else [""]
        if below and normal(below[0]) == "ticker":
            tickers, end = tuple(below), end + 1
        elif above and normal(above[0]) == "ticker":
            tickers = tuple(above)
    names = ["Date", *row[1:]] if tickers else row
    if len(cells) > end and cells[end] and normal(cells[end][0]) in ("date", "datetime") and not any(cells[end][1:]):
        end += 1
    return names, tickers if len(tickers) == len(names) else (), end


def _is_words(row: list[str]) -> bool:
    """True when no cell is a number, a date or a time."""
    return sum(1 for cell in row if cell) >= 4 and not any(re.match(r"[+-]?[.,]?\d", cell) for cell in row)


@dataclass(frozen=True)
class Columns:
    """Source columns by role, with the line number of each row.

    Attributes:
        data: role → Arrow array.
        rows: line numbers, 1-based.
        ragged: rows that could not be cut into cells.
    """

    data: dict[str, Any]
    rows: RowNumbers
    ragged: tuple[Finding, ...] = ()


def read_text(data: bytes, shape: Shape, at: dict[str, int], reading: ReadContext) -> Columns:
    """Parse the columns that play a part."""
    roles = {f"c{position}": role for role, position in at.items()}
    quick = {name: pa.string() if role in _TEXT_ROLES else pa.float64() for name, role in roles.items()}
    found: dict[str, Any] = {}
    try:
        table, bad = _parse(data, shape, quick)
    except pa.ArrowInvalid:
        table, bad = _parse_as_text(data, shape, dict.fromkeys(roles, pa.string()), reading.where)
        text = {roles[name]: table.column(name).combine_chunks() for name in roles if roles[name] not in _TEXT_ROLES}
        found = to_plain(text, reading)
    for name, role in roles.items():
        if role not in found:
            column = table.column(name)
            found[role] = column if pa.types.is_floating(column.type) else column.combine_chunks()
    count = table.num_rows
    rows = RowNumbers(lambda: line_numbers(data, shape.header_lines, count, bad))
    ragged = Finding("ragged_row", np.empty(0, dtype=np.int64), None, f"not {shape.width} cells", tuple(bad))
    return Columns(found, rows, (ragged,) if bad else ())


def _parse_as_text(data: bytes, shape: Shape, types: dict[str, Any], where: str) -> tuple[Any, list[int]]:
    try:
        return _parse(data, shape, types)
    except pa.ArrowInvalid as error:
        detail = shown(str(error).splitlines()[0], 120)
        raise DataError(f"{where}: the text cannot be cut into rows and columns ({detail}).") from error


def _parse(data: bytes, shape: Shape, types: dict[str, Any]) -> tuple[Any, list[int]]:
    """One pass of Arrow's parser; where it meets rows of another length, one more in a single thread that skips them.

    The threaded pass calls no Python: a thread that still runs after another one has failed would call a function
    that is gone, and take the process down.
    """
    try:
        return _arrow(data, shape, types, None, threads=len(data) > _BLOCK), []  # one block needs no other threads
    except pa.ArrowInvalid as error:
        if not str(error).startswith("CSV parse error"):
            raise
    numbers: list[int] = []

    def skip(row: Any) -> str:
        numbers.append(int(row.number))
        return "skip"

    table = _arrow(data, shape, types, skip, threads=False)
    filled = _filled_lines(data)  # Arrow does not count blank lines
    return table, [int(filled[k - 1]) if k <= len(filled) else k for k in numbers]


def _arrow(data: bytes, shape: Shape, types: dict[str, Any], handler: Any, *, threads: bool) -> Any:
    return pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(
            column_names=[f"c{k}" for k in range(shape.width)],
            skip_rows=shape.header_lines,
            use_threads=threads,
            block_size=_BLOCK,
        ),
        parse_options=pacsv.ParseOptions(delimiter=shape.delimiter, invalid_row_handler=handler),
        convert_options=pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=list(BLANKS),
            strings_can_be_null=True,
        ),
    )


def read_every_column(data: bytes, shape: Shape, reading: ReadContext) -> list[Any]:
    """All columns with the types that their cells suggest, for tables without a header."""
    names = [f"c{k}" for k in range(shape.width)]
    table, _ = _parse_as_text(data, shape, dict.fromkeys(names, pa.string()), reading.where)
    columns: list[Any] = []
    for name in names:
        text = table.column(name).combine_chunks()
        if text.null_count == len(text):
            columns.append(text)
            continue
        try:
            columns.append(pc.cast(text, pa.float64()))
        except pa.ArrowInvalid:
            columns.append(to_plain({name: text}, ReadContext(where=reading.where))[name])
    return columns


def line_numbers(data: bytes, header_lines: int, count: int, bad: list[int]) -> npt.NDArray[np.int64]:
    """The line of the file on which each parsed row stands; ``bad`` are the lines that were skipped."""
    if not bad and not _has_blank_lines(data):
        return np.arange(header_lines + 1, header_lines + 1 + count)
    filled = _filled_lines(data)
    filled = filled[filled > header_lines]
    if bad:
        filled = filled[~np.isin(filled, bad)]
    if len(filled) < count:  # quoted line breaks: the order is kept, the exact line is not known
        return np.arange(header_lines + 1, header_lines + 1 + count)
    return filled[:count]


def _filled_lines(data: bytes) -> npt.NDArray[np.int64]:
    """Numbers of the lines that are not blank."""
    return np.array([k for k, line in enumerate(data.splitlines(), start=1) if line], dtype=np.int64)


def _has_blank_lines(data: bytes) -> bool:
    return b"\n\n" in data or b"\n\r\n" in data

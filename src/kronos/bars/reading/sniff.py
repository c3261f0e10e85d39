"""The shape of a text file: encoding, delimiter and header, from what fits most of its lines."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.layouts import has_header, normal
from kronos.errors import DataError

HEAD: Final = 256 * 1024
_DELIMITERS: Final = (",", "\t", ";", "|")


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
    """The file as UTF-8 without a byte order mark.

    Raises:
        DataError: binary content, or an encoding that does not fit.
    """
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
    if b"\x00" in data[:HEAD]:
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
    """Find delimiter, header and width.

    Raises:
        DataError: no lines, or nothing that looks like a table.
    """
    lines = data[:HEAD].decode("utf-8", errors="replace").splitlines()
    if len(data) > HEAD and len(lines) > 1:
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

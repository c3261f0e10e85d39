"""Text into Arrow columns: delimiter and header from what fits most lines, one parse, cells that mean numbers."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from kronos.bars.reading.datetext import count_matches
from kronos.bars.reading.defects import Finding
from kronos.bars.reading.layouts import Roles, has_header
from kronos.bars.reading.words import BLANKS, UNITS, normal
from kronos.bars.report import ReadContext, TwoReadingsError, name_columns, shown
from kronos.errors import DataError

_HEAD: Final = 256 * 1024
_BLOCK: Final = 2**21  # bytes a thread parses at a time; also the longest row
_LONGEST_SOURCE: Final = 4096  # bytes of a line below the table
TEXT_ROLES: Final = ("timestamp", "clock", "symbol")
_WIDEST: Final = 64  # columns of a table without a header; each is tried as numbers
_BEGINS_AS_NUMBER: Final = re.compile(r"[+-]?[.,]?\d")
# 1,234 and 1,234,567.8 and 1,23,456 (Indian lakh); the first reading of a comma
_POWER: Final = r"(?:[eE][+-]?\d+)?"
_GAPS: Final = r"' ’_\x{00A0}\x{202F}"  # marks of thousands that are no comma and no point
_GROUP_COMMA: Final = r"^[+-]?\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?$"
_DECIMAL_COMMA: Final = rf"^[+-]?(?:\d+|\d{{1,3}}(?:[.{_GAPS}]\d{{3}})+)(?:,\d*)?{_POWER}$"
_GROUP_SPACE: Final = rf"^[+-]?\d{{1,3}}(?:[{_GAPS}]\d{{3}})+(?:\.\d*)?$"
_UNIT: Final = "|".join(sorted(filter(None, UNITS), key=len, reverse=True))
_UNIT_TAIL: Final = rf"(?i)^([+-]?[\d.,{_GAPS}]*[\d.,])\s*((?:{_UNIT})\.?)$"
_NUMBER_UNIT: Final = rf"(?i)^(?P<number>[+-]?(?:\d+\.?\d*|\.\d+){_POWER})\s*(?P<unit>(?:{_UNIT})?)\.?$"
_MONEY: Final = r"(?:US|HK|A|C|R|NT)?[$€£¥￥₹₩₽₺฿₿]|USD[TC]?|EUR|GBP|CHF|CNY|HKD|JPY|KRW|RUB|BRL|руб\.?|元|円|원|zł"


@dataclass(frozen=True)
class Shape:
    """How a text file is laid out."""

    delimiter: str  # one character; a space stands for runs of white space
    header_lines: int  # before the first row of data: titles, header, unit lines
    names: list[str]  # empty when there is no header
    width: int  # cells a row
    tickers: list[str] = field(default_factory=list)  # a symbol for each column, as yfinance has them below the header
    titles: tuple[str, ...] = ()  # lines above the header
    stray: tuple[int, ...] = ()  # numbers of broken rows above the first whole one of a table without a header


def shape_of(data: bytes, where: str) -> Shape:
    """Find delimiter, header and width."""
    lines = data[:_HEAD].decode("utf-8", errors="replace").splitlines()
    lines = lines[: -1 if len(data) > _HEAD and len(lines) > 1 else None][:2000]  # the last one is cut
    if not any(line.strip() for line in lines):
        raise DataError(f"{where}: the file is empty. Bars need a header and at least one row.")
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
    for candidate in (",", "\t", ";", "|", " "):
        widths = Counter(len(split(line, candidate)) for line in sample)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        # White space only where nothing else cuts: dates and times contain it too.
        score = count / len(sample) if width >= 5 else 0.0
        if score > most + (0.2 if candidate == " " else 0.0):
            best, most = candidate, score
    if best == "," and most > 0:
        # 1,5;2,5: decimal commas can cut lines evenly too; a header without commas tells.
        width, count = Counter(line.count(";") for line in sample).most_common(1)[0]
        if width >= 4 and count >= 0.9 * len(sample):
            return ";"
    return best


def _header(cells: list[list[str]], delimiter: str, width: int) -> Shape:
    """The header is the first line with column names of bars, among the first lines."""
    for position, row in enumerate(cells[:30]):
        if not has_header(row):
            continue
        names, tickers, end, first = row, list[str](), position + 1, position
        if normal(row[0]) in ("price", ""):  # yfinance: a line with the ticker of each column, below or above
            for near in (end, position - 1):
                if 0 <= near < len(cells) and not tickers and cells[near] and normal(cells[near][0]) == "ticker":
                    names, tickers, end = ["Date", *row[1:]], cells[near], max(end, near + 1)
                    first = min(near, position)
        if (
            len(cells) > end
            and cells[end]
            and normal(cells[end][0]) in ("date", "datetime")
            and not any(cells[end][1:])
        ):
            end += 1  # … and one with the name of the index alone
        tickers = tickers if len(tickers) == len(names) else []
        body = [line for line in cells[end : end + 200] if any(line)]
        if body and all(len(line) == len(names) + 1 for line in body):
            # Each row ends with a delimiter that the header lacks, or begins with an index column without a name.
            names = [*names, "(empty)"] if all(line[-1] == "" for line in body) else ["index", *names]
        titles = tuple(" ".join(filter(None, line)) for line in cells[:first] if any(line))
        return Shape(delimiter, end, names, len(names), tickers, titles)
    for position, row in enumerate(cells[:30]):
        words = sum(map(bool, row)) >= 4 and not any(map(_BEGINS_AS_NUMBER.match, row))
        if len(row) == width and words:  # names in a language that we do not know: the error lists them
            return Shape(delimiter, position + 1, row, width)
    # Titles and notes may stand above a table without column names.
    full = [k for k, row in enumerate(cells) if len(row) == width]
    runs = zip(full, full[1:], full[2:])
    sound = (run[0] for run in runs if not _is_junk(*(cells[k] for k in run)))
    first = next(sound, full[0])
    titles = tuple(row[0] for row in cells[:first] if len(row) == 1 and row[0])
    stray = tuple(k + 1 for k in range(first) if len(cells[k]) > 1)
    return Shape(delimiter, first, [], width, titles=titles, stray=stray)


def _is_junk(row: list[str], *after: list[str]) -> bool:
    """Whether a row of full width holds words in two or more places where the rows after it hold numbers."""
    words = [k for k, cell in enumerate(row) if cell not in BLANKS and not _BEGINS_AS_NUMBER.match(cell)]
    return sum(all(_BEGINS_AS_NUMBER.match(later[k]) for later in after) for k in words) >= 2


def without_sources(data: bytes, shape: Shape, reading: ReadContext) -> bytes:
    """The text without lines below the table that name its source, and a note of what stands in them and above it."""
    below: list[str] = []
    end = len(data)
    while len(below) < 10:
        first = max(0, end - _LONGEST_SOURCE)
        tail = data[first:end].rstrip()
        start = tail.rfind(b"\n") + 1
        cells = split(tail[start:].decode("utf-8", errors="replace"), shape.delimiter) if start else []
        filled = [cell for cell in cells if cell]
        if not filled or not _names_source(filled, len(cells) == shape.width):
            break
        if data.count(b"\n", 0, first + start) <= shape.header_lines:  # nothing but it is below the header
            break
        below.append(" ".join(filled))
        end = first + start
    data = data[:end] if below else data
    for lines, place in ((shape.titles, "above"), (below[::-1], "below")):
        if lines:
            reading.note(f"{len(lines)} line{'s' * (len(lines) > 1)} {place} the table left out: '{shown(lines[0])}'")
    return data


def _names_source(filled: list[str], full: bool) -> bool:
    """Whether a line is words, not a row: it does not begin as a date, and no other cell of it is a number."""
    begins = re.match(r"[\W_]*(?:\d|[^\W\d]{3,9}[ .,\-/]*\d)", filled[0])
    numbers = any(re.match(r"[^\w]*\d", cell) for cell in filled[1:])
    blank = filled[0] in BLANKS or not any(map(str.isalpha, filled[0]))
    return not (begins or numbers or blank) and (not full or len(filled) == 1)


@dataclass(frozen=True)
class Columns:
    """Source columns by role."""

    data: dict[str, Any]  # Arrow arrays, or pandas columns of a table in memory
    rows: Any  # the number of each row in its source, from 1: an array, or LineNumbers
    roles: Roles
    ragged: tuple[Finding, ...] = ()  # rows that could not be cut into cells


def read_text(data: bytes, shape: Shape, roles: Roles, reading: ReadContext) -> Columns:
    """Parse the columns that play a part."""
    parts = {f"c{position}": role for role, position in roles.at.items()}
    quick = {name: pa.string() if role in TEXT_ROLES else pa.float64() for name, role in parts.items()}
    found: dict[str, Any] = {}
    try:
        table, bad = _parse(data, shape, quick)
    except pa.ArrowInvalid:
        table, bad = _parse_as_text(data, shape, list(parts), reading.where)
        text = {parts[name]: table.column(name).combine_chunks() for name in parts if parts[name] not in TEXT_ROLES}
        found = as_numbers(text, reading)
    for name, role in parts.items():
        if role not in found:
            column = table.column(name)
            found[role] = column if pa.types.is_floating(column.type) else column.combine_chunks()
    rows = LineNumbers(data, shape.header_lines + 1, table.num_rows, bad)
    bad = [*shape.stray, *bad]
    return Columns(found, rows, roles, _broken_rows(data, shape, bad))


def _broken_rows(data: bytes, shape: Shape, bad: list[int]) -> tuple[Finding, ...]:
    """Lines that are no rows: those with another number of cells, and words above a table without a header."""
    lines = data.splitlines() if bad else []
    text = {number: lines[number - 1].decode(errors="replace") for number in shape.stray}
    stray = tuple(n for n in shape.stray if len(split(text[n], shape.delimiter)) == shape.width)
    ragged = tuple(n for n in bad if n not in stray)
    found: list[Finding] = []
    if ragged:
        example = shown(lines[ragged[0] - 1].decode(errors="replace"))
        found.append(Finding("ragged_row", example=f"{example!r}, not {shape.width} cells", rows_gone=ragged))
    if stray:
        found.append(Finding("stray_row", example=repr(shown(text[stray[0]])), rows_gone=stray))
    return tuple(found)


def _parse_as_text(data: bytes, shape: Shape, names: list[str], where: str) -> tuple[Any, list[int]]:
    try:
        return _parse(data, shape, dict.fromkeys(names, pa.string()))
    except pa.ArrowInvalid as error:
        detail = shown(str(error).splitlines()[0], 120)
        raise DataError(f"{where}: the text cannot be cut into rows and columns ({detail}).") from error


def _parse(data: bytes, shape: Shape, types: dict[str, Any]) -> tuple[Any, list[int]]:
    """One pass of Arrow's parser; where it meets rows of another length, one more in a single thread that skips them.

    The threaded pass calls no Python: a thread that still runs after another one has failed would call a function
    that is gone, and take the process down.
    """
    numbers: list[int] = []

    def skip(row: Any) -> str:
        numbers.append(int(row.number))
        return "skip"

    def parse(handler: Any, threads: bool) -> Any:
        names = [f"c{k}" for k in range(shape.width)]
        return pacsv.read_csv(
            pa.BufferReader(data),
            pacsv.ReadOptions(column_names=names, skip_rows=shape.header_lines, use_threads=threads, block_size=_BLOCK),
            pacsv.ParseOptions(delimiter=shape.delimiter, invalid_row_handler=handler),
            pacsv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=list(BLANKS), strings_can_be_null=True
            ),
        )

    try:
        return parse(None, len(data) > _BLOCK), []  # one block needs no other threads
    except pa.ArrowInvalid as error:
        if not str(error).startswith("CSV parse error"):
            raise
    table = parse(skip, False)
    filled = _filled_lines(data)  # Arrow does not count blank lines
    return table, [int(filled[k - 1]) if k <= len(filled) else k for k in numbers]


def read_every_column(data: bytes, shape: Shape, reading: ReadContext) -> list[Any]:
    """All columns, as float64 where every cell is a number, for tables without a header."""
    if shape.width > _WIDEST:
        places = name_columns(timestamp=0, open=1, high=2, low=3, close=4)
        raise DataError(
            f"{reading.where}: there is no header, and {shape.width} columns are too many to tell open, high, low and "
            f"close by their values. Say it by position, from 0: {places}."
        )
    names = [f"c{k}" for k in range(shape.width)]
    table, _ = _parse_as_text(data, shape, names, reading.where)
    columns: list[Any] = []
    for name in names:
        text = table.column(name).combine_chunks()
        if text.null_count < len(text):
            try:
                text = pc.cast(text, pa.float64())
            except pa.ArrowInvalid:
                text = as_numbers({name: text}, ReadContext(where=reading.where))[name]
        columns.append(text)
    return columns


@dataclass(frozen=True)
class LineNumbers:
    """The line of each parsed row, indexed as an array; counted at the first look, which few files need."""

    data: bytes
    first: int
    count: int
    bad: list[int]  # lines that were skipped

    def __getitem__(self, positions: Any) -> Any:
        return self._numbers[positions]

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        if self.bad or b"\n\n" in self.data or b"\n\r\n" in self.data:
            filled = _filled_lines(self.data)
            filled = filled[(filled >= self.first) & ~np.isin(filled, self.bad)]
            if len(filled) >= self.count:  # else quoted line breaks: the order is kept, the exact line is not known
                return filled[: self.count]
        return np.arange(self.first, self.first + self.count)


def _filled_lines(data: bytes) -> npt.NDArray[np.int64]:
    """Numbers of the lines that are not blank."""
    return np.array([k for k, line in enumerate(data.splitlines(), start=1) if line], dtype=np.int64)


def as_numbers(columns: dict[str, Any], reading: ReadContext) -> dict[str, Any]:
    """Text columns as float64 where every cell is a number, by one reading for the whole table.

    Decimal commas, thousands separators, currency signs, K and M are understood. A column that holds other text
    stays text (the validator then names its rows), but cells that are numbers in it are written plainly.
    """
    bare: dict[str, Any] = {}  # cells without currency signs; blanks become null
    for name, column in columns.items():
        text = pc.replace_substring(pc.utf8_trim_whitespace(column.cast(pa.string())), "\u2212", "-")
        text = pc.replace_substring_regex(text, rf"^([+-]?)\s*(?:{_MONEY})\s*|\s*(?:{_MONEY})$", r"\1")
        bare[name] = pc.if_else(pc.is_in(text, pa.array(BLANKS)), pa.scalar(None, pa.string()), text)
    mark = reading.decimal or _decimal_mark(bare, reading.where)
    if mark == ",":
        reading.note("decimal comma")
    return {name: _plain(column, mark, name, reading) for name, column in bare.items()}


def _decimal_mark(columns: dict[str, Any], where: str) -> str:
    """``.`` or ``,``, judged over all numeric columns together."""
    point = comma = 0
    either: list[str] = []
    for column in columns.values():
        cells = pc.filter(column, pc.match_substring(column, ","))
        cells = pc.replace_substring_regex(cells, _UNIT_TAIL, r"\1")
        grouped, decimal = (
            pc.match_substring_regex(cells, pattern).to_numpy(zero_copy_only=False).astype(bool)
            for pattern in (_GROUP_COMMA, _DECIMAL_COMMA)
        )
        point += int(np.count_nonzero(grouped & ~decimal))
        comma += int(np.count_nonzero(decimal & ~grouped))
        either += [cells[int(k)].as_py() for k in np.flatnonzero(grouped & decimal)[:1]]
    if comma and not point:
        return ","
    if either and not point and not any(count_matches(column, r"^[+-]?\d*\.\d+$") for column in columns.values()):
        raise TwoReadingsError(
            f"{where}: numbers such as '{shown(either[0])}' read with a decimal comma and with a thousands comma. "
            "Say which with decimal=',' (--decimal ,) or decimal='.' (--decimal .)."
        )
    return "."


def _plain(column: Any, mark: str, name: str, reading: ReadContext) -> Any:
    """One column by the table's reading of commas; volume and amount may carry units (``1.2M``, ``3.4万``)."""
    text, unit = column, pc.match_substring_regex(column, _UNIT_TAIL)
    if pc.any(unit).as_py():  # the number is read as any other, and its unit put back
        number, tail = (pc.replace_substring_regex(column, _UNIT_TAIL, part) for part in (r"\1", r"\2"))
        plain = _plain_cells(pc.if_else(unit, number, column), mark)
        text = pc.if_else(unit, pc.binary_join_element_wise(plain, tail, ""), plain)
    else:
        text = _plain_cells(column, mark)
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        fields = pc.extract_regex(text, _NUMBER_UNIT)
    if name not in ("volume", "amount") or fields.null_count > text.null_count:
        return text
    found = pc.utf8_lower(pc.struct_field(fields, "unit"))
    some = [str(unit) for unit in pc.unique(found).to_pylist() if unit]
    usual = all(unit in "kmbt" for unit in some)
    reading.note(f"{name} is written with units ({'K, M, B' if usual else ', '.join(some)})")
    units = pc.index_in(found, pa.array(list(UNITS)))
    factor = pc.take(pa.array(list(UNITS.values())), units)
    return pc.multiply(pc.cast(pc.struct_field(fields, "number"), pa.float64()), factor)


def _plain_cells(text: Any, mark: str) -> Any:
    """Numbers by one reading of commas, without marks of thousands and with a decimal point; other text as it is."""
    if mark == ",":
        bare = pc.replace_substring(pc.replace_substring_regex(text, rf"[.{_GAPS}]", ""), ",", ".")
        return pc.if_else(pc.match_substring_regex(text, _DECIMAL_COMMA), bare, text)
    for pattern, marks in ((_GROUP_COMMA, ","), (_GROUP_SPACE, rf"[{_GAPS}]")):
        fits = pc.match_substring_regex(text, pattern)
        if pc.any(fits).as_py():
            text = pc.if_else(fits, pc.replace_substring_regex(text, marks, ""), text)
    return text

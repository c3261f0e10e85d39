"""Text files into Arrow columns: only the columns that bars need, parsed once, with their line numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.defects import Finding
from kronos.bars.reading.numbers import BLANKS, to_plain
from kronos.bars.reading.sniff import Shape
from kronos.bars.report import RowNumbers, shown
from kronos.errors import DataError

_BLOCK: Final = 2**21  # bytes a thread parses at a time; also the longest row
_TEXT_ROLES: Final = ("timestamp", "clock", "symbol")


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
    """Parse the columns that play a part.

    Raises:
        DataError: rows that cannot be cut into cells at all.
    """
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

"""Excel workbooks as text: what each sheet would be as CSV, for the reader of text to find the bars in."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from kronos.bars.report import ReadContext, shown
from kronos.errors import CapacityError, DataError, KronosError

FREE_SIZE: Final = 64 * 2**20  # below this, any ratio of unpacked to packed bytes is harmless
MOST_RATIO: Final = 100
_MOST_ROWS: Final = 2**20  # of a sheet, by the format
_MOST_CELLS: Final = 2**24
_LOST_DAYS: Final = 1462  # from 1900's first day to 1904's, where the other date system begins


def sheets_as_text(data: bytes, reading: ReadContext) -> Iterator[tuple[str, bytes, int]]:
    """(name, CSV text, days to add to serial dates) of each sheet that is not empty, in the workbook's order.

    Lines are the sheet's rows, so that an error names the row that a spreadsheet shows.

    Raises:
        CapacityError: it unpacks to far more than it holds packed, or has more rows or cells than a table of bars.
        DataError: the file is damaged, or locked by a password.
    """
    size = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
    if size > max(FREE_SIZE, MOST_RATIO * len(data)):
        raise CapacityError(
            f"{reading.where}: {len(data):,} bytes unpack to {size:,}, which no table of bars does. "
            "Save the sheet as CSV if you trust it."
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # about styles and the like
            import openpyxl

            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        added = _LOST_DAYS if book.epoch == openpyxl.utils.datetime.CALENDAR_MAC_1904 else 0
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # what the file claims is not to be relied on
            with warnings.catch_warnings(action="ignore"):
                text = _as_csv(_rows(sheet.iter_rows(values_only=True), reading))
            if text:
                yield sheet.title, text, added
    except KronosError:
        raise
    except Exception as error:  # the library's errors have no common base
        raise DataError(
            f"{reading.where}: the workbook is damaged or cut ({shown(error, 80)}). Save the sheet as CSV."
        ) from error


def _rows(rows: Iterable[tuple[Any, ...]], reading: ReadContext) -> Iterator[list[str]]:
    """The cells of each row as text, without what is empty at its end."""
    cells = 0
    for number, row in enumerate(rows, start=1):
        cells += len(row)
        if number > _MOST_ROWS or cells > _MOST_CELLS:
            raise CapacityError(f"{reading.where}: a sheet has more than {_MOST_ROWS:,} rows or {_MOST_CELLS:,} cells.")
        texts = [_text(cell) for cell in row]
        while texts and not texts[-1]:
            texts.pop()
        yield texts


def _text(cell: Any) -> str:
    """A cell as CSV has it; numbers with all their digits, times without a zone."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):  # a clock in the format [h]:mm
        seconds = round(cell.total_seconds())
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return re.sub(r"\s+", " ", str(cell)).strip()


def _as_csv(rows: Iterable[list[str]]) -> bytes:
    """The rows as CSV, without the empty columns on the left; a line of one cell is a title or a source, and stays."""
    kept = list(rows)
    filled = [row for row in kept if row]
    if not filled:
        return b""
    left = min(next(k for k, cell in enumerate(row) if cell) for row in filled)
    width = max(len(row) for row in filled) - left
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in kept:
        cells = row[left:]
        if sum(map(bool, cells)) > 1:
            cells += [""] * (width - len(cells))
        if cells:
            writer.writerow(cells)
        else:
            out.write("\n")
    return out.getvalue().encode()

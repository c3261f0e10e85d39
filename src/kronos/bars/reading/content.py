"""Bytes: opens a file by what it holds, not by its name, unpacks it, and makes its text UTF-8."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kronos.bars.reading.encodings import decode
from kronos.bars.reading.workbook import FREE_SIZE, MOST_RATIO
from kronos.bars.report import ReadContext, shown
from kronos.errors import CapacityError, DataError, KronosError

_HEAD: Final = 4096
_PIECE: Final = 2**20
_PACKERS: Final[dict[bytes, tuple[str, Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
    b"PK\x03\x04": ("zip", None),
    b"PK\x05\x06": ("zip", None),
}
_TABLES: Final = {b"PAR1": "parquet", b"ARROW1": "arrow", b"FEA1": "arrow", b"\xff\xff\xff\xff": "arrow stream"}
_OTHERS: Final = {
    b"\x89HDF": "an HDF5 file",
    b"SQLite format": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x80\x04": "a pickle, which is never opened",
    b"\x80\x05": "a pickle, which is never opened",
}
_PARTS: Final = {"xl/workbook.bin": "a binary Excel workbook (.xlsb)", "content.xml": "an OpenDocument sheet (.ods)"}
_EXPORT: Final = "Export the bars as CSV, JSON, an Excel workbook (.xlsx), Parquet or Feather."
_METATRADER: Final = (b"<DATE", b"<TICKER", b"<TIME")  # headers, not tags


def open_content(path: Path, reading: ReadContext) -> tuple[str, Any]:
    """What a file is, and what is in it.

    ``text`` and ``json`` as UTF-8, ``workbook`` as bytes, or a kind of ``_TABLES`` as a path or, unpacked, bytes.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file. Name one file in it, or import them: kronos bars import.")
    if not path.is_file():
        raise DataError(f"{path}: {'this is no regular file' if path.exists() else 'there is no such file'}.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        data = path.read_bytes() if head.startswith(tuple(_PACKERS)) else None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    for _ in range(3):  # a zip of a gzip of a table is as far as it goes
        if data is not None and data.startswith(tuple(_PACKERS)):
            if _is_workbook(data):
                return "workbook", data
            data = _unpack(data, reading)
            head = data[:_HEAD]
    if len(head) < _HEAD and not head.strip():
        raise DataError(f"{reading.where}: the file is empty. Bars need a header and at least one row.")
    for magic, kind in _OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{reading.where}: this is {kind}. {_EXPORT}")
    for magic, kind in _TABLES.items():
        if head.startswith(magic):
            return kind, path if data is None else data
    text = decode(path.read_bytes() if data is None else data, reading)
    start = text[:_HEAD].lstrip()
    if start.startswith(b"<") and not start.upper().startswith(_METATRADER):
        raise DataError(f"{reading.where}: this is HTML or XML, not a table. {_EXPORT}")
    return "json" if start.startswith((b"{", b"[")) else "text", text


def _is_workbook(data: bytes) -> bool:
    """An archive of the parts of an Excel workbook."""
    with suppress(Exception):  # what is wrong with an archive is told where it is unpacked
        return "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(data)).namelist()
    return False


def _unpack(data: bytes, reading: ReadContext) -> bytes:
    name, opener = next(packer for magic, packer in _PACKERS.items() if data.startswith(magic))
    reading.note(name)
    limit, size = max(FREE_SIZE, MOST_RATIO * len(data)), 0
    pieces: list[bytes] = []
    try:
        stream = opener(io.BytesIO(data)) if opener else _unzip(data, reading.where)
        # In pieces: one large read would take the memory of the limit before it is known to be needed.
        while size <= limit and (piece := stream.read(_PIECE)):
            pieces.append(piece)
            size += len(piece)
    except KronosError:
        raise
    except Exception as error:  # the libraries of archives have errors without a common base
        detail = shown(error, 80)
        raise DataError(f"{reading.where}: the archive is damaged or cut ({detail}). Download it again.") from error
    if size > limit:
        raise CapacityError(
            f"{reading.where}: {len(data):,} bytes unpack to more than {limit:,}, which no table of bars does. "
            "Unpack it yourself if you trust it."
        )
    return b"".join(pieces)


def _unzip(data: bytes, where: str) -> Any:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    if not archive.infolist():
        raise DataError(f"{where}: the zip archive is empty.")
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX") and entry.file_size
    ]
    names = [entry.filename for entry in entries]
    for part, kind in _PARTS.items():
        if part in names:
            raise DataError(f"{where}: this is {kind}. Save it as .xlsx or CSV.")
    if len(entries) != 1:
        some = ", ".join(shown(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
        raise DataError(f"{where}: the zip holds {len(entries)} files ({some}). Unpack it and name one.")
    if entries[0].flag_bits & 1:
        raise DataError(f"{where}: the zip is encrypted. Unpack it with its password first.")
    return archive.open(entries[0])

"""Opens a file by what it holds, not by its name: text, gzip, zip, Parquet, Feather, Arrow."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kronos.bars.reading.context import ReadContext
from kronos.bars.report import shown
from kronos.errors import CapacityError, DataError, KronosError

_MOST_RATIO: Final = 100
_HEAD: Final = 4096
_PIECE: Final = 2**20
_PACKERS: Final[tuple[tuple[bytes, str, Any], ...]] = (
    (b"\x1f\x8b", "gzip", gzip.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\xfd7zXZ\x00", "xz", lzma.open),
    (b"PK\x03\x04", "zip", None),
)
_EMPTY_ZIP: Final = b"PK\x05\x06"
_PACKED: Final = (*(magic for magic, _, _ in _PACKERS), _EMPTY_ZIP)
_FREE_SIZE: Final = 64 * 2**20  # below this, any ratio is harmless


@dataclass(frozen=True)
class Content:
    """A file, unpacked, and what it is: ``text``, ``parquet`` or ``arrow``.

    Attributes:
        head: its first bytes.
        data: all bytes where they had to be unpacked, else None.
        path: the file itself.
    """

    head: bytes
    kind: str
    path: Path
    data: bytes | None = None

    def read(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes() if self.data is None else self.data

    def open(self) -> Any:
        """A source that Arrow can seek in."""
        import pyarrow as pa

        return pa.OSFile(str(self.path)) if self.data is None else pa.BufferReader(self.data)


def open_content(path: Path, reading: ReadContext) -> Content:
    """Look at a file and unpack it where it is packed."""
    where = reading.where
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file. Name one file in it, or import them: kronos bars import.")
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    if not path.is_file():
        raise DataError(f"{path}: this is no regular file.")
    data: bytes | None = None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(_PACKED):
            data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    for _ in range(3):  # a zip of a gzip of a table is as far as it goes
        unpacked = _unpack(data, reading) if data is not None else None
        if unpacked is None:
            break
        data, head = unpacked, unpacked[:_HEAD]
    if len(head) < _HEAD and not head.strip():
        raise DataError(f"{where}: the file is empty. Bars need a header and at least one row.")
    return Content(head, _kind(head, where), path, data)


def _kind(data: bytes, where: str) -> str:
    if data[:4] == b"PAR1":
        return "parquet"
    if data[:6] == b"ARROW1" or data[:4] in (b"FEA1", b"\xff\xff\xff\xff"):
        return "arrow"
    for magic, name in (
        (b"\x89HDF", "an HDF5 file"),
        (b"SQLite format", "an SQLite database"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
        (b"%PDF", "a PDF"),
        (b"\x80\x04", "a pickle, which is never opened"),
        (b"\x80\x05", "a pickle, which is never opened"),
    ):
        if data.startswith(magic):
            raise DataError(f"{where}: this is {name}. Export the bars as CSV, Parquet or Feather.")
    return "text"


@contextmanager
def _unpacking(where: str) -> Iterator[None]:
    """The libraries of archives have errors of their own, without a common base."""
    try:
        yield
    except KronosError:
        raise
    except Exception as error:
        raise DataError(f"{where}: the archive is damaged or cut ({shown(error, 80)}). Download it again.") from error


def _unpack(data: bytes, reading: ReadContext) -> bytes | None:
    """What is packed, or None where nothing is."""
    where = reading.where
    if data.startswith(_EMPTY_ZIP):
        raise DataError(f"{where}: the zip archive is empty.")
    for magic, name, opener in _PACKERS:
        if data.startswith(magic):
            reading.note(name)
            file = io.BytesIO(data)
            with _unpacking(where):
                return _stream(opener(file) if opener else _unzip(file, where), len(data), where)
    return None


def _stream(stream: Any, packed: int, where: str) -> bytes:
    limit = max(_FREE_SIZE, _MOST_RATIO * packed)
    pieces: list[bytes] = []
    size = 0
    # In pieces: one large read would take the memory of the limit before it is known to be needed.
    while size <= limit and (piece := stream.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    if size > limit:
        raise CapacityError(
            f"{where}: {packed:,} bytes unpack to more than {limit:,}, which no table of bars does. "
            "Unpack it yourself if you trust it."
        )
    return b"".join(pieces)


def _unzip(file: Any, where: str) -> Any:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(file)
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX") and entry.file_size
    ]
    names = [entry.filename for entry in entries]
    if "xl/workbook.xml" in names:
        raise DataError(f"{where}: this is an Excel workbook. Save the sheet as CSV and read that.")
    if len(entries) != 1:
        some = ", ".join(shown(name) for name in names[:5]) + (" …" if len(names) > 5 else "")
        raise DataError(f"{where}: the zip holds {len(entries)} files ({some}). Unpack it and name one.")
    if entries[0].flag_bits & 1:
        raise DataError(f"{where}: the zip is encrypted. Unpack it with its password first.")
    return archive.open(entries[0])

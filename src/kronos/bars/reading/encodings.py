"""How a file writes its characters: by its first bytes, as UTF-8, or by the column names that a reading spells."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from kronos.bars.reading.words import ALIASES, normal
from kronos.bars.report import ReadContext
from kronos.errors import DataError

_HEAD: Final = 256 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LEGACY: Final = ("gb18030", "big5", "cp932", "euc-kr", "euc-jp", "cp1251", "cp1252", "latin-1")
"""Encodings before Unicode; of those that spell equally many column names, the first that fits."""
_KNOWN: Final = frozenset(alias for aliases in ALIASES.values() for alias in aliases if not alias.isascii())
_LATIN: Final = frozenset(alias for aliases in ALIASES.values() for alias in aliases if len(alias) > 2)
_CELLS: Final = re.compile(r"[,;\t|\n\r]+")
# A byte above 127 between plain ones: an accented letter in a word. Characters of two bytes have it before another.
_LONE: Final = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")


def decode(data: bytes, reading: ReadContext) -> bytes:
    """The text of a file as UTF-8 without a byte order mark.

    Raises:
        DataError: it is no text, or not in the encoding that was named.
    """
    given, head = reading.encoding, data[:_HEAD].removeprefix(_BYTE_ORDER_MARK)
    names: tuple[str, ...] = ("utf-8",)
    if given is not None:
        names = (given,)
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        names = ("utf-16",)
    elif b"\x00" in head:  # of plain words in UTF-16 every other byte
        halves = {"utf-16-le": head[1:400:2], "utf-16-be": head[0:400:2]}
        names = tuple(name for name, half in halves.items() if half.count(0) > 0.8 * len(half))[:1]
        if not names:
            raise DataError(f"{reading.where}: this is a binary file, not a table. Give CSV text, Parquet or Feather.")
    if given is None:
        data = data.removeprefix(_BYTE_ORDER_MARK)
        if names[0] == "utf-8":
            if data.isascii():
                return data
            with suppress(UnicodeError):
                data.decode("utf-8")
                return data
            names = _likeliest(head)
    for name in names:
        with suppress(LookupError, UnicodeError):
            text = data.decode(name)
            if name not in ("ascii", "utf-8"):
                reading.note(f"encoding {name}")
            return text.lstrip("\ufeff").encode()
    trouble = (
        f"the text is cut or damaged (it starts as {names[0]}). Export it again."
        if given is None
        else f"the text is not {given}. Leave encoding (--encoding) out, or name the right one."
    )
    raise DataError(f"{reading.where}: {trouble}")


def _likeliest(head: bytes) -> tuple[str, ...]:
    """The legacy encodings, those first in which the first lines spell most names of columns."""
    start = head[:8192] if len(head) <= 8192 else head[: head.rfind(b"\n", 0, 8192) + 1] or head[:8192]
    lone = len(_LONE.findall(start)) > 0.5 * len(re.findall(rb"[\x80-\xff]+", start))
    scores: dict[str, tuple[int, bool]] = {}
    for name in _LEGACY:
        with suppress(UnicodeError):
            words = {normal(cell) for cell in _CELLS.split(start.decode(name)) if len(cell) < 40}
            scores[name] = len(words & _KNOWN) + len(words & _LATIN), lone and name in ("cp1252", "latin-1")
    ranked = sorted(scores, key=lambda name: scores[name], reverse=True)  # stable: the order of _LEGACY breaks ties
    return (*ranked, *(name for name in _LEGACY if name not in scores))

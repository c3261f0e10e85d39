"""Text cells that mean numbers: decimal commas, thousands separators, currency signs, K and M."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kronos.bars.reading.context import ReadContext
from kronos.bars.report import shown
from kronos.errors import DataError

Floats = npt.NDArray[np.float64]
BLANKS: Final = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "none", "NA", "N/A", "n/a", "-", "--", "#N/A")
_PLAIN: Final = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_INFINITE: Final = r"(?i)^[+-]?inf(?:inity)?$"
# 1,234 and 1,234,567.8 and 1,23,456 (Indian lakh); the first reading of a comma
_GROUP_COMMA: Final = r"^[+-]?\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d*)?$"
_DECIMAL_COMMA: Final = r"^[+-]?(?:\d+|\d{1,3}(?:[. '\x{00A0}\x{202F}]\d{3})+)(?:,\d*)?$"
_GROUP_SPACE: Final = r"^[+-]?\d{1,3}(?:[ '_\x{00A0}\x{202F}]\d{3})+(?:\.\d*)?$"
_UNITS: Final = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "万": 1e4, "亿": 1e8, "": 1.0}


def to_plain(columns: dict[str, Any], reading: ReadContext) -> dict[str, Any]:
    """Text columns as float64 where every cell is a number, by one reading for the whole table.

    A column that holds other text stays text (the validator then names its rows), but cells that are
    numbers in it are written plainly.
    """
    cleaned = {name: _strip(column) for name, column in columns.items()}
    mark = reading.decimal or _decimal_mark(cleaned, reading.where)
    if mark == ",":
        reading.note("decimal comma")
    return {name: _column(column, mark, name, reading) for name, column in cleaned.items()}


def _strip(column: Any) -> Any:
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    text = pc.replace_substring_regex(text, r"^([+-]?)\s*[$€£¥₹]\s*|\s*(?:[$€£¥₹]|USDT?|EUR|CNY|HKD)$", r"\1")
    return pc.if_else(pc.is_in(text, pa.array(BLANKS)), pa.scalar(None, pa.string()), text)


def count_matches(column: Any, pattern: str) -> int:
    """Cells of a text column that a regular expression fits."""
    return pc.sum(pc.fill_null(pc.match_substring_regex(column, pattern), False)).as_py() or 0


def _decimal_mark(columns: dict[str, Any], where: str) -> str:
    """``.`` or ``,``, judged over all numeric columns together."""
    point = comma = both = 0
    example = ""
    for column in columns.values():
        with_comma = pc.filter(column, pc.fill_null(pc.match_substring(column, ","), False))
        if len(with_comma) == 0:
            continue
        grouped = pc.fill_null(pc.match_substring_regex(with_comma, _GROUP_COMMA), False)
        decimal = pc.fill_null(pc.match_substring_regex(with_comma, _DECIMAL_COMMA), False)
        neither = pc.and_(grouped, decimal)
        point += pc.sum(pc.and_(grouped, pc.invert(decimal))).as_py() or 0
        comma += pc.sum(pc.and_(decimal, pc.invert(grouped))).as_py() or 0
        both += pc.sum(neither).as_py() or 0
        if not example and pc.any(neither).as_py():
            example = pc.filter(with_comma, neither)[0].as_py()
    plain_points = sum(count_matches(column, r"^[+-]?\d*\.\d+$") for column in columns.values())
    if comma and not point:
        return ","
    if both and not (point or plain_points):
        raise DataError(
            f"{where}: numbers such as '{shown(example)}' read with a decimal comma and with a thousands comma. "
            "Say which with decimal=',' (--decimal ,) or decimal='.' (--decimal .)."
        )
    return "."


def _column(column: Any, mark: str, name: str, reading: ReadContext) -> Any:
    if mark == ",":
        text = pc.replace_substring_regex(column, r"[. '\x{00A0}\x{202F}]", "")
        fits = pc.fill_null(pc.match_substring_regex(column, _DECIMAL_COMMA + "|" + _UNIT_TAIL), False)
        text = pc.if_else(fits, pc.replace_substring(text, ",", "."), column)
    else:
        text = column
        for pattern, marks in ((_GROUP_COMMA, ","), (_GROUP_SPACE, r"[ '_\x{00A0}\x{202F}]")):
            fits = pc.fill_null(pc.match_substring_regex(text, pattern), False)
            if pc.any(fits).as_py():
                text = pc.if_else(fits, pc.replace_substring_regex(text, marks, ""), text)
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return _with_units(text, name, reading)


_UNIT_TAIL: Final = r"^[+-]?[\d.,]+\s*[kKmMbBtT万亿]$"
_NUMBER_UNIT: Final = r"^(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))\s*(?P<unit>[kKmMbBtT万亿]?)$"


def _with_units(text: Any, name: str, reading: ReadContext) -> Any:
    """``1.2M`` and ``3.4万``; only volume and amount are written so, and only where all cells fit."""
    if name not in ("volume", "amount"):
        return text
    fields = pc.extract_regex(text, _NUMBER_UNIT)
    if fields.null_count > text.null_count:
        return text
    units = pc.utf8_lower(pc.fill_null(pc.struct_field(fields, "unit"), ""))
    scale = pa.array(list(_UNITS.values()))
    factor = pc.take(scale, pc.index_in(units, pa.array(list(_UNITS))))
    reading.note(f"{name} is written with units (K, M, B)")
    return pc.multiply(pc.cast(pc.struct_field(fields, "number"), pa.float64()), factor)

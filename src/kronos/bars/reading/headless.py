"""Tables without column names: which column is which, from what every row obeys."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kronos.bars.reading.context import ReadContext
from kronos.bars.reading.defects import TOLERANCE
from kronos.bars.reading.layouts import Roles
from kronos.bars.reading.numbers import count_matches
from kronos.bars.report import name_columns
from kronos.errors import DataError

Floats = npt.NDArray[np.float64]

_CLOCK: Final = r"^\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*$"
_DATE: Final = r"^\s*\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}|^\s*\d{8}(?:[ T]?\d{4,6})?\s*$"
_SHARE: Final = 0.9
_OBEYS: Final = 0.995  # of the rows; the others are defects for the validator


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def recognise(columns: list[Any], reading: ReadContext) -> Roles:
    """The part of each column of a table without a header.

    The order of prices is not assumed: high is the column that no other price exceeds, low the one that
    exceeds no other; open comes before close.
    """
    at: dict[str, int] = {}
    spot = 0
    if _is_name(columns[0]):
        at["symbol"], spot = 0, 1
    at["timestamp"] = spot
    if spot + 1 < len(columns) and _matches(columns[spot + 1], _CLOCK) >= _SHARE:
        at["clock"] = spot + 1
        spot += 1
    numeric = [k for k in range(spot + 1, len(columns)) if _is_number(columns[k])]
    if len(numeric) < 4 or numeric[:4] != list(range(spot + 1, spot + 5)):
        raise DataError(_question(reading.where))
    values = {k: _floats(columns[k]) for k in numeric}
    prices = _price_order({k: values[k] for k in numeric[:4]})
    if prices is None:
        raise DataError(_question(reading.where))
    at |= prices
    layout = _binance(columns, values, at) or ("MetaTrader 4" if "clock" in at else "no header")
    if layout != "Binance klines":
        _traded(numeric[4:], values, at)
    reading.note("no header: columns told apart by their values")
    return Roles(layout, at)


def _question(where: str) -> str:
    return (
        f"{where}: there is no header, and the values do not tell which column is open, high, low and close. "
        f"Say it by position, from 0: {name_columns(timestamp=0, open=1, high=2, low=3, close=4)}."
    )


def _matches(column: Any, pattern: str) -> float:
    text = column.cast(pa.string())
    filled = len(text) - text.null_count
    return count_matches(text, pattern) / filled if filled else 0.0


def _is_number(column: Any) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type))


def _is_name(column: Any) -> bool:
    """A first column of symbols: text that is neither a date nor a number."""
    return (
        bool(pa.types.is_string(column.type)) and _matches(column, _DATE) < 0.5 and _matches(column, r"[A-Za-z]") > 0.9
    )


def _floats(column: Any) -> Floats:
    values: Floats = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _price_order(prices: dict[int, Floats]) -> dict[str, int] | None:
    """Open, high, low and close among four columns, or None when the rows leave a choice."""
    spots = list(prices)
    stack = np.stack([prices[k] for k in spots])
    rows = np.isfinite(stack).all(axis=0) & (stack > 0).all(axis=0)
    stack = stack[:, rows]
    if stack.shape[1] < 3:
        return None
    slack = TOLERANCE * np.abs(stack).max(axis=0)
    tops = [k for k in range(4) if (stack[k] >= stack.max(axis=0) - slack).mean() >= _OBEYS]
    bottoms = [k for k in range(4) if (stack[k] <= stack.min(axis=0) + slack).mean() >= _OBEYS]
    if len(tops) != 1 or len(bottoms) != 1 or tops == bottoms:
        return None
    first, second = (k for k in range(4) if k not in (tops[0], bottoms[0]))
    # Most opens lie near the close before; where the other order is clearly nearer, it is the right one.
    usual = float(np.abs(stack[first][1:] - stack[second][:-1]).mean())
    other = float(np.abs(stack[second][1:] - stack[first][:-1]).mean())
    if other < 0.8 * usual:
        return None
    return {"open": spots[first], "high": spots[tops[0]], "low": spots[bottoms[0]], "close": spots[second]}


def _binance(columns: list[Any], values: dict[int, Floats], at: dict[str, int]) -> str | None:
    """Eleven or twelve columns, the seventh the close time just before the next open time."""
    if len(columns) not in (11, 12) or at["timestamp"] != 0 or 6 not in values or not _is_number(columns[0]):
        return None
    start = _floats(columns[0])
    length = values[6] - start
    steps = np.diff(start)
    if len(steps) == 0 or not np.isfinite(length).all():
        return None
    if abs(float(np.median(steps)) - float(np.median(length))) > 0.01 * float(np.median(steps)):
        return None
    at["volume"], at["amount"] = 5, 7
    return "Binance klines"


def _traded(rest: list[int], values: dict[int, Floats], at: dict[str, int]) -> None:
    """The next column is volume; another is amount when it is about volume times price."""
    for k in rest:
        if np.nanmin(values[k], initial=0) < 0:
            return
        if "volume" not in at:
            at["volume"] = k
            continue
        worth = values[at["volume"]] * values[at["close"]]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.nanmedian(np.where(worth > 0, values[k] / worth, np.nan)) if (worth > 0).any() else np.nan
        if any(0.5 < ratio / lot < 2 for lot in (1, 100)):
            at["amount"] = k
        return

"""What a volume and an amount are worth: units that their headers name, columns that changed places, rates of turnover.

A real amount moves with volume × price, whatever its unit; a rate of turnover moves with volume alone.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.reading.words import header_unit
from kronos.bars.report import ReadContext, shown
from kronos.bars.schema import PRICES

_ROWS: Final = 500  # the last ones tell; over longer times the shares in free float change
_LARGEST_RATE: Final = 200.0  # per cent of the shares a bar
_NONE: Final = 1e-11  # × volume × price: far below the largest unit, 亿
_FAR: Final = 1e-3  # × volume × price: a rate is smaller

Floats = npt.NDArray[np.float64]


def with_units(frame: pd.DataFrame, names: dict[str, str], reading: ReadContext) -> None:
    """Multiply volume and amount by the unit that their header names, and say so."""
    for role in ("volume", "amount"):
        unit, factor = header_unit(names.get(role, ""))
        if role not in frame.columns or factor == 1:
            continue
        if any(note.startswith(f"{role} is written with units") for note in reading.notes):
            continue  # each cell names its own
        column = frame[role]
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan) * factor
        frame[role] = numbers if column.dtype.kind in "iuf" else column.astype(object).mask(~np.isnan(numbers), numbers)
        reading.note(f"{role} is in {unit}, as its header says: multiplied by {factor:,.0f}")


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def judge_amount(frame: pd.DataFrame, names: dict[str, str], reading: ReadContext) -> tuple[pd.DataFrame, str | None]:
    """The table, its amount changed for the volume where they stand the other way round, or left out where it is none,
    and the name of the column that was left out. What the caller has named stays.
    """
    chosen = set(reading.columns or ())
    if not {"volume", "amount"} <= set(frame.columns) or "amount" in chosen:
        return frame, None
    some = _last_rows(frame)
    volume, amount, price = some["volume"], some["amount"], np.mean([some[name] for name in PRICES], axis=0)
    traded = (volume > 0) & (amount > 0) & (price > 0) & np.isfinite(volume * amount * price)
    if not traded.any():
        return frame, None
    volume, amount, price = volume[traded], amount[traded], price[traded]
    ratio = float(np.median(amount / volume / price))
    other = float(np.median(volume / amount / price))
    if "volume" not in chosen and 0.8 < other < 1.25 and not 0.5 < ratio < 2:
        reading.note("volume and amount changed places: the first was the second × price, as Huobi (HTX) writes them")
        places = {"volume": "amount", "amount": "volume"}
        return frame.rename(columns=places), None
    if not _is_rate(volume, amount, price, ratio):
        return frame, None
    name = names.get("amount", "amount")
    reading.note(f"'{shown(name)}' left out: a rate of turnover or the like ({ratio:.2g} × volume × price), no amount")
    return frame.drop(columns="amount"), name


def _is_rate(volume: Floats, amount: Floats, price: Floats, ratio: float) -> bool:
    """Whether an amount is too small to be one and keeps step with volume alone.

    Where prices hardly move, a ratio that is a power of ten is a unit (thousands, lots, 亿), and any other a rate.
    """
    if ratio < _NONE:
        return True
    if ratio >= _FAR or amount.max() > _LARGEST_RATE:
        return False
    alone, priced = _spread(amount / volume), _spread(amount / volume / price)
    if len(volume) >= 8 and max(alone, priced) > 2 * min(alone, priced):
        return alone < priced
    return abs(float(np.log10(ratio)) - round(float(np.log10(ratio)))) > 0.1


def _spread(values: Floats) -> float:
    """How far the logarithms of values usually lie from their median."""
    logs = np.log(values)
    return float(np.median(np.abs(logs - np.median(logs))))


def _last_rows(frame: pd.DataFrame) -> dict[str, Any]:
    """Prices, volume and amount of the last rows, of a table of many symbols those of the first one."""
    some = frame
    if "symbol" in frame.columns and len(frame):
        head = frame.iloc[: 100 * _ROWS]
        some = head[(head["symbol"] == head["symbol"].iloc[0]).to_numpy(dtype=bool, na_value=False)]
    some = some.tail(_ROWS)
    return {
        name: pd.to_numeric(some[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        for name in (*PRICES, "volume", "amount")
    }

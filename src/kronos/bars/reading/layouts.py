"""Which column is which: by the names that real files use, or without names by what every row obeys.

A new layout: its names in ``words.py``; where the report shall name it, a line in ``_layout_of_header``; a builder in
``tests/bars/layout_files.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kronos.bars.reading.datetext import count_matches
from kronos.bars.reading.defects import TOLERANCE
from kronos.bars.reading.words import (
    ALIASES,
    CLOCK_NAMES,
    DATE_NAMES,
    SPARE,
    UTC_NAMES,
    WHOLE_TIMES,
    header_unit,
    normal,
    without_unit,
)
from kronos.bars.report import ReadContext, TwoReadingsError, listing, name_columns, shown
from kronos.bars.schema import PRICES
from kronos.errors import DataError

_EVERY: Final = frozenset(alias for aliases in ALIASES.values() for alias in aliases)
_QUOTES: Final = ("USDT", "USDC", "BUSD", "FDUSD", "USD", "EUR", "GBP", "JPY", "KRW", "TRY", "CNY", "BTC", "ETH")

_TIME_OF_DAY: Final = r"^\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*$"
_DATE: Final = r"^\s*\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}|^\s*\d{8}(?:[ T]?\d{4,6})?\s*$"
_WEEKDAY: Final = (
    r"(?i)^\s*(?:(?:星期|周|週)?[一二三四五六日天月火水木金土월화수목금토일](?:曜日?|요일)?"
    r"|(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?)\s*$"
)
_OBEYS: Final = 0.995  # of the rows; the others are defects for the validator
_HUOBI: Final = {"id", "open", "close", "low", "high", "amount", "vol"}  # its klines: the id is the time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """Which source column (by position) plays which part."""

    layout: str
    at: dict[str, int]  # role → position; roles are the columns of a bars table, spare ones, and a clock apart
    left_out: tuple[str, ...] = ()  # names of the columns that do not end up in the bars
    zone: str | None = None  # that the header names
    names: dict[str, str] = field(default_factory=dict)  # what the columns of some roles are called


def has_header(cells: list[str]) -> bool:
    """True when the cells are column names of bars: at least two prices, or a time and a close."""
    names = {_plain_name(cell) for cell in cells}
    prices = sum(1 for price in PRICES if names & set(ALIASES[price]))
    return prices >= 2 or (prices >= 1 and bool(names & set(ALIASES["timestamp"]) - {""}))


def _plain_name(name: str) -> str:
    """A name as ``normal`` makes it, without the unit in its brackets where only that makes it a known one."""
    plain = normal(name)
    if plain in _EVERY or (bare := without_unit(name)) not in _EVERY or bare == "":
        return plain
    return plain if bare == "volume" and header_unit(name)[1] == 1 else bare  # ``Volume (BTC)`` and ``Volume (USDT)``


def assign(names: list[str], reading: ReadContext) -> Roles:
    """Give each column its part by name."""
    at = given(names, reading)
    plain = [_plain_name(name) for name in names]

    def free(aliases: tuple[str, ...]) -> list[int]:
        return [k for k, name in enumerate(plain) if name in aliases and k not in at.values()]

    if not ("timestamp" in at or "clock" in at or set(plain) & set(WHOLE_TIMES)):
        # ``<DATE>`` beside ``<TIME>``: two columns make one timestamp.
        days, clocks = ([k for k, name in enumerate(plain) if name in some] for some in (DATE_NAMES, CLOCK_NAMES))
        if len(days) == len(clocks) == 1:
            at["timestamp"], at["clock"] = days[0], clocks[0]
    if "timestamp" not in at and set(plain) >= _HUOBI:
        at["timestamp"] = plain.index("id")
    rivals: dict[str, list[int]] = {}
    for role, aliases in ALIASES.items():
        spots = [] if role in at else next(filter(None, (free((alias,)) for alias in aliases)), [])
        if role == "amount" and "volume" in at:  # ``Volume (K)`` beside ``Volume`` is the same again
            spots = [k for k in spots if plain[k] != plain[at["volume"]]]
        if len(spots) > 1 and len(exact := [k for k in spots if names[k] == plain[k] and len(plain[k]) == 1]) == 1:
            spots = exact  # ``t`` beside ``T``, open time and close time of a candle
        if len(spots) > 1 and len(whole := [k for k in spots if header_unit(names[k])[1] == 1]) == 1:
            spots = whole  # ``Volume`` beside ``Volume (K)``
        if len(spots) > 1 and plain[spots[0]]:
            rivals[role] = spots
        if spots:
            at[role] = spots[0]
    matches = {k: re.fullmatch(r"volume([a-z]{2,6})", name) for k, name in enumerate(plain) if k not in at.values()}
    found = {k: match[1].upper() for k, match in matches.items() if match}
    if "volume" not in at and len(found) == 1:
        at["volume"] = next(iter(found))
    elif "volume" not in at and len(found) == 2:  # ``Volume BTC`` and ``Volume USDT``: the one in money is amount
        one, two = found
        swapped = found[two] not in _QUOTES and found[one] in _QUOTES
        at["volume"], at["amount"] = (two, one) if swapped else (one, two)
    for role, aliases in SPARE.items():
        if len(spots := free(aliases)) == 1:
            at[role] = spots[0]
    missing = [role for role in PRICES if role not in at] or ([] if "timestamp" in at else ["timestamp"])
    if missing:
        raise DataError(
            f"{reading.where}: no column for {', '.join(missing)} among {listing(names)}. "
            f"Name {'them' if len(missing) > 1 else 'it'} with {name_columns(**{missing[0]: 'NAME'})}."
        )
    for role, spots in rivals.items():
        raise TwoReadingsError(
            f"{reading.where}: the columns {' and '.join(repr(shown(names[k], 24)) for k in spots[:4])} (positions "
            f"{', '.join(str(k) for k in spots[:4])}, counted from 0) could both be {role}. "
            f"Choose one with {name_columns(**{role: 'POSITION'})}."
        )
    return _layout_of_header(names, plain, at)


def given(names: list[str], reading: ReadContext) -> dict[str, int]:
    """The caller's assignment as positions."""
    at: dict[str, int] = {}
    for role, name in (reading.columns or {}).items():
        if role not in ALIASES and role != "clock":
            raise DataError(
                f"columns has the unknown key '{role}'. Keys are {', '.join(ALIASES)} (and clock, a time of day "
                "apart from the date); values are column names or positions."
            )
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(names):
            at[role] = name
        elif str(name) in names:
            at[role] = names.index(str(name))
        else:
            raise DataError(f"{reading.where}: there is no column {name!r} for {role}; there are {listing(names)}.")
    return at


def _layout_of_header(names: list[str], plain: list[str], at: dict[str, int]) -> Roles:
    """The layout that the header shows: the first that fits. ``Date, Open … Volume`` is everybody's and shows none."""
    have, raw = set(plain), [name.strip() for name in names]
    zone = "UTC" if plain[at["timestamp"]] in UTC_NAMES else None
    titled = ["Open", "High", "Low", "Close", "Volume"]
    fits: tuple[tuple[str, object], ...] = (
        ("Qlib", any(name.startswith("$") for name in raw)),
        ("MetaTrader 5", "tickvol" in have or (raw[0] == "<DATE>" and "clock" in at)),
        ("Stooq", {"ticker", "per", "date"} <= have),
        ("akshare", have & {"收盘", "收盘价"}),
        ("yfinance", "adjclose" in have),
        ("Binance klines", "opentime" in have and have & {"quoteassetvolume", "closetime"}),
        ("tushare", {"tscode", "tradedate"} <= have),
        ("Alpha Vantage", "1open" in have),
        ("Nasdaq", "closelast" in have),
        ("Investing.com", {"price", "change%"} <= have),
        ("CryptoDataDownload", {"unix", "date", "symbol"} <= have),
        ("Kronos", raw[0] == "timestamps" and have >= set(PRICES)),
        ("Dukascopy", raw[0] in ("Local time", "Gmt time")),
        ("TradingView", raw[:5] == ["time", *PRICES] and "volume" not in raw),  # theirs has a capital
        ("yfinance", "dividends" in have or (raw[0] == "Datetime" and raw[1:6] == titled)),
    )
    layout = next((name for name, fit in fits if fit), "generic OHLCV")
    used = {position for role, position in at.items() if role not in SPARE}
    left_out = tuple(name for k, name in enumerate(names) if k not in used and name not in ("", "(empty)"))
    return Roles(layout, at, left_out, zone, {role: names[k] for role, k in at.items()})


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def recognise(columns: list[Any], reading: ReadContext) -> Roles:
    """The part of each column of a table without a header; columns are text or float64.

    The order of prices is not assumed: high is the column that no other price exceeds, low the one that
    exceeds no other; open comes before close.
    """
    at: dict[str, int] = {}
    values = {
        k: column.to_numpy(zero_copy_only=False)
        for k, column in enumerate(columns)
        if pa.types.is_floating(column.type)
    }

    def share(k: int, pattern: str) -> float:
        filled = 0 if k in values or k >= len(columns) else len(columns[k]) - columns[k].null_count
        return count_matches(columns[k], pattern) / filled if filled else 0.0

    if 0 not in values and share(0, _DATE) < 0.5 and share(0, r"[A-Za-z]") > 0.9:
        at["symbol"] = 0
    spot = at["timestamp"] = len(at)
    if share(spot + 1, _WEEKDAY) >= 0.9:
        spot += 1
    if share(spot + 1, _TIME_OF_DAY) >= 0.9:
        spot = at["clock"] = spot + 1
    numeric = [k for k in values if k > spot]
    sound = numeric[:4] == list(range(spot + 1, spot + 5))
    turn = -1 if _falls(columns[at["timestamp"]]) else 1
    prices = _price_order({k: values[k][::turn] for k in numeric[:4]}) if sound else None
    if prices is None:
        raise DataError(
            f"{reading.where}: there is no header, and the values do not tell which column is open, high, low and "
            f"close. Say it by position, from 0: {name_columns(timestamp=0, open=1, high=2, low=3, close=4)}."
        )
    at |= prices
    reading.note("no header: columns told apart by their values")
    if len(columns) in (11, 12) and at["timestamp"] == 0 and {0, 6} <= values.keys() and len(values[0]) > 1:
        # The first column is the open time, the seventh the close time just before the next open time.
        length, step = values[6] - values[0], np.abs(np.diff(values[0]))
        if np.isfinite(length).all() and np.mean(np.abs(step - length[:-1]) <= 0.01 * step) > 0.5:
            return Roles("Binance klines", at | {"volume": 5, "amount": 7})
    # The next column is volume; the one after it is amount when it is about volume times price.
    after = numeric[4:]
    if len(after) > 1 and _within(values[after[0]], values[at["low"]], values[at["high"]]):
        after = after[1:]  # a mean price, as Kraken has it before the volume
    rest = [values[k] for k in after[:2]]
    if rest and np.nanmin(rest[0], initial=0) >= 0:
        at["volume"] = after[0]
        worth = rest[0] * values[at["close"]]
        if len(rest) == 2 and np.nanmin(rest[1], initial=0) >= 0 and (worth > 0).any():
            ratio = np.nanmedian(np.where(worth > 0, rest[1] / worth, np.nan))
            if any(0.5 < ratio / lot < 2 for lot in (1, 100)):
                at["amount"] = after[1]
    return Roles("MetaTrader 4" if "clock" in at else "no header", at)


def _falls(times: Any) -> bool:
    """Whether a column of times, of numbers or of dates that begin with the year, ends before it begins."""
    filled = times.drop_null()
    first, last = (filled[0].as_py(), filled[len(filled) - 1].as_py()) if len(filled) else (0, 0)
    return bool(first > last) and (not isinstance(first, str) or first[:4].isdecimal())


def _within(values: Floats, low: Floats, high: Floats) -> bool:
    """Whether nearly every value lies between low and high where they differ, and no value is far from them."""
    traded = (values > 0) & np.isfinite(values) & (high > low)
    slack = TOLERANCE * high
    inside = (values >= low - slack) & (values <= high + slack)
    return bool(traded.sum() >= 3 and inside[traded].mean() >= _OBEYS)


def _price_order(prices: dict[int, Floats]) -> dict[str, int] | None:
    """Open, high, low and close among four columns, or None when the rows leave a choice."""
    spots = list(prices)
    stack = np.stack([prices[k] for k in spots])
    stack = stack[:, np.isfinite(stack).all(axis=0) & (stack > 0).all(axis=0)]
    if stack.shape[1] < 3:
        return None
    slack = TOLERANCE * np.abs(stack).max(axis=0)
    tops = [k for k in range(4) if (stack[k] >= stack.max(axis=0) - slack).mean() >= _OBEYS]
    bottoms = [k for k in range(4) if (stack[k] <= stack.min(axis=0) + slack).mean() >= _OBEYS]
    if len(tops) != 1 or len(bottoms) != 1 or tops == bottoms:
        return None
    first, second = (k for k in range(4) if k not in (tops[0], bottoms[0]))
    # Most opens lie near the close before; where the other order is clearly nearer, it is the right one.
    usual, other = (float(np.abs(stack[a][1:] - stack[b][:-1]).mean()) for a, b in ((first, second), (second, first)))
    if other < 0.8 * usual:
        return None
    return {"open": spots[first], "high": spots[tops[0]], "low": spots[bottoms[0]], "close": spots[second]}

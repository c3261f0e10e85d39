"""Which column is which: names that real files use, and the layouts they betray."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kronos.bars.reading.context import ReadContext
from kronos.bars.report import listing, name_columns, shown
from kronos.bars.schema import PRICES
from kronos.errors import DataError

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "timestamp": (
        "timestamp", "timestamps", "datetime", "opentime", "unix", "unixtime", "unixtimestamp", "epoch",
        "tradetime", "gmttime", "utctime", "timeutc", "dateutc", "datetimeutc", "localtime", "date", "time",
        "tradedate", "tradingdate", "day", "dt", "ts", "t", "ds", "begin", "begins", "bar", "eob", "bob",
        "日期", "时间", "交易日期", "交易时间", "datetimestamp", "timeperiodstart", "windowstart", "index", "",
    ),
    "symbol": (
        "symbol", "ticker", "tic", "instrument", "tscode", "code", "stockcode", "股票代码", "代码", "证券代码",
        "合约代码", "kdcode", "asset", "pair", "uniqueid", "sym", "secid", "orderbookid", "contract",
    ),
    "open": ("open", "openprice", "priceopen", "o", "开盘", "开盘价", "今开", "1open", "first"),
    "high": ("high", "highprice", "pricehigh", "h", "最高", "最高价", "2high", "max"),
    "low": ("low", "lowprice", "pricelow", "l", "最低", "最低价", "3low", "min"),
    "close": ("close", "closeprice", "priceclose", "c", "收盘", "收盘价", "4close", "closelast", "last", "price"),
    "volume": (
        "volume", "vol", "v", "成交量", "5volume", "6volume", "tradevolume", "totalvolume", "basevolume",
        "volumefrom", "volumetraded", "baseassetvolume", "成交股数", "shares", "tickvol", "tickvolume",
    ),
    "amount": (
        "amount", "quoteassetvolume", "quotevolume", "quotevol", "成交额", "成交金额", "money", "volumeto", "value",
        "dollarvolume", "tradedvalue", "totalturnover", "turnover",
    ),
}  # fmt: skip
"""Names of each column after ``normal``, the likeliest first; the first that is present is taken."""

HEADER_ZONES: Final = {"gmttime": "UTC", "utctime": "UTC", "timeutc": "UTC", "dateutc": "UTC", "datetimeutc": "UTC"}
SPARE: Final = ("tick_volume", "adjusted")
"""Columns that are read only to judge others: tick counts beside an empty volume, adjusted closes."""

_CLOCK_NAMES: Final = ("time", "时间", "clock", "timeofday", "hour", "交易时间")
_DATE_NAMES: Final = ("date", "日期", "交易日期", "tradedate", "day", "dtyyyymmdd", "tradingday", "tradingdate")
_QUOTES: Final = ("USDT", "USDC", "BUSD", "FDUSD", "USD", "EUR", "GBP", "JPY", "KRW", "TRY", "CNY", "BTC", "ETH")


@dataclass(frozen=True)
class Roles:
    """Which source column (by position) plays which part.

    Attributes:
        layout: name of the layout.
        at: role → position; roles are the columns of a bars table, and ``clock`` for a time of day apart.
        newest_first: the layout is known to run backwards.
        zone: a zone that the header names.
    """

    layout: str
    at: dict[str, int]
    newest_first: bool = False
    zone: str | None = None

    def left_out(self, names: Iterable[object]) -> tuple[str, ...]:
        """Named columns that do not end up in the bars; the spare ones do not."""
        used = {position for role, position in self.at.items() if role not in SPARE}
        return tuple(str(name) for k, name in enumerate(names) if k not in used and str(name) not in ("", "(empty)"))


def normal(name: object) -> str:
    """A column name without case, spaces, signs and brackets: ``<Open Price>`` → ``openprice``."""
    text = str(name).strip().strip("\ufeff").lower()
    text = re.sub(r"^unnamed: ?\d+$", "", text)
    return re.sub(r"[\s_\-./<>$\"'()\[\]:#]+", "", text)


def has_header(cells: list[str]) -> bool:
    """True when the cells are column names of bars: at least two prices, or a time and a close."""
    names = {normal(cell) for cell in cells}
    prices = sum(1 for price in PRICES if names & set(ALIASES[price]))
    return prices >= 2 or (prices >= 1 and bool(names & set(ALIASES["timestamp"]) - {""}))


def assign(names: list[str], reading: ReadContext) -> Roles:
    """Give each column its part by name."""
    at = given(names, reading)
    plain = [normal(name) for name in names]
    taken = set(at.values())
    _date_and_clock(plain, at, taken)
    for role, aliases in ALIASES.items():
        if role in at:
            continue
        for alias in aliases:
            spots = [k for k, name in enumerate(plain) if name == alias and k not in taken]
            if len(spots) > 1 and alias:
                rivals = " and ".join(repr(shown(names[k], 24)) for k in spots[:4])
                raise DataError(
                    f"{reading.where}: the columns {rivals} (positions "
                    f"{', '.join(str(k) for k in spots[:4])}, counted from 0) could both be {role}. "
                    f"Choose one with {name_columns(**{role: 'POSITION'})}."
                )
            if spots:
                at[role] = spots[0]
                taken.add(spots[0])
                break
    _currency_volumes(names, plain, at, taken)
    for role, spare in (("tick_volume", ("tickvol", "tickvolume")), ("adjusted", ("adjclose", "adjustedclose"))):
        spots = [k for k, name in enumerate(plain) if name in spare and k not in taken]
        if len(spots) == 1:
            at[role] = spots[0]
    missing = [role for role in PRICES if role not in at]
    if missing or "timestamp" not in at:
        if not missing:
            missing = ["timestamp"]
        raise DataError(
            f"{reading.where}: no column for {', '.join(missing)} among {listing(names)}. "
            f"Name {'them' if len(missing) > 1 else 'it'} with {name_columns(**{missing[0]: 'NAME'})}."
        )
    return _named(names, plain, at)


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


def _date_and_clock(plain: list[str], at: dict[str, int], taken: set[int]) -> None:
    """``<DATE>`` beside ``<TIME>``: two columns make one timestamp."""
    if "timestamp" in at or "clock" in at:
        return
    dates = [k for k, name in enumerate(plain) if name in _DATE_NAMES]
    clocks = [k for k, name in enumerate(plain) if name in _CLOCK_NAMES]
    whole = [name for name in plain if name in ALIASES["timestamp"][:10]]
    if len(dates) == 1 and len(clocks) == 1 and not whole:
        at["timestamp"], at["clock"] = dates[0], clocks[0]
        taken.update((dates[0], clocks[0]))


def _currency_volumes(names: list[str], plain: list[str], at: dict[str, int], taken: set[int]) -> None:
    """``Volume BTC`` and ``Volume USDT``: the first is volume, the one in money is amount."""
    found = {
        k: match[1].upper() for k, name in enumerate(plain) if (match := re.fullmatch(r"volume([a-z]{2,6})", name))
    }
    found = {k: code for k, code in found.items() if k not in taken}
    if len(found) == 1 and "volume" not in at:
        at["volume"] = next(iter(found))
    elif len(found) == 2 and "volume" not in at:
        one, two = found
        money = two if found[two] in _QUOTES or found[one] not in _QUOTES else one
        at["amount"], at["volume"] = money, (one if money == two else two)


def _named(names: list[str], plain: list[str], at: dict[str, int]) -> Roles:
    """The layout that the header betrays."""
    have, raw = set(plain), [str(name).strip() for name in names]
    zone = HEADER_ZONES.get(plain[at["timestamp"]])
    layout, backwards = "generic OHLCV", False
    if any(name.startswith("$") for name in raw):
        layout = "Qlib"
    elif "tickvol" in have or (raw[0] == "<DATE>" and "clock" in at):
        layout = "MetaTrader 5"
    elif {"ticker", "per", "date"} <= have:
        layout = "Stooq"
    elif have & {"收盘", "收盘价"}:
        layout = "akshare"
    elif "adjclose" in have:
        layout = "yfinance"
    elif {"opentime", "quoteassetvolume"} <= have or {"opentime", "closetime"} <= have:
        layout = "Binance klines"
    elif {"tscode", "tradedate"} <= have:
        layout, backwards = "tushare", True
    elif "1open" in have:
        layout, backwards = "Alpha Vantage", True
    elif "closelast" in have:
        layout, backwards = "Nasdaq", True
    elif {"price", "vol", "change%"} <= have or {"price", "change%"} <= have:
        layout, backwards = "Investing.com", True
    elif {"unix", "date", "symbol"} <= have:
        layout, backwards = "CryptoDataDownload", True
    elif raw[0] == "timestamps" and {"open", "high", "low", "close"} <= have:
        layout = "Kronos"
    elif zone or raw[0] in ("Local time", "Gmt time"):
        layout = "Dukascopy"
    elif raw[:5] == ["time", "open", "high", "low", "close"]:
        layout = "TradingView"
    elif "dividends" in have or raw[:6] in (
        ["Date", "Open", "High", "Low", "Close", "Volume"],
        ["Datetime", "Open", "High", "Low", "Close", "Volume"],
    ):
        layout = "yfinance"
    elif raw[:6] == ["Time", "Open", "High", "Low", "Close", "Volume"]:
        layout = "Dukascopy"
    return Roles(layout, dict(at), backwards, zone)

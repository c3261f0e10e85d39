"""What the spelling of a symbol and the time zone say about where something trades, from short tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pandas as pd

from kronos.bars.calendar.markets import ALWAYS, FX

CHINESE: Final = re.compile(
    r"(SH|SZ|BJ)[._]?[0-9]{6}|(00[0-3]|200|30[0-2]|399|60[0-5]|68[89]|900|430|83[0-9]|87[0-3]|920)[0-9]{3}"
)
"""Shenzhen's, Shanghai's and Beijing's six digits. Seoul writes six digits, too: most of its begin otherwise."""

ENDINGS: Final = {
    ".SS": "XSHG", ".SH": "XSHG", ".SZ": "XSHG", ".XSHG": "XSHG", ".XSHE": "XSHG", ".HK": "XHKG", ".T": "XTKS",
    ".L": "XLON", ".DE": "XETR", ".PA": "XPAR", ".NS": "XBOM", ".BO": "XBOM", ".TW": "XTAI", ".AX": "XASX",
    ".TO": "XTSE", ".SW": "XSWX", ".SA": "BVMF", ".SI": "XSES", ".KS": "XKRX", ".US": "XNYS",
}  # fmt: skip
"""How symbols end on the exchanges that are tried."""

BEGINNINGS: Final = {
    "NYSE:": "XNYS", "NASDAQ:": "XNYS", "AMEX:": "XNYS", "SSE:": "XSHG", "SZSE:": "XSHG", "HKEX:": "XHKG",
    "TSE:": "XTKS", "LSE:": "XLON", "XETR:": "XETR", "EURONEXT:": "XPAR", "NSE:": "XBOM", "BSE:": "XBOM",
    "ASX:": "XASX", "TSX:": "XTSE", "KRX:": "XKRX",
}  # fmt: skip
"""How symbols begin where the exchange is written before them."""

_MONEY: Final = "USD|EUR|GBP|JPY|CHF|AUD|CAD|NZD|CNH|CNY|HKD|SGD|SEK|NOK|DKK|PLN|MXN|ZAR|TRY|INR|KRW"
_PAIR: Final = re.compile(rf"({_MONEY}|XAU|XAG)[/_-]?({_MONEY})(=X)?")
_COIN: Final = re.compile(
    r"[A-Z0-9]{2,10}[/_-]?(USDT|USDC|BUSD|FDUSD)(:[A-Z]+)?|(BTC|ETH|SOL|XRP|BNB|ADA|DOGE|LTC)([/_-]?(USD|EUR|BTC))?"
)
_TICKER: Final = re.compile(r"[A-Z]{1,5}([.-][A-Z])?")


def symbol_hint(symbol: str | None) -> str | None:
    """The exchange that a symbol's spelling names: ``600519.SS``, ``sz000001``, ``0700.HK``, ``NASDAQ:AAPL``."""
    text = (symbol or "").upper()
    if CHINESE.fullmatch(text):
        return "XSHG"
    ends = (code for ending, code in ENDINGS.items() if text.endswith(ending))
    return next(ends, None) or next((code for start, code in BEGINNINGS.items() if text.startswith(start)), None)


_LIMITS: Final = {"XKRX": 0.3, "XTAI": 0.1}


def daily_limit(symbol: str | None, calendar: str | None = None) -> float | None:
    """The share by which a price may leave the close before, where symbol and calendar name an exchange with a limit.

    None: there is none, or it is not known. Of China's boards the limits of today are taken for older bars, too.
    """
    where = calendar or symbol_hint(symbol)
    if where != "XSHG":
        return _LIMITS.get(where or "")
    digits = re.search(r"[0-9]{6}", symbol or "")
    if symbol_hint(symbol) != "XSHG" or digits is None:
        return None
    code = digits.group()
    return 0.2 if code.startswith(("688", "689", "30")) else 0.3 if code.startswith(("43", "8", "92")) else 0.1


def likely_calendar(symbol: str | None) -> str | None:
    """Where a symbol that names no exchange is most often traded: pairs of currencies, coins, tickers as in New York.

    Other exchanges write a few capitals, too, so the bars must bear it out, and who is told the calendar is told why.
    """
    text = symbol or ""
    if _COIN.fullmatch(text.upper()):
        return ALWAYS
    if _PAIR.fullmatch(text.upper()):
        return FX
    return "XNYS" if _TICKER.fullmatch(text) else None


def of_zone(times: pd.DatetimeIndex, zones: Mapping[str, str]) -> list[str]:
    """Of ``{exchange: zone}`` those in whose zone timestamps are written, else those by whose clock; UTC tells none."""
    zone = str(times.tz)
    if times.tz is None or zone in ("UTC", "Etc/UTC", "GMT", "UTC+00:00"):
        return []
    same = [name for name, home in zones.items() if home == zone]
    ends = times[[0, -1]]
    return same or [
        name
        for name, home in zones.items()
        if (ends.tz_localize(None) == ends.tz_convert(home).tz_localize(None)).all()
    ]

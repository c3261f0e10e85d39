"""Bars from where they are published: crypto exchanges (ccxt), Yahoo (yfinance), China (akshare).

The three packages belong to the extra ``sources`` and are imported when they are used.
"""

from __future__ import annotations

import difflib
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from kronos.bars.calendar.frequency import BarSize, parse_frequency
from kronos.bars.calendar.guess import symbol_hint
from kronos.bars.calendar.markets import market
from kronos.bars.reading.read import read_bars
from kronos.bars.report import BarsReport
from kronos.bars.store.download import Download, TemporaryFailure, without_forming
from kronos.bars.store.write import write_bars
from kronos.errors import ConfigError, DataError, MissingExtraError

_YEAR: Final = 365 * 86_400_000
_PAGE: Final = 1000
_YAHOO: Final = {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "60m", "1d": "1d", "1w": "1wk", "1mo": "1mo"}
_FORMING: Final = "the last bar was still forming: left out"
_CHINA: Final = {"1d": "daily", "1w": "weekly", "1mo": "monthly"}

Progress = Callable[[int, float], None]


def fetch_bars(
    source: str,
    *,
    timeframe: str = "1d",
    since: str | None = None,
    until: str | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    options: Mapping[str, Any] | None = None,
    now: int | None = None,
) -> pd.DataFrame:
    """Download bars, validated, without the bar that is still forming.

    Args:
        source: ``binance:BTC/USDT`` (any exchange of ccxt), ``yfinance:AAPL``, ``akshare:600519``.
        timeframe: bar size.
        since, until: ISO dates, UTC for crypto; ``until`` is not included. Without ``since`` one year.
        output: file to write (.parquet, .csv, .feather). A broken download is kept beside it as
            ``NAME.partial`` and resumed by the same call.
        progress: told (bars so far, share of the time span).
        options: settings for the ccxt exchange, such as ``{"urls": …}`` or ``{"timeout": 5000}``.
        now: epoch milliseconds that decide which bar is forming; None: the clock.

    Returns:
        A bars table with its report.

    Raises:
        ConfigError: an unknown source or bar size.
        DataError: an unknown symbol, no bars, or a source that keeps failing.
        MissingExtraError: the package is not installed.
    """
    name, symbol = _split(source)
    size = parse_frequency(timeframe)
    now = int(time.time() * 1000) if now is None else now
    end = min(_millis(until, "until"), now) if until else now
    begin = _millis(since, "since") if since else end - _YEAR
    if begin >= end:
        raise ConfigError(
            f"since ({pd.Timestamp(begin, unit='ms')}) must be earlier than until ({pd.Timestamp(end, unit='ms')})."
        )
    target = Path(output) if output is not None else None
    request = _Request(name, symbol, size, begin, end, now)
    if name == "yfinance":
        bars = _yahoo(request)
    elif name == "akshare":
        bars = _china(request)
    else:
        bars = _crypto(request, target, progress, options or {})
    if target is not None:
        write_bars(bars, target)
        _partial(target).unlink(missing_ok=True)
    return bars


@dataclass(frozen=True)
class _Request:
    """Bars of one symbol from ``begin`` to before ``end``; these and ``now`` in epoch milliseconds."""

    source: str
    symbol: str
    size: BarSize
    begin: int
    end: int
    now: int

    def days(self, pattern: str) -> tuple[str, str]:
        """Begin and end as text."""
        begin, end = (pd.Timestamp(edge, unit="ms").strftime(pattern) for edge in (self.begin, self.end))
        return begin, end


def _split(source: str) -> tuple[str, str]:
    name, colon, symbol = source.partition(":")
    if not colon or not name or not symbol:
        raise ConfigError(
            f"'{source}' names no source. Write SOURCE:SYMBOL, such as binance:BTC/USDT or yfinance:AAPL."
        )
    return name.lower(), symbol


def _millis(text: str, what: str) -> int:
    try:
        moment = pd.Timestamp(text)
    except ValueError as error:
        raise ConfigError(f"{what} must be a date such as 2024-01-01, not '{text}'.") from error
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment
    return int(moment.timestamp() * 1000)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "sources", f"Fetching bars through {name}") from error


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


# --- ccxt -----------------------------------------------------------------------------------------------


def _crypto(
    request: _Request, target: Path | None, progress: Progress | None, options: Mapping[str, Any]
) -> pd.DataFrame:
    name, symbol, size = request.source, request.symbol, request.size
    ccxt = _package("ccxt")
    if name not in ccxt.exchanges:
        near = difflib.get_close_matches(name, ccxt.exchanges, n=4, cutoff=0.5)
        hint = f"Near names: {', '.join(near)}. " if near else ""
        raise ConfigError(f"Unknown source '{name}'. {hint}Sources are yfinance, akshare and the exchanges of ccxt.")
    exchange = getattr(ccxt, name)({"enableRateLimit": True, **options})
    timeframe = _timeframe(exchange, size)
    if size.unit == "mo":
        raise ConfigError("Monthly candles have no fixed length: fetch 1d and resample to 1mo.")

    def page(since: int) -> list[list[float]]:
        try:
            rows: list[list[float]] = exchange.fetch_ohlcv(symbol, timeframe, since=since, limit=_PAGE)
        except ccxt.BadSymbol as error:
            raise DataError(_unknown_symbol(exchange, symbol)) from error
        except ccxt.NetworkError as error:  # rate limits, time-outs, broken lines
            raise TemporaryFailure(_short(error)) from error
        except ccxt.BaseError as error:
            raise DataError(f"{name}: {_short(error)}") from error
        return rows

    step = int(size.delta.total_seconds() * 1000)
    what = {"source": name, "symbol": symbol, "timeframe": timeframe, "since": request.begin}
    partial = _partial(target) if target is not None else None
    download = Download(page, step, what, request.begin, request.end, partial, progress)
    candles, forming = without_forming(download.run(), step, request.now)
    if len(candles) == 0:
        begin = pd.Timestamp(request.begin, unit="ms")
        raise DataError(f"{name} has no finished {size} bars of {symbol} from {begin} on.")
    frame = pd.DataFrame(candles, columns=["timestamp", "open", "high", "low", "close", "volume"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"].astype("int64"), unit="ms", utc=True)
    return _named(read_bars(frame, symbol=symbol), f"ccxt {name}", [*download.notes, *([_FORMING] if forming else [])])


def _timeframe(exchange: Any, size: BarSize) -> str:
    """The exchange's own name of a bar size."""
    names = exchange.timeframes or {}
    wanted = f"{size.count}M" if size.unit == "mo" else str(size)
    if names and wanted not in names:
        raise ConfigError(f"{exchange.id} has no bars of {size}; it has {', '.join(names)}.")
    return wanted


def _unknown_symbol(exchange: Any, symbol: str) -> str:
    near = difflib.get_close_matches(symbol.upper(), list(exchange.symbols or []), n=4, cutoff=0.5)
    hint = f" Near names: {', '.join(near)}." if near else " Write it as BASE/QUOTE, such as BTC/USDT."
    return f"{exchange.id} has no market '{symbol}'.{hint}"


def _short(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:160]


def _named(bars: pd.DataFrame, layout: str, notes: list[str]) -> pd.DataFrame:
    report: BarsReport = bars.attrs["report"]
    bars.attrs["report"] = report.noted(*notes, layout=layout, source=layout)
    return bars


# --- Yahoo and akshare ----------------------------------------------------------------------------------


def _yahoo(request: _Request) -> pd.DataFrame:
    if str(request.size) not in _YAHOO:
        raise ConfigError(f"Yahoo has no bars of {request.size}; it has {', '.join(_YAHOO)}.")
    start, end = request.days("%Y-%m-%d")
    interval = _YAHOO[str(request.size)]
    frame = _package("yfinance").download(
        request.symbol, start=start, end=end, interval=interval, auto_adjust=False, progress=False
    )
    return _finished(frame, request, symbol_hint(request.symbol) or "XNYS")


def _china(request: _Request) -> pd.DataFrame:
    akshare = _package("akshare")
    size, minutes = request.size, request.size.delta.total_seconds() / 60
    if str(size) in _CHINA:
        start, end = request.days("%Y%m%d")
        period, history = _CHINA[str(size)], akshare.stock_zh_a_hist
    elif minutes in (1, 5, 15, 30, 60):
        start, end = request.days("%Y-%m-%d %H:%M:%S")
        period, history = str(int(minutes)), akshare.stock_zh_a_hist_min_em
    else:
        raise ConfigError(f"akshare has no bars of {size}; it has 1m, 5m, 15m, 30m, 1h, 1d, 1w, 1mo.")
    frame = history(symbol=request.symbol, period=period, start_date=start, end_date=end, adjust="")
    return _finished(frame, request, "XSHG")


def _finished(frame: Any, request: _Request, exchange: str) -> pd.DataFrame:
    """The bars of a vendor's table, without one that is still forming."""
    source, symbol, size = request.source, request.symbol, request.size
    if frame is None or len(frame) == 0:
        raise DataError(f"{source} has no {size} bars of {symbol} in that time. Check the symbol and the dates.")
    bars = read_bars(frame, symbol=None if "symbol" in frame.columns else symbol)
    bars = bars.assign(symbol=symbol) if "symbol" in bars.columns else bars
    last = pd.Timestamp(bars["timestamp"].iloc[-1])
    if _is_over(last, size, exchange, request.now, ends=source == "akshare"):
        return _named(bars, source, [])
    if len(bars) == 1:
        raise DataError(f"{source} has only the forming {size} bar of {symbol}. Ask for an earlier since.")
    report = bars.attrs["report"]
    bars = bars.iloc[:-1].reset_index(drop=True)
    bars.attrs["report"] = replace(report, rows=len(bars), last=bars["timestamp"].iloc[-1])
    return _named(bars, source, [_FORMING])


def _is_over(stamp: pd.Timestamp, size: BarSize, exchange: str, now: int, *, ends: bool) -> bool:
    """True when the bar with this timestamp is finished at ``now``."""
    moment = pd.Timestamp(now, unit="ms", tz="UTC")
    where = market(exchange)
    local = stamp.tz_convert(where.zone) if stamp.tzinfo is not None else stamp.tz_localize(where.zone)
    if size.intraday:
        return bool((local if ends else local + size.delta) <= moment)
    day = local.tz_localize(None).normalize()
    if size.unit != "d":
        if ends:
            return bool(day.tz_localize(where.zone) < moment)
        following = day + (pd.Timedelta(days=7) if size.unit == "w" else pd.DateOffset(months=1))
        return bool(following.tz_localize(where.zone) <= moment)
    sessions = where.days(day, day)
    midnight = (day + pd.Timedelta(days=1)).tz_localize(where.zone)
    return bool((int(sessions.closes[0]) if len(sessions) else midnight.value) <= moment.value)

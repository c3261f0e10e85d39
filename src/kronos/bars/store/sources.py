"""Bars from where they are published: crypto exchanges (ccxt), Yahoo (yfinance), China (akshare).

The three packages belong to the extra ``sources`` and are imported when they are used.
"""

from __future__ import annotations

import difflib
import importlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kronos.bars.calendar.clues import symbol_hint
from kronos.bars.calendar.frequency import BarSize, parse_frequency
from kronos.bars.calendar.markets import market
from kronos.bars.reading.read import read_bars
from kronos.bars.report import BarsReport
from kronos.bars.store.folder import write_bars
from kronos.errors import ConfigError, DataError, MissingExtraError
from kronos.files import json_text, replacing

TRIES: Final = 5
_SAVE_EVERY: Final = 20  # pages
_COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
_YEAR: Final = 365 * 86_400_000
_PAGE: Final = 1000
_YAHOO: Final = {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "60m", "1d": "1d", "1w": "1wk", "1mo": "1mo"}
_FORMING: Final = "the last bar was still forming: left out"
_CHINA: Final = {"1d": "daily", "1w": "weekly", "1mo": "monthly"}

Progress = Callable[[int, float], None]
Candles = npt.NDArray[np.float64]


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
    name, _, symbol = source.partition(":")
    if not name or not symbol:
        raise ConfigError(
            f"'{source}' names no source. Write SOURCE:SYMBOL, such as binance:BTC/USDT or yfinance:AAPL."
        )
    size, partial = parse_frequency(timeframe), Path(f"{Path(output)}.partial") if output is not None else None
    now = int(time.time() * 1000) if now is None else now
    end = min(_millis(until, "until"), now) if until else now
    request = _Request(name.lower(), symbol, size, _millis(since, "since") if since else end - _YEAR, end, now)
    if request.begin >= end:
        raise ConfigError("since ({}) must be earlier than until ({}).".format(*request.span))
    vendor = {"yfinance": _yahoo, "akshare": _china}.get(request.source)
    bars = vendor(request) if vendor else _crypto(request, partial, progress, options or {})
    if output is not None and partial is not None:
        write_bars(bars, output)
        partial.unlink(missing_ok=True)
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

    @property
    def span(self) -> list[pd.Timestamp]:
        """Begin and end."""
        return [pd.Timestamp(moment, unit="ms") for moment in (self.begin, self.end)]


def _millis(text: str, what: str) -> int:
    try:
        moment = pd.Timestamp(text)
    except ValueError as error:
        raise ConfigError(f"{what} must be a date such as 2024-01-01, not '{text}'.") from error
    return int((moment.tz_localize("UTC") if moment.tzinfo is None else moment).timestamp() * 1000)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, "sources", f"Fetching bars through {name}") from error


# --- ccxt -----------------------------------------------------------------------------------------------


class TemporaryFailure(Exception):
    """The source asks to wait, or the line broke: worth another try."""


@dataclass
class Download:
    """A download in progress.

    ``page`` fetches candles ``[epoch ms, open, high, low, close, volume]`` from an epoch (ms) on, oldest first, and
    raises ``TemporaryFailure`` where another try is worth it.
    """

    page: Callable[[int], list[list[float]]]
    step: int  # milliseconds from one candle to the next
    what: dict[str, Any]  # names the request; a partial file of another request is not resumed
    since: int  # epoch milliseconds
    until: int  # not included
    partial: Path | None = None  # keeps what was fetched so far
    progress: Progress | None = None  # told (candles so far, share of the time span fetched)
    sleep: Callable[[float], None] = time.sleep  # seconds, between tries
    notes: list[str] = field(default_factory=list)

    def run(self) -> Candles:
        """Fetch every page; returns an (n, 6) array sorted by time.

        What was fetched is kept in the partial file when anything breaks, so that the next run goes on.
        """
        parts = self._resume()
        cursor = int(parts[-1][-1, 0]) + self.step if parts else self.since
        fetched = 0
        try:
            while cursor < self.until:
                page = self._page(cursor)
                fresh = page[(page[:, 0] >= cursor) & (page[:, 0] < self.until)]
                if len(fresh) == 0:
                    break
                parts.append(fresh)
                cursor, fetched = int(fresh[-1, 0]) + self.step, fetched + 1
                if fetched % _SAVE_EVERY == 0:
                    self._save(parts)
                if self.progress is not None:
                    share = (cursor - self.since) / max(self.until - self.since, 1)
                    self.progress(sum(map(len, parts)), min(share, 1.0))
        except BaseException:  # also Ctrl-C: what is here need not be fetched again
            if fetched:
                self._save(parts)
            raise
        return np.concatenate(parts) if parts else np.empty((0, 6))

    def _page(self, cursor: int) -> Candles:
        failure: TemporaryFailure | None = None
        for attempt in range(TRIES):
            if failure is not None:
                self.sleep(min(2.0 ** (attempt - 1), 30.0))
            try:
                page = np.array([row[:6] for row in self.page(cursor)], dtype=np.float64).reshape(-1, 6)
                return page[np.argsort(page[:, 0], kind="stable")]
            except TemporaryFailure as error:
                failure = error
        kept = f" What was fetched is kept in {self.partial}; run the same again to go on." if self.partial else ""
        raise DataError(f"{self.what['source']}: gave up after {TRIES} tries ({failure}).{kept}") from failure

    def _resume(self) -> list[Candles]:
        if self.partial is None or not self.partial.exists():
            return []
        try:
            table = pq.read_table(self.partial)
            what = json.loads((table.schema.metadata or {}).get(b"kronos", b"{}"))
        except (pa.ArrowException, OSError, ValueError):
            return []
        if what != self.what or table.num_rows == 0:
            return []
        self.notes.append(f"resumed after {table.num_rows:,} bars of a broken download")
        return [np.column_stack([table.column(name).to_numpy() for name in _COLUMNS])]

    def _save(self, parts: list[Candles]) -> None:
        if self.partial is not None:
            parts[:] = [np.concatenate(parts)]
            what = {b"kronos": json_text(self.what).encode()}
            with replacing(self.partial) as path:
                pq.write_table(pa.table([*parts[0].T], names=_COLUMNS, metadata=what), path)


def _crypto(
    request: _Request, partial: Path | None, progress: Progress | None, options: Mapping[str, Any]
) -> pd.DataFrame:
    name, symbol, size = request.source, request.symbol, request.size
    ccxt = _package("ccxt")
    if name not in ccxt.exchanges:
        near = _near(name, ccxt.exchanges)
        raise ConfigError(f"Unknown source '{name}'.{near} Sources are yfinance, akshare and the exchanges of ccxt.")
    exchange = getattr(ccxt, name)({"enableRateLimit": True, **options})
    timeframe, offered = f"{size.count}M" if size.unit == "mo" else str(size), exchange.timeframes
    if offered and timeframe not in offered:
        raise ConfigError(f"{exchange.id} has no bars of {size}; it has {', '.join(offered)}.")
    if size.unit == "mo":
        raise ConfigError("Monthly candles have no fixed length: fetch 1d and resample to 1mo.")

    def page(since: int) -> list[list[float]]:
        try:
            rows: list[list[float]] = exchange.fetch_ohlcv(symbol, timeframe, since=since, limit=_PAGE)
        except ccxt.BadSymbol as error:
            near = _near(symbol.upper(), exchange.symbols or ()) or " Write it as BASE/QUOTE, such as BTC/USDT."
            raise DataError(f"{exchange.id} has no market '{symbol}'.{near}") from error
        except ccxt.BaseError as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:160]
            if isinstance(error, ccxt.NetworkError):  # rate limits, time-outs, broken lines
                raise TemporaryFailure(text) from error
            raise DataError(f"{name}: {text}") from error
        return rows

    step = int(size.delta.total_seconds() * 1000)
    what = {"source": name, "symbol": symbol, "timeframe": timeframe, "since": request.begin}
    download = Download(page, step, what, request.begin, request.end, partial, progress)
    candles = download.run()
    over = candles[:, 0] + step <= request.now
    if not over.any():
        raise DataError(f"{name} has no finished {size} bars of {symbol} from {request.span[0]} on.")
    frame = pd.DataFrame(candles[over], columns=_COLUMNS)
    frame["timestamp"] = pd.to_datetime(frame["timestamp"].astype("int64"), unit="ms", utc=True)
    return _named(
        read_bars(frame, symbol=symbol), f"ccxt {name}", [*download.notes, *([] if over.all() else [_FORMING])]
    )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=4, cutoff=0.5)
    return f" Near names: {', '.join(near)}." if near else ""


def _named(bars: pd.DataFrame, layout: str, notes: list[str]) -> pd.DataFrame:
    report: BarsReport = bars.attrs["report"]
    last = bars["timestamp"].iloc[-1]
    bars.attrs["report"] = report.noted(*notes, layout=layout, source=layout, rows=len(bars), last=last)
    return bars


# --- Yahoo and akshare ----------------------------------------------------------------------------------


def _yahoo(request: _Request) -> pd.DataFrame:
    if str(request.size) not in _YAHOO:
        raise ConfigError(f"Yahoo has no bars of {request.size}; it has {', '.join(_YAHOO)}.")
    start, end = (f"{moment:%Y-%m-%d}" for moment in request.span)
    interval = _YAHOO[str(request.size)]
    frame = _package("yfinance").download(
        request.symbol, start=start, end=end, interval=interval, auto_adjust=False, progress=False
    )
    return _finished(frame, request, symbol_hint(request.symbol) or "XNYS")


def _china(request: _Request) -> pd.DataFrame:
    akshare = _package("akshare")
    size, minutes = request.size, request.size.delta.total_seconds() / 60
    if str(size) in _CHINA:
        period, history, pattern = _CHINA[str(size)], akshare.stock_zh_a_hist, "%Y%m%d"
    elif minutes in (1, 5, 15, 30, 60):
        period, history, pattern = str(int(minutes)), akshare.stock_zh_a_hist_min_em, "%Y-%m-%d %H:%M:%S"
    else:
        raise ConfigError(f"akshare has no bars of {size}; it has 1m, 5m, 15m, 30m, 1h, 1d, 1w, 1mo.")
    start, end = (moment.strftime(pattern) for moment in request.span)
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
    return _named(bars.iloc[:-1].reset_index(drop=True), source, [_FORMING])


def _is_over(stamp: pd.Timestamp, size: BarSize, exchange: str, now: int, *, ends: bool) -> bool:
    """True when the bar with this timestamp is finished at ``now``."""
    moment, where = pd.Timestamp(now, unit="ms", tz="UTC"), market(exchange)
    local = stamp.tz_convert(where.zone) if stamp.tzinfo is not None else stamp.tz_localize(where.zone)
    if size.intraday:
        return bool((local if ends else local + size.delta) <= moment)
    day = local.tz_localize(None).normalize()
    if size.unit == "d" and len(sessions := where.days(day, day)):
        return int(sessions.closes[0]) <= moment.value
    if size.unit != "d" and ends:
        return bool(day.tz_localize(where.zone) < moment)
    following = day + (pd.DateOffset(months=1) if size.unit == "mo" else size.delta)
    return bool(following.tz_localize(where.zone) <= moment)

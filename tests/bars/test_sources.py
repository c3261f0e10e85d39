"""Downloads against a server on loopback that speaks an exchange's public JSON from real bars."""

from __future__ import annotations

import json
import os
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
import pandas as pd
import pytest

from kronos.bars import fetch_bars, read_bars, sample_bars
from kronos.bars.store.sources import Download, TemporaryFailure
from kronos.errors import ConfigError, DataError, MissingExtraError

HOUR = 3_600_000
BEGIN = 1_704_067_200_000  # 2024-01-01
ROWS = 2600
SINCE = "2024-01-01"


def klines() -> list[list[Any]]:
    """Real EUR/USD prices on every hour from 2024-01-01, as Binance writes them."""
    bars = sample_bars("eurusd").head(ROWS)
    rows: list[list[Any]] = []
    for k, bar in enumerate(bars.itertuples(index=False)):
        start = BEGIN + k * HOUR
        prices = [f"{value:.5f}" for value in (bar.open, bar.high, bar.low, bar.close)]
        rows.append([start, *prices, f"{bar.volume:.8f}", start + HOUR - 1, f"{bar.amount:.8f}", 0, "0", "0", "0"])
    return rows


def exchange_info() -> dict[str, Any]:
    """The part of Binance's market list that is needed for one market."""
    market = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
        ],
        "permissions": ["SPOT"],
    }
    return {"timezone": "UTC", "serverTime": BEGIN, "rateLimits": [], "exchangeFilters": [], "symbols": [market]}


class Exchange(ThreadingHTTPServer):
    """Binance's klines on loopback; ``failures`` are the answers to the next requests of klines."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows = klines()
        self.asked: list[int] = []
        self.failures: list[int] = []

    @property
    def options(self) -> dict[str, Any]:
        """Settings that send ccxt here."""
        base = f"http://127.0.0.1:{self.server_address[1]}/api/v3"
        return {
            "urls": {"api": {"public": base, "private": base, "sapi": base}},
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
            "rateLimit": 1,
        }


class _Handler(BaseHTTPRequestHandler):
    server: Exchange

    def do_GET(self) -> None:
        url = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.endswith("/exchangeInfo"):
            self._answer(200, exchange_info())
        elif not url.path.endswith("/klines"):
            self._answer(404, {"code": -1, "msg": "not here"})
        elif self.server.failures:
            self._answer(self.server.failures.pop(0), {"code": -1003, "msg": "Too many requests."})
        else:
            start = int(query.get("startTime", BEGIN))
            self.server.asked.append(start)
            rows = [row for row in self.server.rows if row[0] >= start]
            self._answer(200, rows[: int(query.get("limit", 500))])

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    pytest.importorskip("ccxt", reason="ccxt belongs to the extra 'sources'")
    with Exchange() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Exchange, **changes: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {"timeframe": "1h", "since": SINCE, "options": server.options}
    settings["now"] = BEGIN + ROWS * HOUR
    return fetch_bars("binance:BTC/USDT", **{**settings, **changes})


def test_pages_make_one_table(exchange: Exchange, tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    bars = fetch(exchange, output=tmp_path / "btc.parquet", progress=lambda count, share: seen.append((count, share)))
    assert len(bars) == ROWS
    assert exchange.asked == [BEGIN, BEGIN + 1000 * HOUR, BEGIN + 2000 * HOUR]
    assert seen[-1] == (ROWS, 1.0)
    np.testing.assert_allclose(bars["close"], sample_bars("eurusd")["close"].head(ROWS))
    assert bars["symbol"][0] == "BTC/USDT"
    assert str(bars["timestamp"].dt.tz) == "UTC"
    pd.testing.assert_frame_equal(read_bars(tmp_path / "btc.parquet"), bars, check_dtype=False)
    assert [path.name for path in tmp_path.iterdir()] == ["btc.parquet"]


def test_the_forming_bar_is_dropped_and_said_so(exchange: Exchange) -> None:
    bars = fetch(exchange, now=BEGIN + 100 * HOUR + HOUR // 2)
    assert len(bars) == 100
    assert bars["timestamp"].iloc[-1] == pd.Timestamp(BEGIN + 99 * HOUR, unit="ms", tz="UTC")
    assert any("forming" in note for note in bars.attrs["report"].notes)
    over = fetch(exchange, now=BEGIN + 100 * HOUR)  # the last one ends at this moment
    assert len(over) == 100
    assert not any("forming" in note for note in over.attrs["report"].notes)


def test_until_is_not_included(exchange: Exchange) -> None:
    bars = fetch(exchange, until="2024-01-03")
    assert len(bars) == 48


def test_a_broken_download_is_kept_and_resumed(exchange: Exchange, tmp_path: Path) -> None:
    output = tmp_path / "btc.csv"
    pages = 0

    def break_off(count: int, share: float) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(exchange, output=output, progress=break_off)
    assert not output.exists()
    assert (tmp_path / "btc.csv.partial").exists()
    exchange.asked.clear()
    bars = fetch(exchange, output=output)
    assert exchange.asked == [BEGIN + 2000 * HOUR]
    assert len(bars) == ROWS
    assert any("resumed after 2,000 bars" in note for note in bars.attrs["report"].notes)
    assert not (tmp_path / "btc.csv.partial").exists()


def test_another_request_does_not_resume(exchange: Exchange, tmp_path: Path) -> None:
    output = tmp_path / "btc.csv"

    def break_off(count: int, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(exchange, output=output, progress=break_off)
    exchange.asked.clear()
    bars = fetch(exchange, output=output, since="2024-01-02")
    assert bars["timestamp"].iloc[0] == pd.Timestamp("2024-01-02", tz="UTC")
    assert exchange.asked[0] == BEGIN + 24 * HOUR


def test_refusals_by_the_server_are_waited_out(exchange: Exchange) -> None:
    exchange.failures = [429, 503]
    waits: list[float] = []
    from kronos.bars.store import sources

    original = sources.Download.__init__

    def patient(self: Download, *args: Any, **changes: Any) -> None:
        original(self, *args, **changes)
        self.sleep = waits.append

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.Download, "__init__", patient)
        bars = fetch(exchange)
    assert len(bars) == ROWS
    assert waits == [1.0, 2.0]


def test_a_server_that_keeps_failing_gives_one_error(exchange: Exchange, tmp_path: Path, monkeypatch: Any) -> None:
    exchange.failures = [503] * 50
    monkeypatch.setattr("kronos.bars.store.sources.TRIES", 2)
    with pytest.raises(DataError, match=r"binance: gave up after 2 tries") as caught:
        fetch(exchange, output=tmp_path / "btc.csv")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_unknown_markets_sizes_and_sources(exchange: Exchange) -> None:
    with pytest.raises(DataError, match=r"no market 'BTC/USD'.*BTC/USDT"):
        fetch_bars("binance:BTC/USD", timeframe="1h", since=SINCE, options=exchange.options, now=BEGIN + HOUR)
    with pytest.raises(ConfigError, match="no bars of 7m"):
        fetch(exchange, timeframe="7m")
    with pytest.raises(ConfigError, match=r"Unknown source 'binanse'.*binance"):
        fetch_bars("binanse:BTC/USDT")
    with pytest.raises(ConfigError, match="SOURCE:SYMBOL"):
        fetch_bars("BTC/USDT")
    with pytest.raises(ConfigError, match="since must be a date"):
        fetch(exchange, since="soon")
    with pytest.raises(ConfigError, match="earlier than until"):
        fetch(exchange, since="2030-01-01")


def test_nothing_there(exchange: Exchange) -> None:
    exchange.rows = []
    with pytest.raises(DataError, match="no finished 1h bars"):
        fetch(exchange)


def test_overlapping_and_short_pages() -> None:
    """Exchanges answer with what they like: pages that overlap, or that hold one candle."""

    class Odd:
        def page(self, since: int) -> list[list[float]]:
            first = max(since - 20, 0)
            return [[t, 1.0, 2.0, 0.5, 1.5, 3.0] for t in range(first, min(first + 30, 100), 10)]

    candles = Download(Odd().page, 10, {"source": "odd"}, 0, 1000).run()
    assert candles[:, 0].tolist() == list(range(0, 100, 10))


def test_failures_are_counted_a_page() -> None:
    class Flaky:
        calls = 0

        def page(self, since: int) -> list[list[float]]:
            self.calls += 1
            if self.calls % 3:
                raise TemporaryFailure("busy")
            return [[since, 1, 1, 1, 1, 1]] if since < 5 else []

    waits: list[float] = []
    candles = Download(Flaky().page, 1, {"source": "flaky"}, 0, 100, sleep=waits.append).run()
    assert len(candles) == 5
    assert waits == [1.0, 2.0] * 6


def yahoo_frame() -> pd.DataFrame:
    """What yfinance.download returns for one ticker: two-level columns, dates as index."""
    bars = sample_bars("sp500").tail(50)
    frame = bars[["close", "close", "high", "low", "open", "volume"]].copy()
    fields = ["Adj Close", "Close", "High", "Low", "Open", "Volume"]
    frame.columns = pd.MultiIndex.from_product([fields, ["AAPL"]], names=["Price", "Ticker"])
    frame.index = pd.DatetimeIndex(bars["timestamp"], name="Date")
    return frame


def test_yahoo(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    module = types.ModuleType("yfinance")

    def download(symbol: str, **settings: Any) -> pd.DataFrame:
        asked.update(settings, symbol=symbol)
        return yahoo_frame()

    module.download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yfinance", module)
    evening = int(pd.Timestamp("2018-12-31 22:00", tz="UTC").timestamp() * 1000)
    bars = fetch_bars("yfinance:AAPL", since="2018-10-01", now=evening)
    assert (asked["symbol"], asked["interval"], asked["start"], asked["auto_adjust"]) == (
        "AAPL",
        "1d",
        "2018-10-01",
        False,
    )
    assert len(bars) == 50
    assert bars["symbol"].unique().tolist() == ["AAPL"]
    noon = fetch_bars("yfinance:AAPL", since="2018-10-01", now=evening - 5 * HOUR)
    assert len(noon) == 49
    assert any("forming" in note for note in noon.attrs["report"].notes)


def test_akshare(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("akshare")

    def history(**settings: Any) -> pd.DataFrame:
        bars = sample_bars("sp500").tail(30)
        names = {"open": "开盘", "close": "收盘", "high": "最高", "low": "最低", "volume": "成交量", "amount": "成交额"}
        frame = bars[list(names)].rename(columns=names)
        frame.insert(0, "日期", bars["timestamp"].dt.date)
        frame.insert(1, "股票代码", settings["symbol"])
        return frame.reset_index(drop=True)

    module.stock_zh_a_hist = history  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "akshare", module)
    bars = fetch_bars("akshare:600519", since="2018-10-01", now=int(pd.Timestamp("2019-01-10").timestamp() * 1000))
    assert len(bars) == 30
    assert bars["symbol"].unique().tolist() == ["600519"]


@pytest.mark.parametrize("name", ["ccxt", "yfinance", "akshare"])
def test_a_missing_package_names_the_pip_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    source = "binance:BTC/USDT" if name == "ccxt" else f"{name}:X"
    with pytest.raises(MissingExtraError, match=r"pip install .*'ccxt"):
        fetch_bars(source, since=SINCE)


@pytest.mark.network
@pytest.mark.skipif(os.environ.get("KRONOS_NETWORK") != "1", reason="needs the internet: KRONOS_NETWORK=1")
def test_the_real_exchange() -> None:
    bars = fetch_bars("binance:BTC/USDT", timeframe="1h", since=SINCE, until="2024-03-01")
    assert len(bars) == 60 * 24
    assert bars.attrs["report"].defects == ()

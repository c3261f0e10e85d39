"""Files in the layouts that users have, made from the packaged bars; what each of them holds is known."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from kronos.bars import FEATURES, sample_bars

ROWS = 600


@dataclass(frozen=True)
class Variant:
    """A file and what a reader must find in it.

    Attributes:
        name: file name; readers must not look at it.
        data: the bytes.
        bars: the bars inside: timestamp, prices, volume.
        layout, symbols, frequency, timezone, calendar, guess: as in the report.
        options: for ``read_bars``.
    """

    name: str
    data: bytes
    bars: pd.DataFrame
    layout: str
    frequency: str
    calendar: str | None
    timezone: str | None = None
    guess: str | None = None
    symbols: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@cache
def daily() -> pd.DataFrame:
    """S&P 500 days, naive dates."""
    return sample_bars("sp500").tail(ROWS).reset_index(drop=True)


@cache
def hourly() -> pd.DataFrame:
    """EUR/USD hours in UTC, without the zone."""
    bars = sample_bars("eurusd").head(ROWS).copy()
    bars["timestamp"] = bars["timestamp"].dt.tz_localize(None)
    return bars


@cache
def crypto() -> pd.DataFrame:
    """Hours without a pause, as crypto has them: EUR/USD prices on every hour."""
    bars = hourly().copy()
    bars["timestamp"] = pd.date_range("2024-01-01", periods=len(bars), freq="h").as_unit("ns")
    return bars


def _day_by_day(days: pd.DatetimeIndex, hours: list[tuple[str, str]], step: str) -> pd.DatetimeIndex:
    clock = [time for first, last in hours for time in pd.timedelta_range(first, last, freq=step)]
    return pd.DatetimeIndex([day + time for day in days for time in clock]).as_unit("ns")


@cache
def shanghai_times() -> pd.DatetimeIndex:
    """Ends of five-minute bars: 11:30 is followed by 13:05; 10 June 2024 is a holiday."""
    days = pd.bdate_range("2024-05-20", "2024-06-14").drop("2024-06-10")
    return _day_by_day(days, [("9h35min", "11h30min"), ("13h5min", "15h")], "5min")


@cache
def new_york_times() -> pd.DatetimeIndex:
    """Starts of half-hour bars, 09:30 to 15:30; Good Friday, Memorial Day and 19 June 2024 are holidays."""
    days = pd.bdate_range("2024-03-18", "2024-07-02").drop(["2024-03-29", "2024-05-27", "2024-06-19"])
    return _day_by_day(days, [("9h30min", "15h30min")], "30min")


def _until(times: pd.DatetimeIndex, last: str) -> pd.DataFrame:
    """ROWS bars with the prices of the currency hours, at these times."""
    bars = hourly().drop(columns="symbol")
    bars["timestamp"] = times[times <= last][-ROWS:]
    return bars


@cache
def shanghai() -> pd.DataFrame:
    """Five-minute bars that break off at noon, before a long weekend."""
    return _until(shanghai_times(), "2024-06-07 11:30")


@cache
def new_york() -> pd.DataFrame:
    """Half-hour bars that break off on the day before a holiday in the middle of the week."""
    return _until(new_york_times(), "2024-06-18 12:00")


def following(made: Variant, count: int) -> pd.DatetimeIndex:
    """The true next timestamps: the rows that were held out, or stamps written out by hand. UTC where aware."""
    last = made.bars["timestamp"].iloc[-1]
    if made.calendar == "24/7":
        found = pd.date_range(last, periods=count + 1, freq="h")
    elif made.calendar == "FX":
        found = pd.DatetimeIndex(sample_bars("eurusd")["timestamp"]).tz_localize(None)
    elif made.calendar == "XSHG":
        found = shanghai_times()
    elif made.frequency == "30m":
        found = new_york_times()
    else:  # the sample ends with 2018
        found = pd.bdate_range("2019-01-02", "2019-06-28").drop(
            ["2019-01-21", "2019-02-18", "2019-04-19", "2019-05-27"]
        )
    return found[found > last][:count].as_unit("ns")


def csv(frame: pd.DataFrame, **options: Any) -> bytes:
    """CSV bytes without the index."""
    return frame.to_csv(index=False, lineterminator="\n", **options).encode()


def ohlcv(bars: pd.DataFrame, names: list[str], stamps: Any) -> pd.DataFrame:
    """Stamps and five columns under other names."""
    frame = bars[["open", "high", "low", "close", "volume"]].set_axis(names[1:], axis=1)
    frame.insert(0, names[0], np.asarray(stamps) if not isinstance(stamps, pd.Series) else stamps.to_numpy())
    return frame


def millis(bars: pd.DataFrame) -> pd.Series:
    """Epoch milliseconds."""
    return pd.Series(pd.DatetimeIndex(bars["timestamp"]).as_unit("ms").asi8)


BUILDERS: dict[str, Callable[[], Variant]] = {}


def variant(build: Callable[[], Variant]) -> Callable[[], Variant]:
    """Register a builder under its own name."""
    BUILDERS[build.__name__] = build
    return build


@variant
def published() -> Variant:
    bars = hourly()
    frame = ohlcv(bars, ["timestamps", "open", "high", "low", "close", "volume"], bars["timestamp"])
    frame["amount"] = bars["amount"]
    return Variant("a.csv", csv(frame), bars, "Kronos", "1h", "FX", guess="UTC")


def _binance(unit: int) -> bytes:
    bars = crypto()
    start = millis(bars) * unit
    frame = pd.DataFrame({"t": start, **{name: bars[name] for name in ("open", "high", "low", "close", "volume")}})
    frame["end"] = start + 3600_000 * unit - 1
    frame["quote"] = bars["amount"]
    for name in ("trades", "taker", "takerquote", "ignore"):
        frame[name] = 0
    return csv(frame, header=False)


@variant
def binance_milliseconds() -> Variant:
    return Variant("b.csv", _binance(1), crypto(), "Binance klines", "1h", "24/7", timezone="UTC")


@variant
def binance_microseconds() -> Variant:
    return Variant("b.csv", _binance(1000), crypto(), "Binance klines", "1h", "24/7", timezone="UTC")


@variant
def binance_with_header() -> Variant:
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    names += "taker_buy_quote_volume,ignore\n"
    return Variant("b.csv", names.encode() + _binance(1), crypto(), "Binance klines", "1h", "24/7", timezone="UTC")


@variant
def ccxt_rows() -> Variant:
    bars = crypto()
    data = csv(ohlcv(bars, list("tohlcv"), millis(bars)), header=False)
    return Variant("c.csv", data, bars, "no header", "1h", "24/7", timezone="UTC")


@variant
def epoch_nanoseconds() -> Variant:
    bars = crypto()
    data = csv(ohlcv(bars, ["ts", "o", "h", "l", "c", "v"], millis(bars) * 10**6))
    return Variant("n.csv", data, bars, "generic OHLCV", "1h", "24/7", timezone="UTC")


@variant
def yfinance_adjusted() -> Variant:
    bars = daily()
    frame = ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%Y-%m-%d"))
    frame.insert(5, "Adj Close", bars["close"] * 0.9)
    return Variant("y.csv", csv(frame), bars, "yfinance", "1d", "XNYS", guess="America/New_York")


@variant
def yfinance_header_lines() -> Variant:
    bars = daily()
    head = "Price,Close,High,Low,Open,Volume\nTicker,^GSPC,^GSPC,^GSPC,^GSPC,^GSPC\nDate,,,,,\n"
    frame = bars[["timestamp", "close", "high", "low", "open", "volume"]]
    data = head.encode() + csv(frame, header=False, date_format="%Y-%m-%d")
    return Variant("y.csv", data, bars, "yfinance", "1d", "XNYS", guess="America/New_York", symbols=("^GSPC",))


@variant
def yfinance_two_tickers() -> Variant:
    one, two = daily(), sample_bars("nasdaq").tail(ROWS).reset_index(drop=True)
    fields = ("close", "high", "low", "open", "volume")
    head = "Price," + ",".join(f"{name.title()},{name.title()}" for name in fields)
    head += "\nTicker," + ",".join(["AAA,BBB"] * 5) + "\nDate" + "," * 10 + "\n"
    frame = pd.DataFrame({"t": one["timestamp"].dt.strftime("%Y-%m-%d")})
    for name in fields:
        frame[f"{name}1"], frame[f"{name}2"] = one[name], two[name]
    both = pd.concat([one.assign(symbol="AAA"), two.assign(symbol="BBB")], ignore_index=True)
    data = head.encode() + csv(frame, header=False)
    symbols = ("AAA", "BBB")
    return Variant("y.csv", data, both, "yfinance", "1d", "XNYS", guess="America/New_York", symbols=symbols)


def _akshare() -> str:
    bars = daily()
    frame = pd.DataFrame(
        {
            "日期": bars["timestamp"].dt.strftime("%Y-%m-%d"),
            "股票代码": "000001",
            "开盘": bars["open"],
            "收盘": bars["close"],
            "最高": bars["high"],
            "最低": bars["low"],
            "成交量": bars["volume"],
            "成交额": bars["amount"],
            "换手率": 0.1,
        }
    )
    return csv(frame).decode()


@variant
def akshare_utf8() -> Variant:
    return Variant(
        "z.csv", _akshare().encode(), daily(), "akshare", "1d", "XNYS", None, "America/New_York", ("000001",)
    )


@variant
def akshare_minutes() -> Variant:
    bars = shanghai()
    frame = pd.DataFrame({"时间": bars["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")})
    names = {"开盘": "open", "收盘": "close", "最高": "high", "最低": "low", "成交量": "volume", "成交额": "amount"}
    frame = frame.assign(**{name: bars[source] for name, source in names.items()})
    return Variant("z.csv", csv(frame), bars, "akshare", "5m", "XSHG", guess="Asia/Shanghai")


@variant
def yfinance_half_hours() -> Variant:
    bars = new_york()
    names = ["Datetime", "Open", "High", "Low", "Close", "Volume"]
    data = csv(ohlcv(bars, names, bars["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")))
    return Variant("y.csv", data, bars, "yfinance", "30m", "XNYS", guess="America/New_York")


@variant
def akshare_gbk() -> Variant:
    return Variant(
        "z.csv", _akshare().encode("gbk"), daily(), "akshare", "1d", "XNYS", None, "America/New_York", ("000001",)
    )


@variant
def metatrader4() -> Variant:
    bars = hourly()
    frame = ohlcv(bars, list("dohlcv"), bars["timestamp"].dt.strftime("%Y.%m.%d"))
    frame.insert(1, "t", bars["timestamp"].dt.strftime("%H:%M"))
    return Variant("EURUSD60.csv", csv(frame, header=False), bars, "MetaTrader 4", "1h", "FX", guess="UTC")


@variant
def metatrader5() -> Variant:
    bars = hourly()
    names = ["<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<TICKVOL>"]
    frame = ohlcv(bars, names, bars["timestamp"].dt.strftime("%Y.%m.%d"))
    frame.insert(1, "<TIME>", bars["timestamp"].dt.strftime("%H:%M:%S"))
    frame["<VOL>"], frame["<SPREAD>"] = 0, 3
    return Variant("m.csv", csv(frame, sep="\t"), bars, "MetaTrader 5", "1h", "FX", guess="UTC")


@variant
def tradingview() -> Variant:
    bars = crypto()
    frame = ohlcv(bars, ["time", "open", "high", "low", "close", "Volume"], millis(bars) // 1000)
    frame["RSI"] = 50.0
    return Variant("t.csv", csv(frame), bars, "TradingView", "1h", "24/7", timezone="UTC")


@variant
def tradingview_offsets() -> Variant:
    bars = crypto()
    stamps = bars["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S+08:00")
    frame = ohlcv(bars, ["time", "open", "high", "low", "close", "Volume"], stamps)
    zone = pd.DatetimeIndex(bars["timestamp"]).tz_localize("Asia/Shanghai").tz_convert("UTC").tz_localize(None)
    return Variant("t.csv", csv(frame), bars.assign(timestamp=zone), "TradingView", "1h", "24/7", timezone="UTC+08:00")


@variant
def dukascopy() -> Variant:
    bars = hourly()
    stamps = bars["timestamp"].dt.strftime("%d.%m.%Y %H:%M:%S.000")
    frame = ohlcv(bars, ["Gmt time", "Open", "High", "Low", "Close", "Volume"], stamps)
    return Variant("d.csv", csv(frame), bars, "Dukascopy", "1h", "FX", timezone="UTC")


@variant
def month_first() -> Variant:
    bars = hourly()
    stamps = bars["timestamp"].dt.strftime("%m/%d/%Y %I:%M %p")
    frame = ohlcv(bars, ["Date", "O", "H", "L", "C", "Vol"], stamps)
    return Variant("m.csv", csv(frame), bars, "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def qlib() -> Variant:
    one, two = daily(), sample_bars("nasdaq").tail(ROWS).reset_index(drop=True)
    long = pd.concat([one.assign(symbol="SH600000"), two.assign(symbol="SZ000001")], ignore_index=True)
    frame = long.sort_values(["timestamp", "symbol"], kind="stable")
    names = {"symbol": "instrument", "timestamp": "datetime", **{name: f"${name}" for name in FEATURES}}
    frame = frame.rename(columns=names).assign(**{"$vwap": 1.0})
    symbols = ("SH600000", "SZ000001")
    return Variant("q.csv", csv(frame), long, "Qlib", "1d", "XNYS", guess="America/New_York", symbols=symbols)


def _arrow_table() -> Any:
    return pa.Table.from_pandas(hourly().drop(columns="symbol"), preserve_index=False)


@variant
def parquet() -> Variant:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(_arrow_table(), buffer)
    return Variant("x.bin", buffer.getvalue(), hourly(), "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def feather() -> Variant:
    import pyarrow.feather as pf

    buffer = io.BytesIO()
    pf.write_feather(_arrow_table(), buffer)
    return Variant("x.bin", buffer.getvalue(), hourly(), "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def arrow_stream() -> Variant:
    buffer = io.BytesIO()
    table = _arrow_table()
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return Variant("x.bin", buffer.getvalue(), hourly(), "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def gzipped() -> Variant:
    inner = published()
    return Variant("p.csv.gz", gzip.compress(inner.data, mtime=0), inner.bars, "Kronos", "1h", "FX", guess="UTC")


@variant
def zipped() -> Variant:
    inner, buffer = published(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/bars.csv", inner.data)
        archive.writestr("__MACOSX/._bars.csv", b"x")
    return Variant("p.zip", buffer.getvalue(), inner.bars, "Kronos", "1h", "FX", guess="UTC")


@variant
def decimal_commas() -> Variant:
    bars = hourly()
    frame = ohlcv(
        bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%d.%m.%Y %H:%M")
    )
    return Variant("g.csv", csv(frame, sep=";", decimal=","), bars, "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def thousands() -> Variant:
    bars = daily().assign(volume=lambda table: table["volume"].round())
    frame = ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%Y-%m-%d"))
    for name in ("Open", "High", "Low", "Close"):
        frame[name] = [f"{value:,.6f}" for value in frame[name]]
    frame["Volume"] = [f"{int(value):,}" for value in frame["Volume"]]
    return Variant("t.csv", csv(frame), bars, "generic OHLCV", "1d", "XNYS", guess="America/New_York")


@variant
def investing() -> Variant:
    bars = daily().assign(volume=lambda table: (table["volume"] / 1e7).round() * 1e7)
    frame = pd.DataFrame({"Date": bars["timestamp"].dt.strftime("%b %d, %Y")})
    for name, source in (("Price", "close"), ("Open", "open"), ("High", "high"), ("Low", "low")):
        frame[name] = [f"{value:,.6f}" for value in bars[source]]
    frame["Vol."] = [f"{value / 1e9:.2f}B" for value in bars["volume"]]
    frame["Change %"] = "0.10%"
    data = csv(frame.iloc[::-1], quoting=1)
    return Variant("i.csv", data, bars, "Investing.com", "1d", "XNYS", guess="America/New_York")


@variant
def nasdaq() -> Variant:
    bars = daily().assign(volume=lambda table: table["volume"].round())
    frame = pd.DataFrame({"Date": bars["timestamp"].dt.strftime("%m/%d/%Y")})
    frame["Close/Last"] = [f"${value:.6f}" for value in bars["close"]]
    frame["Volume"] = bars["volume"].astype("int64")
    for name in ("Open", "High", "Low"):
        frame[name] = [f"${value:.6f}" for value in bars[name.lower()]]
    return Variant("n.csv", csv(frame.iloc[::-1]), bars, "Nasdaq", "1d", "XNYS", guess="America/New_York")


@variant
def stooq() -> Variant:
    bars = hourly()
    frame = pd.DataFrame({"<TICKER>": "EURUSD", "<PER>": 60, "<DATE>": bars["timestamp"].dt.strftime("%Y%m%d")})
    frame["<TIME>"] = bars["timestamp"].dt.strftime("%H%M%S")
    for name in ("open", "high", "low", "close"):
        frame[f"<{name.upper()}>"] = bars[name]
    frame["<VOL>"], frame["<OPENINT>"] = bars["volume"], 0
    return Variant("s.txt", csv(frame), bars, "Stooq", "1h", "FX", guess="UTC", symbols=("EURUSD",))


@variant
def histdata() -> Variant:
    bars = hourly()
    frame = ohlcv(bars, list("tohlcv"), bars["timestamp"].dt.strftime("%Y%m%d %H%M%S"))
    return Variant("h.csv", csv(frame, header=False, sep=";"), bars, "no header", "1h", "FX", guess="UTC")


@variant
def cryptodatadownload() -> Variant:
    bars = crypto()
    frame = pd.DataFrame({"unix": millis(bars), "date": bars["timestamp"].astype(str), "symbol": "BTC/USDT"})
    for name in ("open", "high", "low", "close"):
        frame[name] = bars[name]
    frame["Volume BTC"], frame["Volume USDT"], frame["tradecount"] = bars["volume"], bars["amount"], 7
    data = b"https://www.CryptoDataDownload.com\n" + csv(frame.iloc[::-1])
    return Variant("c.csv", data, bars, "CryptoDataDownload", "1h", "24/7", "UTC", None, ("BTC/USDT",))


@variant
def tushare() -> Variant:
    bars = daily()
    frame = pd.DataFrame({"ts_code": "600519.SH", "trade_date": bars["timestamp"].dt.strftime("%Y%m%d")})
    for name in ("open", "high", "low", "close"):
        frame[name] = bars[name]
    frame["pre_close"], frame["vol"], frame["amount"] = 1.0, bars["volume"], bars["amount"]
    return Variant(
        "t.csv", csv(frame.iloc[::-1]), bars, "tushare", "1d", "XNYS", None, "America/New_York", ("600519.SH",)
    )


@variant
def alpha_vantage() -> Variant:
    bars = daily()
    names = ["timestamp", "1. open", "2. high", "3. low", "4. close", "5. volume"]
    frame = ohlcv(bars, names, bars["timestamp"].dt.strftime("%Y-%m-%d")).iloc[::-1]
    return Variant("a.csv", csv(frame), bars, "Alpha Vantage", "1d", "XNYS", guess="America/New_York")


@variant
def utf16() -> Variant:
    inner = published()
    return Variant("u.csv", inner.data.decode().encode("utf-16"), inner.bars, "Kronos", "1h", "FX", guess="UTC")


@variant
def bom_and_windows_lines() -> Variant:
    inner = published()
    data = b"\xef\xbb\xbf" + inner.data.replace(b"\n", b"\r\n")
    return Variant("w.csv", data, inner.bars, "Kronos", "1h", "FX", guess="UTC")


@variant
def pandas_index() -> Variant:
    bars = hourly()
    frame = bars.set_index("timestamp")[list(FEATURES)]
    frame.index.name = None
    return Variant("p.csv", frame.to_csv().encode(), bars, "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def spreadsheet_serials() -> Variant:
    bars = daily()
    days = (bars["timestamp"] - pd.Timestamp("1899-12-30")).dt.days
    data = csv(ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], days))
    return Variant("e.csv", data, bars, "generic OHLCV", "1d", "XNYS", guess="America/New_York")


@variant
def white_space() -> Variant:
    bars = hourly()
    frame = ohlcv(bars, ["date", "open", "high", "low", "close", "volume"], bars["timestamp"].dt.strftime("%Y-%m-%d"))
    frame.insert(1, "time", bars["timestamp"].dt.strftime("%H:%M:%S"))
    data = csv(frame, sep=" ").replace(b" ", b"   ")
    return Variant("w.txt", data, bars, "generic OHLCV", "1h", "FX", guess="UTC")


@variant
def columns_given() -> Variant:
    bars = hourly()
    frame = ohlcv(bars, ["Zeit", "Eröffnung", "Hoch", "Tief", "Schluss", "Menge"], bars["timestamp"])
    roles = ("timestamp", "open", "high", "low", "close", "volume")
    options = {"columns": dict(zip(roles, frame.columns, strict=True))}
    return Variant("z.csv", csv(frame), bars, "generic OHLCV", "1h", "FX", guess="UTC", options=options)


def workbook(*sheets: tuple[str, list[list[Any]]], mac: bool = False) -> bytes:
    """An Excel workbook of sheets, as rows of cells; ``mac``: its dates count from 1904."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    if mac:
        book.epoch = CALENDAR_MAC_1904
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    held = io.BytesIO()
    book.save(held)
    return held.getvalue()


def cells(bars: pd.DataFrame, names: list[str]) -> list[list[Any]]:
    """Header and rows of a sheet."""
    frame = ohlcv(bars, names, bars["timestamp"])
    stamps = [stamp.to_pydatetime() for stamp in bars["timestamp"]]
    return [names, *([stamp, *row] for stamp, row in zip(stamps, frame.iloc[:, 1:].to_numpy().tolist()))]


@variant
def excel() -> Variant:
    bars = daily()
    table = cells(bars, ["Date", "Open", "High", "Low", "Close", "Volume"])
    return Variant(
        "e.xlsx", workbook(("S&P 500", table)), bars, "generic OHLCV", "1d", "XNYS", guess="America/New_York"
    )


@variant
def json_rows() -> Variant:
    bars = crypto()
    data = json.dumps(ohlcv(bars, list("tohlcv"), millis(bars)).to_numpy().tolist()).encode()
    return Variant("r.json", data, bars, "JSON", "1h", "24/7", timezone="UTC")


@variant
def json_objects() -> Variant:
    bars = crypto()
    rows = ohlcv(bars, list("tohlcv"), millis(bars)).to_dict("records")
    data = json.dumps({"ticker": "X:BTCUSD", "status": "OK", "results": rows}).encode()
    return Variant("o.json", data, bars, "JSON", "1h", "24/7", timezone="UTC", symbols=("X:BTCUSD",))


@variant
def json_arrays() -> Variant:
    bars = crypto()
    columns = ohlcv(bars, list("tohlcv"), millis(bars) // 1000).to_dict("list")
    return Variant("c.json", json.dumps({"s": "ok", **columns}).encode(), bars, "JSON", "1h", "24/7", timezone="UTC")


@variant
def json_lines() -> Variant:
    bars = crypto()
    frame = ohlcv(bars, ["time", "open", "high", "low", "close", "volume"], millis(bars))
    data = frame.to_json(orient="records", lines=True, double_precision=15).encode()
    return Variant("l.jsonl", data, bars, "JSON", "1h", "24/7", timezone="UTC")

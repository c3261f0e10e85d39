"""Workbooks, JSON and Python objects hold the same bars as a table: whatever wraps them, and never more than fits."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from layout_files import cells, daily, millis, workbook

from kronos.bars import FEATURES, read_bars
from kronos.errors import CapacityError, DataError

ROWS = 60


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    """Hours without a pause."""
    frame = daily().head(ROWS).drop(columns="symbol", errors="ignore").copy()
    frame["timestamp"] = pd.date_range("2024-03-04", periods=ROWS, freq="h").as_unit("ns")
    return frame


def same(found: pd.DataFrame, bars: pd.DataFrame, *, volume: bool = True) -> None:
    """The same times (as wall time in UTC) and values."""
    times = pd.DatetimeIndex(found["timestamp"])
    times = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    assert times.tolist() == bars["timestamp"].tolist()
    for name in FEATURES[: 5 if volume else 4]:
        np.testing.assert_allclose(found[name], bars[name], rtol=1e-12)


def rows_of(bars: pd.DataFrame) -> list[list[Any]]:
    """Rows as ccxt gives them."""
    values = bars[list(FEATURES[:5])].to_numpy().tolist()
    return [[stamp, *row] for stamp, row in zip(millis(bars).tolist(), values)]


def records_of(bars: pd.DataFrame, names: str = "tohlcv") -> list[dict[str, Any]]:
    """Rows as objects."""
    return [dict(zip(names, row)) for row in rows_of(bars)]


def save(folder: Path, value: Any, name: str = "a.json") -> Path:
    """A JSON document as a file."""
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# -- JSON -------------------------------------------------------------------------------------------------------------


def rows_in_wrappers(bars: pd.DataFrame) -> dict[str, Any]:
    """Lists of rows as exchanges and brokers give them."""
    rows = rows_of(bars)
    text = [[str(cell) for cell in row] for row in rows]
    dated = [[str(stamp), *row[1:]] for stamp, row in zip(bars["timestamp"], rows)]
    closes = [row[0] + 3599999 for row in rows]
    fields = ["trade_time", "open", "high", "low", "close", "vol"]
    return {
        "ccxt, freqtrade": rows,
        "okx": {"code": "0", "data": text[::-1]},
        "bybit": {"retCode": 0, "result": {"symbol": "BTCUSDT", "list": [[*row, "1"] for row in text[::-1]]}},
        "binance": [[*row[:1], *cells[1:], end, "5", 7, "1", "1", "0"] for row, cells, end in zip(rows, text, closes)],
        "kraken": {"error": [], "result": {"XBT": [[*row[:5], (row[2] + row[3]) / 2, row[5], 3] for row in rows]}},
        "zerodha": {"status": "success", "data": {"candles": [[row[0] + "+0000", *row[1:]] for row in dated]}},
        "tushare": {"data": {"fields": fields, "items": dated[::-1]}},
        "lines of text": {"data": {"klines": [",".join(map(str, row)) for row in dated]}},
        "header on top": [["Date", "Open", "High", "Low", "Close", "Volume"], *dated],
    }


def objects_in_wrappers(bars: pd.DataFrame) -> dict[str, Any]:
    """Objects and arrays by name, as brokers and libraries give them."""
    records, stamps = records_of(bars), bars["timestamp"].astype(str).tolist()
    quote = {name: bars[name].tolist() for name in FEATURES[:5]}
    words = [dict(zip(quote, row[1:])) for row in rows_of(bars)]
    meta = {"symbol": "SPY", "exchangeTimezoneName": "America/New_York", "validRanges": ["1d", "5d"]}
    indicators = {"quote": [quote], "adjclose": [{"adjclose": [1] * ROWS}]}
    seconds = [row["t"] // 1000 for row in records]
    chart = {"meta": meta, "timestamp": seconds, "indicators": indicators}
    series = {
        stamp: {f"{k}. {name}": str(value) for k, (name, value) in enumerate(row.items(), start=1)}
        for stamp, row in zip(stamps, words)
    }
    newest = dict(list(series.items())[::-1])
    mids = [{key: str(row[key]) for key in "ohlc"} for row in records]
    return {
        "polygon": {"ticker": "SPY", "results": [{**row, "vw": 1.0, "n": 3} for row in records], "status": "OK"},
        "finnhub": {"s": "ok", **{key: [row[key] for row in records] for key in "tohlcv"}},
        "alpaca": {"bars": {"SPY": records}, "next_page_token": None},
        "hyperliquid": [{**row, "T": row["t"] + 3599999, "s": "SPY"} for row in records],
        "alpha vantage": {"Meta Data": {"1. Information": "x"}, "Time Series (60min)": newest},
        "yahoo": {"chart": {"result": [chart], "error": None}},
        "twelve": {"meta": {"symbol": "SPY"}, "values": [{"datetime": s, **r} for s, r in zip(stamps, words)][::-1]},
        "oanda": {
            "candles": [{"time": s + "Z", "volume": row["v"], "mid": mid} for s, row, mid in zip(stamps, records, mids)]
        },
        "cryptocompare": {"Data": {"Aggregated": False, "Data": [{"time": s, **r} for s, r in zip(seconds, words)]}},
    }


def wrapped(bars: pd.DataFrame) -> dict[str, Any]:
    """Documents by who gives them."""
    return {**rows_in_wrappers(bars), **objects_in_wrappers(bars)}


NAMES = (
    "ccxt, freqtrade", "okx", "bybit", "binance", "kraken", "polygon", "finnhub", "alpaca", "hyperliquid", "yahoo",
    "alpha vantage", "twelve", "oanda", "zerodha", "tushare", "cryptocompare", "lines of text", "header on top",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_json_as_it_comes(name: str, bars: pd.DataFrame, tmp_path: Path) -> None:
    same(read_bars(save(tmp_path, wrapped(bars)[name])), bars)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_python_objects(name: str, bars: pd.DataFrame) -> None:
    same(read_bars(wrapped(bars)[name]), bars)


@pytest.mark.parametrize("orient", ["records", "columns", "split", "index", "table", "values"])
@pytest.mark.parametrize("indexed", [False, True])
def test_json_of_pandas(orient: Any, indexed: bool, bars: pd.DataFrame, tmp_path: Path) -> None:
    frame = bars.drop(columns="amount")
    if indexed and orient in ("records", "values"):
        pytest.skip("pandas leaves the index out")
    frame = frame.set_index("timestamp") if indexed else frame
    text = frame.to_json(orient=orient, date_format="iso", double_precision=15)
    same(read_bars(save(tmp_path, text)), bars)


def test_json_lines(bars: pd.DataFrame, tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row) for row in records_of(bars))
    found = read_bars(save(tmp_path, text + "\n", "a.jsonl"))
    same(found, bars)
    assert "JSON lines" in found.attrs["report"].notes
    with pytest.raises(DataError, match=f"line {ROWS + 1}, column"):
        read_bars(save(tmp_path, text + "\n{'t': 1}\n"))


def test_symbols_and_zones_beside_a_table(bars: pd.DataFrame, tmp_path: Path) -> None:
    documents = wrapped(bars)
    for name in ("polygon", "yahoo", "twelve"):
        assert read_bars(save(tmp_path, documents[name])).attrs["report"].symbol == "SPY"
    assert read_bars(save(tmp_path, documents["yahoo"])).attrs["report"].timezone == "America/New_York"
    records = records_of(bars)
    both = read_bars({"bars": {"AAA": records, "BBB": records}})
    assert both.attrs["report"].symbols == ("AAA", "BBB")
    same(read_bars({"bars": {"AAA": records, "BBB": records}}, symbol="BBB").drop(columns="symbol"), bars)
    with pytest.raises(DataError, match=r"2 tables \(bids\.candles, asks\.candles"):
        read_bars({"bids": {"candles": records}, "asks": {"candles": records}})


def test_names_that_nobody_knows_are_listed(bars: pd.DataFrame) -> None:
    odd = [dict(zip(("zeitpunkt", "a", "b", "c", "d"), row)) for row in rows_of(bars)]
    with pytest.raises(DataError, match="no column for open, high, low among"):
        read_bars(odd)
    named = {"timestamp": "zeitpunkt", "open": "a", "high": "b", "low": "c", "close": "d"}
    same(read_bars(odd, columns=named), bars, volume=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no table of bars"),
        ("[]", "no table of bars"),
        ("[[1, 2], [3, 4]]", "no table of bars"),
        ("[null, null]", "no table of bars"),
        ('{"error": "rate limit"}', "no table of bars in an object with 'error'"),
        ("[1, 2", "damaged or cut"),
        ("[" + "9" * 5000 + "]", "damaged"),
        ("[" * 200_000, "nested deeper"),
        ('{"a":' * 200_000, "nested deeper"),
        ('{"a":' * 60 + "[]" + "}" * 60, "no table of bars"),
        ('[{"time": "x", "open": {"a": 1}, "high": [1], "low": 2, "close": 3}]', "cannot be read"),
        ('{"time": [1, 2], "open": [1, 2, 3], "high": [1], "low": [1], "close": [1]}', "differ in length"),
    ],
)
def test_json_without_bars(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_bars(save(tmp_path, text))
    assert len(str(caught.value).splitlines()) <= 2


def test_json_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kronos.bars.reading.objects._MOST_MEMORY", 10_000_000)
    with pytest.raises(CapacityError, match="GiB of memory"):
        read_bars(save(tmp_path, "[" + "{}," * 100_000 + "{}]"))


def test_rows_that_are_none(bars: pd.DataFrame, tmp_path: Path) -> None:
    rows: list[Any] = rows_of(bars)
    rows[4], rows[9] = None, rows[9][:3]
    with pytest.raises(DataError, match="row 5: the row has another number of columns"):
        read_bars(save(tmp_path, rows))
    found = read_bars(rows, on_defect="drop")
    same(found, bars.drop(index=[4, 9]))
    assert found.attrs["report"].dropped == 2


# -- Python objects ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Candle:
    """A bar of somebody's own."""

    time: dt.datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


def test_python_objects(bars: pd.DataFrame) -> None:
    rows, frame = rows_of(bars), bars.drop(columns="amount")
    same(read_bars([tuple(row) for row in rows]), bars)
    same(read_bars(np.array(rows)), bars)
    same(read_bars(frame.to_records(index=False)), bars)
    same(read_bars({name: frame[name].to_numpy() for name in frame}), bars)
    same(read_bars({name: frame[name] for name in frame}), bars)
    same(read_bars({name: frame.set_index("timestamp")[name] for name in FEATURES[:5]}), bars)
    same(read_bars([Candle(*row) for row in frame.itertuples(index=False)]), bars)
    same(read_bars([dataclasses.make_dataclass("Bar", list(frame), slots=True)(*row) for row in rows_of(bars)]), bars)
    same(read_bars(list(frame.itertuples(index=False))), bars)
    found = read_bars({"AAA": frame, "BBB": frame})
    assert found.attrs["report"].symbols == ("AAA", "BBB")


def test_lists_of_another_length(bars: pd.DataFrame) -> None:
    """No column that bars have is left out because it is shorter; what else lies beside them may be."""
    columns = {name: bars[name].tolist() for name in ("timestamp", *FEATURES)}
    for name in columns:
        with pytest.raises(DataError, match=f"differ in length: {ROWS} values each, but {ROWS - 1} in '{name}'"):
            read_bars(columns | {name: columns[name][1:]})
    same(read_bars(columns | {"splits": []}), bars)


def test_tables_by_symbol(bars: pd.DataFrame) -> None:
    table, other = pa.Table.from_pandas(bars.assign(vwap=1.0)), bars.assign(spread=1.0)
    for both in ({"AAA": table, "BBB": table}, {"AAA": table, "BBB": other}):
        found = read_bars(both)
        same(found[found["symbol"] == "BBB"], bars)
    assert found.attrs["report"].left_out == ("vwap", "spread")
    thousands = bars.rename(columns={"volume": "Volume (K)"})
    same(read_bars({"AAA": thousands.assign(**{"Volume (K)": bars["volume"] / 1000})}), bars)
    for mixed in ({"AAA": bars, "BBB": thousands}, {"AAA": thousands, "BBB": bars}):
        with pytest.raises(DataError, match="the volume of each symbol is in its own unit"):
            read_bars(mixed)


@pytest.mark.parametrize("broken", ["AAA", "BBB"])
def test_no_symbol_loses_a_row_in_silence(broken: str, bars: pd.DataFrame) -> None:
    both = {"AAA": rows_of(bars), "BBB": rows_of(bars)}
    both[broken][4] = both[broken][4][:3]
    with pytest.raises(DataError, match="row 5: the row has another number of columns"):
        read_bars(both)
    report = read_bars(both, on_defect="drop").attrs["report"]
    assert (report.rows, report.dropped) == (2 * ROWS - 1, 1)


def test_periods(bars: pd.DataFrame) -> None:
    frame = bars.drop(columns=["timestamp", "amount"])
    periods = pd.PeriodIndex(bars["timestamp"], freq="h")
    same(read_bars(frame.set_index(periods)), bars)
    same(read_bars(frame.assign(date=periods)), bars)
    same(read_bars(frame.set_index(periods.rename("when"))), bars)


@pytest.mark.parametrize("names", [["symbol", "timestamp"], [None, None], ["id", "when"], ["Ticker", "Datetime"]])
def test_an_index_of_symbol_and_time(names: list[str | None], bars: pd.DataFrame) -> None:
    frame = bars.drop(columns="amount").set_index("timestamp")
    both = pd.concat({"AAA": frame, "BBB": frame})
    both.index.names = names
    found = read_bars(both)
    assert found.attrs["report"].symbols == ("AAA", "BBB")
    same(found[found["symbol"] == "BBB"], bars)
    assert read_bars(both.swaplevel()).attrs["report"].symbols == ("AAA", "BBB")


def test_nixtla_names(bars: pd.DataFrame) -> None:
    frame = bars.rename(columns={"timestamp": "ds"}).assign(unique_id="AAA")
    assert read_bars(frame).attrs["report"].symbol == "AAA"


def test_numbers_as_text_in_a_table(bars: pd.DataFrame) -> None:
    text = bars.assign(**{name: bars[name].map("{:,.6f}".format) for name in ("open", "close")})
    found = read_bars(text.to_dict("list"))
    np.testing.assert_allclose(found["close"], bars["close"], atol=1e-6)


# -- workbooks --------------------------------------------------------------------------------------------------------


TITLES = ["Date", "Open", "High", "Low", "Close", "Volume"]


def book(folder: Path, data: bytes) -> Path:
    """A workbook as a file, whose name says nothing."""
    path = folder / "a.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("mac", [False, True])
def test_the_first_sheet_with_bars(mac: bool, bars: pd.DataFrame, tmp_path: Path) -> None:
    table = [["Report of my broker"], [], *cells(bars, TITLES), ["Source: my broker"]]
    path = book(tmp_path, workbook(("Cover", [["about"]]), ("SPY", table), ("Notes", [["x"]]), mac=mac))
    found = read_bars(path)
    same(found, bars)
    notes = found.attrs["report"].notes
    assert "sheet 'SPY', after 1 without bars" in notes
    assert "1 line above the table left out: 'Report of my broker'" in notes
    assert "1 line below the table left out: 'Source: my broker'" in notes


@pytest.mark.parametrize(
    ("titles", "prices", "option"),
    [
        (["Date", "Open", "High", "Low", "Close", "Last", "Close", "Volume"], [10.5, 12, 9, 11, 11, 11, 5], "close"),
        (
            ["Day", "Open", "High", "Low", "Close", "volume", "Volume"],
            ["1,234", "1,299", "1,200", "1,250", 5, 6],
            "vol",
        ),
        (["Date", "Open", "High", "Low", "Close", "Volume"], ["1,234", "1,299", "1,200", "1,250", 5], "decimal"),
    ],
)
def test_a_sheet_that_can_be_read_in_two_ways_is_not_passed_over(
    titles: list[str], prices: list[float | str], option: str, bars: pd.DataFrame, tmp_path: Path
) -> None:
    rows = [[f"2024-03-{day:02d}", *prices] for day in range(1, 20)]
    path = book(tmp_path, workbook(("SPY", [titles, *rows]), ("Old", cells(bars, TITLES))))
    with pytest.raises(DataError, match=option) as refused:
        read_bars(path)
    assert "sheet 'SPY'" in str(refused.value)


def test_a_sheet_without_bars_may_name_a_column_twice(bars: pd.DataFrame, tmp_path: Path) -> None:
    cover = [["Symbol", "Close", "Close", "Change", "Weight"], *[["SPY", 1, 2, 3, 4]] * 9]
    same(read_bars(book(tmp_path, workbook(("Cover", cover), ("SPY", cells(bars, TITLES))))), bars)


@pytest.mark.parametrize(("mac", "first"), [(False, "2018-05-18 09:00"), (True, "2022-05-19 09:00")])
def test_serial_dates_in_both_systems(mac: bool, first: str, tmp_path: Path) -> None:
    rows = [[round(43238.375 + k / 144, 10), 10 + k, 12 + k, 9 + k, 11 + k, 5] for k in range(6)]
    found = read_bars(book(tmp_path, workbook(("x", [TITLES, *rows]), mac=mac)))
    assert found["timestamp"].tolist() == list(pd.date_range(first, periods=6, freq="10min"))


def test_a_date_beside_a_clock(tmp_path: Path) -> None:
    rows = [[None, dt.date(2024, 5, 6), dt.time(9, 30 + k), 10, 12, 9, 11] for k in range(6)]
    found = read_bars(book(tmp_path, workbook(("x", [[None], [None, "Date", "Time", *TITLES[1:5]], *rows]))))
    assert found["timestamp"].tolist() == list(pd.date_range("2024-05-06 09:30", periods=6, freq="min"))


def test_an_error_names_the_row_of_the_sheet(bars: pd.DataFrame, tmp_path: Path) -> None:
    table = [["Title"], [], *cells(bars, TITLES)]
    table[6][3] = "#DIV/0!"
    with pytest.raises(DataError, match="row 7, column low: text where a number is expected"):
        read_bars(book(tmp_path, workbook(("x", table))))


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    """The workbook with other XML in its sheet."""
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            part = source.read(name)
            target.writestr(name, part.replace(old, new) if "sheet1" in name else part)
    return held.getvalue()


def test_hostile_workbooks(bars: pd.DataFrame, tmp_path: Path) -> None:
    good = workbook(("x", cells(bars.head(9), TITLES)))
    blown = changed(good, b"<sheetData>", b"<sheetData>" + b" " * (80 * 2**20))
    with pytest.raises(CapacityError, match="unpack to"):
        read_bars(book(tmp_path, blown))
    far = b'<row r="99999999999"><c r="A99999999999"><v>1</v></c></row></sheetData>'
    with pytest.raises(CapacityError, match="more than"):
        read_bars(book(tmp_path, changed(good, b"</sheetData>", far)))
    for data in (good[:2000], changed(good, b"</row>", b"</r>"), workbook(("x", [])), workbook(("x", [["a", "b"]]))):
        with pytest.raises(DataError):
            read_bars(book(tmp_path, data))
    parts = [f'<!ENTITY {chr(98 + k)} "{f"&{chr(97 + k)};" * 10}">' for k in range(9)]
    laughs = f'<!DOCTYPE a [<!ENTITY a "ha">{"".join(parts)}]><worksheet'.encode()
    bomb = changed(changed(good, b"<worksheet", laughs), b"</sheetData>", b"<row><c><v>&j;</v></c></row></sheetData>")
    with pytest.raises(DataError, match="damaged"):
        read_bars(book(tmp_path, bomb))

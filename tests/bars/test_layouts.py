"""Every layout that users have is read to the same bars, and the report says what was recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout_files import BUILDERS, Variant, crypto, csv, daily, following, hourly, millis, ohlcv

from kronos.bars import future_times, inspect_bars, read_bars, sample_bars
from kronos.errors import ConfigError, DataError

SAMPLES = Path(__file__).parents[2] / ".." / "shared" / "data" / "samples"


def write(folder: Path, variant: Variant) -> Path:
    path = folder / variant.name
    path.write_bytes(variant.data)
    return path


def same_bars(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert len(found) == len(wanted)
    stamps = pd.DatetimeIndex(found["timestamp"])
    naive = stamps.tz_convert("UTC").tz_localize(None) if stamps.tz is not None else stamps
    np.testing.assert_array_equal(naive.as_unit("ns").asi8, pd.DatetimeIndex(wanted["timestamp"]).as_unit("ns").asi8)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_layout(name: str, tmp_path: Path) -> None:
    made = BUILDERS[name]()
    path = write(tmp_path, made)
    bars = read_bars(path, **made.options)
    same_bars(bars, made.bars)
    report = inspect_bars(path, **made.options)
    assert report.layout == made.layout
    assert report.frequency == made.frequency
    assert report.timezone == made.timezone
    assert report.timezone_guess == made.guess
    assert report.calendar == made.calendar
    assert report.rows == len(made.bars)
    assert report.symbols == made.symbols
    assert report.defects == ()


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_future_lies_in_the_market(name: str, tmp_path: Path) -> None:
    made = BUILDERS[name]()
    bars = read_bars(write(tmp_path, made), **made.options)
    if "symbol" in bars.columns and bars["symbol"].nunique() > 1:
        bars = bars[bars["symbol"] == bars["symbol"].iloc[0]]
    future = future_times(bars, 80)
    assert future.calendar == made.calendar
    assert future.timestamps[0] > bars["timestamp"].iloc[-1]
    wanted = following(made, 80)
    assert len(wanted) == 80
    stamps = future.timestamps.tz_convert("UTC").tz_localize(None) if future.timestamps.tz else future.timestamps
    np.testing.assert_array_equal(stamps.as_unit("ns"), wanted)
    assert not future.estimated.any()


def test_true_next_times_are_what_they_should_be() -> None:
    """The yardstick of the test above: lunch, night, holiday, Sunday evening, Saturday."""

    def near(name: str, *stamps: str) -> bool:
        """True when these follow each other."""
        times = following(BUILDERS[name](), 80).strftime("%Y-%m-%d %H:%M").tolist()
        place = times.index(stamps[0])
        return times[place : place + len(stamps)] == list(stamps)

    assert following(BUILDERS["akshare_minutes"](), 1)[0] == pd.Timestamp("2024-06-07 13:05")
    assert near("akshare_minutes", "2024-06-07 15:00", "2024-06-11 09:35", "2024-06-11 09:40")
    assert near("akshare_minutes", "2024-06-11 11:30", "2024-06-11 13:05")
    assert near("yfinance_half_hours", "2024-06-18 15:30", "2024-06-20 09:30")
    assert near("metatrader4", "2017-02-05 22:00", "2017-02-05 23:00", "2017-02-06 00:00")
    assert near("binance_milliseconds", "2024-01-27 23:00", "2024-01-28 00:00")
    assert near("yfinance_adjusted", "2019-01-18 00:00", "2019-01-22 00:00")


def test_polars() -> None:
    polars = pytest.importorskip("polars", reason="polars is optional")
    frame = polars.from_dict({name: hourly()[name].tolist() for name in ("timestamp", "open", "high", "low", "close")})
    assert len(read_bars(frame)) == len(hourly())
    assert len(read_bars(frame.lazy())) == len(hourly())


def test_table_with_datetime_index() -> None:
    bars = daily().set_index("timestamp")[["open", "high", "low", "close", "volume"]]
    same_bars(read_bars(bars), daily())
    bars.index.name = None
    same_bars(read_bars(bars), daily())


def test_two_level_columns_of_yfinance() -> None:
    one = daily().set_index("timestamp")[["open", "high", "low", "close", "volume"]]
    one.columns = pd.MultiIndex.from_product([["Open", "High", "Low", "Close", "Volume"], ["AAPL"]])
    bars = read_bars(one)
    same_bars(bars, daily())
    assert bars["symbol"].unique().tolist() == ["AAPL"]


def test_a_symbol_of_a_long_table(tmp_path: Path) -> None:
    made = BUILDERS["qlib"]()
    bars = read_bars(write(tmp_path, made), symbol="SZ000001")
    same_bars(bars, sample_bars("nasdaq").tail(len(bars)))
    with pytest.raises(DataError, match=r"no symbol 'XX'.*SH600000"):
        read_bars(write(tmp_path, made), symbol="XX")


def test_symbol_names_a_table_without_one() -> None:
    bars = read_bars(hourly().drop(columns="symbol"), symbol="EUR")
    assert bars["symbol"].unique().tolist() == ["EUR"]
    assert list(bars.columns[:2]) == ["timestamp", "symbol"]


def test_first_row_does_not_decide_the_day_order(tmp_path: Path) -> None:
    """01.02.2017 reads both ways; a later 31.01. settles it for all."""
    bars = hourly().iloc[-200:]
    path = tmp_path / "a.csv"
    path.write_bytes(
        csv(
            ohlcv(
                bars,
                ["Time", "Open", "High", "Low", "Close", "Volume"],
                bars["timestamp"].dt.strftime("%d.%m.%Y %H:%M"),
            )
        )
    )
    same_bars(read_bars(path), bars)


def test_day_and_month_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    bars = daily().head(12).assign(timestamp=pd.date_range("2024-01-01", periods=12))
    frame = ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%m/%d/%Y"))
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame))
    with pytest.raises(DataError, match="dayfirst"):
        read_bars(path)
    assert read_bars(path, dayfirst=False)["timestamp"].iloc[1] == pd.Timestamp("2024-01-02")
    assert read_bars(path, dayfirst=True)["timestamp"].iloc[1] == pd.Timestamp("2024-02-01")


def test_thousands_or_decimals_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    bars = daily()
    frame = ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%Y-%m-%d"))
    for name in ("Open", "High", "Low", "Close"):
        frame[name] = [f"{value:,.0f}" for value in frame[name]]
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame.drop(columns="Volume"), sep=";"))
    with pytest.raises(DataError, match="decimal="):
        read_bars(path)
    assert read_bars(path, decimal=".")["close"].iloc[0] > 1000
    assert read_bars(path, decimal=",")["close"].iloc[0] < 10


def test_changing_offsets_need_the_zone(tmp_path: Path) -> None:
    bars = hourly().assign(timestamp=pd.date_range("2024-03-01", periods=len(hourly()), freq="h"))
    zone = pd.DatetimeIndex(bars["timestamp"]).tz_localize("UTC").tz_convert("America/New_York")
    frame = ohlcv(bars, ["time", "open", "high", "low", "close", "Volume"], [moment.isoformat() for moment in zone])
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame))
    with pytest.raises(DataError, match=r"row \d+, column timestamp.*\n.*timezone"):
        read_bars(path)
    same_bars(read_bars(path, timezone="America/New_York"), bars)


def test_daily_midnights_with_changing_offsets_are_dates(tmp_path: Path) -> None:
    bars = daily()
    zone = pd.DatetimeIndex(bars["timestamp"]).tz_localize("America/New_York")
    path = tmp_path / "a.csv"
    path.write_bytes(csv(ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], zone.astype(str))))
    same_bars(read_bars(path), bars)


@pytest.mark.parametrize("zone", ["+99:99", "-24:00", "+08:60"])
def test_an_impossible_zone_is_refused(zone: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    rows = [f"2024-01-0{day} 00:00:00{zone},1,2,0.5,1.5,10" for day in (1, 2, 3)]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *rows]) + "\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_bars(path)


def test_a_zone_on_some_rows_only_is_refused(tmp_path: Path) -> None:
    bars = crypto()
    stamps = bars["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S").to_numpy(dtype=object)
    stamps[7] += "Z"
    path = tmp_path / "a.csv"
    path.write_bytes(csv(ohlcv(bars, ["time", "open", "high", "low", "close", "Volume"], stamps)))
    with pytest.raises(DataError, match="row 9, column timestamp: the time zone differs"):
        read_bars(path, on_defect="drop")


def test_timezone_reads_wall_time(tmp_path: Path) -> None:
    bars = read_bars(hourly(), timezone="Europe/Athens")
    assert str(bars["timestamp"].dt.tz) == "Europe/Athens"
    again = read_bars(bars, timezone="UTC")
    assert str(again["timestamp"].dt.tz) == "UTC"
    assert again["timestamp"].iloc[0] == bars["timestamp"].iloc[0]
    with pytest.raises(ConfigError, match="Mars"):
        read_bars(hourly(), timezone="Mars/Base")


def test_two_columns_that_could_be_close(tmp_path: Path) -> None:
    frame = hourly().drop(columns="symbol")
    frame.insert(5, "Close", frame["close"])
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame))
    with pytest.raises(DataError, match="could both be close"):
        read_bars(path)
    same_bars(read_bars(path, columns={"close": 4}), hourly())


def test_no_header_and_no_telling(tmp_path: Path) -> None:
    bars = hourly()
    frame = ohlcv(bars, list("tohlcv"), bars["timestamp"])
    frame[["o", "h", "l", "c"]] = 1.0
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame, header=False))
    with pytest.raises(DataError, match="by position"):
        read_bars(path)
    roles = {"timestamp": 0, "open": 1, "high": 2, "low": 3, "close": 4}
    assert len(read_bars(path, columns=roles)) == len(bars)


def test_price_columns_in_any_order_without_header(tmp_path: Path) -> None:
    """akshare writes open, close, high, low; without a header the values tell."""
    bars = crypto()
    frame = pd.DataFrame(
        {"t": millis(bars), **{name: bars[name] for name in ("open", "close", "high", "low", "volume")}}
    )
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame, header=False))
    same_bars(read_bars(path), bars)


def test_dividends_are_told_from_the_adjusted_close(tmp_path: Path) -> None:
    bars = daily()
    frame = ohlcv(bars, ["Date", "Open", "High", "Low", "Close", "Volume"], bars["timestamp"].dt.strftime("%Y-%m-%d"))
    frame["Adj Close"] = bars["close"] * ([0.98] * 200 + [0.99] * 200 + [1.0] * 200)
    path = tmp_path / "a.csv"
    path.write_bytes(csv(frame))
    warned = read_bars(path).attrs["report"].warnings
    assert [(warning.kind, warning.rows) for warning in warned] == [("dividend_suspect", (202, 402))]
    other = frame.assign(**{"Adj Close": bars["close"] * 0.5})
    both = pd.concat([frame.assign(Ticker="A"), other.assign(Ticker="B")]).sort_values(["Date", "Ticker"])
    warned = read_bars(both).attrs["report"].warnings  # rows of two symbols in turn are compared with their own
    assert [(warning.kind, warning.rows) for warning in warned] == [("dividend_suspect", (401, 801))]


def test_adjusted_close_and_indicators_are_left_out_by_name(tmp_path: Path) -> None:
    assert read_bars(write(tmp_path, BUILDERS["yfinance_adjusted"]())).attrs["report"].left_out == ("Adj Close",)
    assert read_bars(write(tmp_path, BUILDERS["tradingview"]())).attrs["report"].left_out == ("RSI",)


def test_options_do_not_change_a_table_that_is_passed_in() -> None:
    frame = hourly().copy()
    before = frame.copy()
    read_bars(frame, symbol="EURUSD", timezone="UTC")
    pd.testing.assert_frame_equal(frame, before)


EXPECTED = {
    "akshare_600000_daily_zh.csv": ("akshare", ("600000",), "1d", None, "XSHG", 1499),
    "akshare_600000_daily_zh_gbk.csv": ("akshare", ("600000",), "1d", None, "XSHG", 300),
    "binance_klines_BTCUSDT_1h_no_header.csv": ("Binance klines", (), "1h", "UTC", "24/7", 1500),
    "dukascopy_EURUSD_1h_ask.csv": ("generic OHLCV", (), "1h", None, "FX", 3000),
    "kronos_layout_5m.csv": ("Kronos", (), "5m", None, "XSHG", 2500),
    "messy_defects_injected_1m.csv": ("generic OHLCV", (), "1m", "UTC", "24/7", 1982),
    "metatrader5_USDJPY_H1.csv": ("MetaTrader 5", (), "1h", None, "FX", 3000),
    "tradingview_ETHUSD_240.csv": ("TradingView", (), "4h", "UTC", "24/7", 2500),
    "yfinance_AAPL_1d.csv": ("yfinance", (), "1d", None, "XNYS", 837),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_samples(name: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("shared/data/samples is not here")
    report = inspect_bars(SAMPLES / name)
    found = (report.layout, report.symbols, report.frequency, report.timezone, report.calendar, report.rows)
    assert found == EXPECTED[name]
    if name != "messy_defects_injected_1m.csv":
        assert report.defects == ()

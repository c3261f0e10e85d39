"""``kronos forecast`` on files as users have them: the forecast stands at the market's true next times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from layout_files import BUILDERS, ROWS, Variant, csv, daily, following, ohlcv

from kronos.bars import future_timestamps
from kronos.cli import main

Forecast = Callable[[Path], dict[str, Any]]
HORIZON = 5


@pytest.fixture
def forecast(capsys: pytest.CaptureFixture[str]) -> Forecast:
    def call(path: Path) -> dict[str, Any]:
        words = ["forecast", str(path), "--horizon", str(HORIZON), "--samples", "2", "--json"]
        status = main(words)
        captured = capsys.readouterr()
        assert status == 0, captured.err
        found: dict[str, Any] = json.loads(captured.out)
        return found

    return call


def saved(folder: Path, made: Variant) -> Path:
    path = folder / made.name
    path.write_bytes(made.data)
    return path


def stamps(found: dict[str, Any]) -> pd.DatetimeIndex:
    times = pd.DatetimeIndex(found["timestamps"])
    return times.tz_convert("UTC").tz_localize(None) if times.tz is not None else times


LAYOUTS = (
    "binance_milliseconds",
    "binance_microseconds",
    "akshare_minutes",
    "metatrader4",
    "metatrader5",
    "yfinance_half_hours",
    "yfinance_adjusted",
    "tradingview",
    "dukascopy",
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_forecast_of_a_layout(name: str, forecast: Forecast, tmp_path: Path) -> None:
    made = BUILDERS[name]()
    found = forecast(saved(tmp_path, made))
    assert stamps(found).tolist() == following(made, HORIZON).tolist()
    assert found["last_close"] == pytest.approx(made.bars["close"].iloc[-1], rel=1e-6)


def last_rows_left_out(name: str, rows: int) -> Variant:
    """The layout's file without its last rows."""
    made = BUILDERS[name]()
    data = b"\n".join(made.data.splitlines()[:-rows]) + b"\n"
    return Variant(made.name, data, made.bars.iloc[:-rows], made.layout, made.frequency, made.calendar)


def test_crypto_goes_on_through_the_weekend(forecast: Forecast, tmp_path: Path) -> None:
    """The file ends on a Saturday evening."""
    made = last_rows_left_out("binance_milliseconds", 123)
    assert made.bars["timestamp"].iloc[-1] == pd.Timestamp("2024-01-20 20:00")
    assert [f"{time:%a %H}" for time in stamps(forecast(saved(tmp_path, made)))] == [
        "Sat 21",
        "Sat 22",
        "Sat 23",
        "Sun 00",
        "Sun 01",
    ]


def test_shanghai_has_lunch(forecast: Forecast, tmp_path: Path) -> None:
    made = last_rows_left_out("akshare_minutes", 2)
    assert [f"{time:%H:%M}" for time in stamps(forecast(saved(tmp_path, made)))] == [
        "11:25",
        "11:30",
        "13:05",
        "13:10",
        "13:15",
    ]


def test_days_of_a_shanghai_stock_skip_the_weekend_and_the_spring_festival(forecast: Forecast, tmp_path: Path) -> None:
    days = pd.bdate_range("2023-08-01", "2024-02-07")
    days = days[~((days >= "2023-09-29") & (days <= "2023-10-06")) & (days != "2024-01-01")]
    bars = daily().tail(len(days))
    frame = ohlcv(bars, ["日期", "开盘", "最高", "最低", "收盘", "成交量"], days.strftime("%Y-%m-%d"))
    frame.insert(1, "股票代码", "600519")
    path = tmp_path / "600519.csv"
    path.write_bytes(csv(frame))
    found = [f"{time:%m-%d}" for time in stamps(forecast(path))]
    assert found == ["02-08", "02-19", "02-20", "02-21", "02-22"]


def test_hours_of_a_broker_stop_for_the_weekend(forecast: Forecast, tmp_path: Path) -> None:
    made = last_rows_left_out("metatrader5", 2)
    assert len(made.bars) == ROWS - 2
    assert [f"{time:%a %H}" for time in stamps(forecast(saved(tmp_path, made)))] == [
        "Fri 20",
        "Fri 21",
        "Sun 22",
        "Sun 23",
        "Mon 00",
    ]


def test_times_to_come_of_what_the_reader_takes() -> None:
    days = pd.bdate_range("2023-05-01", periods=25)
    rows = [[int(day.timestamp() * 1000), 4.0, 4.2, 3.9, 4.1, 80.0] for day in days]
    wanted = ["2023-06-05", "2023-06-06"]
    long = pd.DataFrame({"unique_id": ["P"] * 25 + ["Q"] * 25, "ds": days.append(days), "y": 4.1})
    one = long[:25]
    renamed = pd.DataFrame(rows, columns=["Date", "Open", "High", "Low", "Close", "Volume"]).assign(Date=days)
    dicts = [dict(zip(("time", "open", "high", "low", "close", "volume"), row, strict=True)) for row in rows]
    for history in (one, one[["ds"]], rows, rows[::-1], tuple(map(tuple, rows)), dicts, renamed):
        assert [f"{moment:%Y-%m-%d}" for moment in future_timestamps(history, 2)] == wanted
    frame = future_timestamps(long, 2, layout="nixtla")
    assert frame["unique_id"].tolist() == ["P", "P", "Q", "Q"]
    assert [f"{moment:%Y-%m-%d}" for moment in frame["ds"]] == wanted * 2
    assert len(future_timestamps(rows, 2, layout="nixtla")) == 2

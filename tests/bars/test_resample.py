"""Larger bars add up to the smaller ones and never span a pause in trading."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars import future_times, infer_frequency, read_bars, resample_bars, sample_bars, validate_bars
from kronos.errors import ConfigError


def minute_bars(calendar: str, start: str, end: str, size: str, stamp: str) -> pd.DataFrame:
    """Rising bars on an exchange's own trading index."""
    from test_calendar import session_bars

    times = session_bars(calendar, start, end, size, stamp)
    price = 100 + np.arange(len(times)) / 100
    table = {"timestamp": times, "open": price, "high": price + 0.02, "low": price - 0.01, "close": price + 0.01}
    return validate_bars(pd.DataFrame({**table, "volume": 1.0, "amount": 2.0}))


@pytest.mark.parametrize("to", ["4h", "1d", "1w", "1mo"])
def test_adds_up(to: str) -> None:
    bars = sample_bars("eurusd")
    large = resample_bars(bars, to, keep_forming=True)
    assert large["volume"].sum() == pytest.approx(bars["volume"].sum())
    assert large["amount"].sum() == pytest.approx(bars["amount"].sum())
    assert large["high"].max() == bars["high"].max()
    assert large["low"].min() == bars["low"].min()
    assert large["open"].iloc[0] == bars["open"].iloc[0]
    assert large["close"].iloc[-1] == bars["close"].iloc[-1]
    assert validate_bars(large).attrs["report"].defects == ()
    assert large.attrs["report"].frequency == to


@pytest.mark.parametrize("stamp", ["start", "end"])
def test_shanghai_hours_do_not_span_lunch(stamp: str) -> None:
    bars = minute_bars("XSHG", "2024-04-02", "2024-04-30", "5min", stamp)
    large = resample_bars(bars, "1h")
    hours = ["09:30", "10:30", "13:00", "14:00"] if stamp == "start" else ["10:30", "11:30", "14:00", "15:00"]
    assert sorted({f"{moment:%H:%M}" for moment in large["timestamp"]}) == hours
    assert (large["volume"] == 12).all()
    assert future_times(large, 4).calendar == "XSHG"


@pytest.mark.parametrize("stamp", ["start", "end"])
def test_new_york_hours_end_with_half_an_hour(stamp: str) -> None:
    bars = minute_bars("XNYS", "2024-04-02", "2024-04-30", "5min", stamp)
    large = resample_bars(bars, "1h")
    by_hour = large.groupby(large["timestamp"].dt.strftime("%H:%M"))["volume"].mean()
    last = "15:30" if stamp == "start" else "16:00"
    assert by_hour[last] == 6
    assert by_hour.drop(last).eq(12).all()


def test_days_are_sessions() -> None:
    bars = minute_bars("XNYS", "2024-04-02", "2024-04-30", "5min", "start")
    large = resample_bars(bars, "1d")
    assert len(large) == bars["timestamp"].dt.normalize().nunique()
    assert (large["timestamp"] == large["timestamp"].dt.normalize()).all()
    assert (large["volume"] == 78).all()


def test_currency_days_end_in_new_york_at_five() -> None:
    large = resample_bars(sample_bars("eurusd"), "1d")
    assert set(large["timestamp"].dt.day_of_week) == {0, 1, 2, 3, 4}
    bars = sample_bars("eurusd")
    evening = bars["timestamp"].dt.tz_convert("America/New_York") + pd.Timedelta(hours=7)
    second = bars[evening.dt.normalize() == evening.dt.normalize().unique()[1]]
    assert large["close"].iloc[1] == second["close"].iloc[-1]


def test_the_forming_bar_is_left_out_and_said_so() -> None:
    bars = sample_bars("eurusd").iloc[:-14]
    large = resample_bars(bars, "1d")
    assert any("left out" in note for note in large.attrs["report"].notes)
    assert len(resample_bars(bars, "1d", keep_forming=True)) == len(large) + 1
    assert not any("left out" in note for note in resample_bars(sample_bars("eurusd"), "1d").attrs["report"].notes)


def test_weeks_of_days() -> None:
    days = sample_bars("sp500")
    weeks = resample_bars(days, "1w")
    assert str(infer_frequency(pd.DatetimeIndex(weeks["timestamp"]))) == "1w"
    assert weeks["timestamp"].iloc[0] == pd.Timestamp("1999-01-08")
    first = resample_bars(days, "1w", stamp="start")
    assert first["timestamp"].iloc[0] == pd.Timestamp("1999-01-04")
    assert weeks["timestamp"].iloc[-1] == pd.Timestamp("2018-12-28")  # the week of the 31st is not over


def test_symbols_stay_apart() -> None:
    both = pd.concat([sample_bars("sp500"), sample_bars("nasdaq")], ignore_index=True)
    weeks = resample_bars(read_bars(both), "1w")
    assert weeks["symbol"].unique().tolist() == ["NASDAQ", "SP500"]
    pd.testing.assert_series_equal(
        weeks.loc[weeks["symbol"] == "SP500", "close"].reset_index(drop=True),
        resample_bars(sample_bars("sp500"), "1w")["close"],
    )


def test_crypto_days_by_the_clock() -> None:
    times = pd.date_range("2024-01-01", periods=24 * 30, freq="1h")
    price = np.linspace(1, 2, len(times))
    table = pd.DataFrame({"timestamp": times, **dict.fromkeys(("open", "high", "low", "close"), price), "volume": 1.0})
    days = resample_bars(validate_bars(table), "1d")
    assert len(days) == 30
    assert (days["volume"] == 24).all()


@pytest.mark.parametrize("to", ["30m", "1h", "90m"])
def test_sizes_that_do_not_fit(to: str) -> None:
    with pytest.raises(ConfigError):
        resample_bars(sample_bars("eurusd"), to)


def hourly(days: list[str], first: str, count: int, zone: str, shown: str | None) -> pd.DataFrame:
    """A few hourly bars a day of an exchange's own clock, written by another."""
    parts = [pd.date_range(f"{day} {first}", periods=count, freq="h", tz=zone) for day in days]
    times = parts[0].append(parts[1:]).tz_convert(shown or "Asia/Shanghai")
    price = 50 + np.arange(len(times)) / 10
    table = {"timestamp": times if shown else times.tz_localize(None), "open": price, "close": price + 0.05}
    return validate_bars(pd.DataFrame({**table, "high": price + 0.1, "low": price - 0.1, "volume": 10.0}))


def test_days_of_few_bars_in_a_viewers_zone_are_the_sessions_of_the_exchange() -> None:
    bars = hourly(["2023-03-03", "2023-03-06"], "09:30", 4, "America/New_York", "+08:00")
    days = resample_bars(bars, "1d", keep_forming=True)
    assert [f"{moment:%Y-%m-%d}" for moment in days["timestamp"]] == ["2023-03-03", "2023-03-06"]
    assert days["volume"].tolist() == [40.0, 40.0]
    assert any("sessions of XNYS" in note for note in days.attrs["report"].notes)


@pytest.mark.parametrize("shown", [None, "Asia/Shanghai"])
def test_days_that_part_a_run_of_bars_are_told(shown: str | None) -> None:
    bars = hourly(["2023-03-02", "2023-03-03"], "10:17", 4, "America/New_York", shown)  # on no exchange's grid
    notes = resample_bars(bars, "1d", keep_forming=True).attrs["report"].notes
    assert any("without a gap (2 times)" in note and "--calendar XNYS" in note for note in notes)
    inside = hourly(["2023-03-02", "2023-03-03"], "10:17", 4, "Asia/Shanghai", shown)
    report = resample_bars(inside, "1d", keep_forming=True).attrs["report"]
    assert not any("--calendar" in note for note in report.notes)

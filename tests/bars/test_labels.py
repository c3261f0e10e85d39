"""Timestamps of daily, weekly and monthly bars of an exchange: what they name is found, and kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars import future_times, read_bars

JUNE = pd.DatetimeIndex(
    [day for day in pd.bdate_range("2024-06-03", "2024-06-28") if day != pd.Timestamp("2024-06-19")]
)
"""Sessions of New York; 3 July closes at 13:00, and 4 July is a holiday."""


def texts(times: pd.DatetimeIndex) -> list[str]:
    return [f"{moment:%m-%d %H:%M}" for moment in times]


def dates(times: pd.DatetimeIndex) -> list[str]:
    return [f"{moment:%Y-%m-%d}" for moment in times]


@pytest.mark.parametrize(
    ("clock", "stamp", "wanted"),
    [
        ("0h", None, ["07-01 00:00", "07-02 00:00", "07-03 00:00", "07-05 00:00"]),
        ("9h30min", "start", ["07-01 09:30", "07-02 09:30", "07-03 09:30", "07-05 09:30"]),
        ("16h", "end", ["07-01 16:00", "07-02 16:00", "07-03 13:00", "07-05 16:00"]),
        ("17h", None, ["07-01 17:00", "07-02 17:00", "07-03 17:00", "07-05 17:00"]),
    ],
)
def test_days_keep_what_their_time_names(clock: str, stamp: str | None, wanted: list[str]) -> None:
    """The date, the open, the close, or a fixed time of day; also written in another zone."""
    history = JUNE + pd.Timedelta(clock)
    found = future_times(history, 4, "XNYS")
    assert (texts(found.timestamps), found.stamp, found.frequency) == (wanted, stamp, "1d")
    assert found.timestamps.tz is None
    if clock != "17h":
        utc = future_times(history.tz_localize("America/New_York").tz_convert("UTC"), 4, "XNYS")
        assert str(utc.timestamps.tz) == "UTC"
        assert texts(utc.timestamps.tz_convert("America/New_York")) == wanted
        assert utc.stamp == stamp


def test_midnights_of_the_east_are_the_day_before_in_utc() -> None:
    week = pd.bdate_range("2024-06-17", "2024-06-28", tz="Asia/Tokyo").tz_convert("UTC")
    found = future_times(week, 2, "XTKS")
    assert [str(moment) for moment in found.timestamps] == ["2024-06-30 15:00:00+00:00", "2024-07-01 15:00:00+00:00"]


@pytest.mark.parametrize("zone", ["America/New_York", "America/Sao_Paulo", "America/Los_Angeles"])
@pytest.mark.parametrize("western_first", [True, False])
def test_midnights_of_the_west_that_turn_into_those_of_utc_are_dates(zone: str, western_first: bool) -> None:
    days = pd.bdate_range("2023-10-02", periods=45)  # the clocks of the north go back in November
    western = [(place < 30) == western_first for place in range(45)]
    times = [day.tz_localize(zone if west else "UTC") for day, west in zip(days, western, strict=True)]
    bars = read_bars([[int(moment.timestamp()), 7.0, 7.2, 6.9, 7.1, 500.0] for moment in times])
    assert bars["timestamp"].tolist() == days.tolist()
    assert str(future_times(bars, 1, "XNYS").timestamps[0]) == "2023-12-04 00:00:00"
    assert any("west of UTC" in note for note in bars.attrs["report"].notes)


@pytest.mark.parametrize("freq", ["4h", "28h", "29h"])
def test_bars_that_pass_midnight_on_their_way_are_no_dates(freq: str) -> None:
    times = pd.date_range("2023-10-02", periods=40, freq=freq, tz="UTC")
    bars = read_bars([[int(moment.timestamp()), 7.0, 7.2, 6.9, 7.1, 500.0] for moment in times])
    assert pd.DatetimeIndex(bars["timestamp"]).equals(times)


def test_a_fixed_time_of_another_zone_goes_on_there() -> None:
    """21:15 in London is neither midnight nor an edge of New York's day."""
    found = future_times((JUNE + pd.Timedelta("21h15min")).tz_localize("Europe/London"), 2, "XNYS")
    assert [str(moment) for moment in found.timestamps] == ["2024-07-01 21:15:00+01:00", "2024-07-02 21:15:00+01:00"]


def test_a_time_that_does_not_exist_moves_on_and_one_that_comes_twice_is_the_first() -> None:
    """Cairo skips the midnight of 26 April 2024, and has 23:30 of 31 October twice."""
    april = pd.date_range("2024-04-23", "2024-04-25", tz="Africa/Cairo")
    found = future_times(april, 2, "XNYS", "1d").timestamps
    assert [str(moment) for moment in found] == ["2024-04-26 01:00:00+03:00", "2024-04-29 00:00:00+03:00"]
    october = pd.date_range("2024-10-28 23:30", "2024-10-30 23:30", tz="Africa/Cairo")
    found = future_times(october, 2, "XNYS", "1d").timestamps
    assert [str(moment) for moment in found] == ["2024-10-31 23:30:00+03:00", "2024-11-01 23:30:00+02:00"]


def test_longer_hours_are_told_in_a_zone_that_skips_a_midnight() -> None:
    hours = pd.date_range("2018-10-01", "2018-11-10", freq="h", tz="America/Sao_Paulo")
    kept = (hours.day_of_week < 5) & (hours.hour >= 6) & (hours.hour < 20) | (hours == "2018-11-04 01:00")
    assert future_times(hours[kept], 3).calendar == "observed"


def test_nine_closes_in_ten_are_closes() -> None:
    closes = JUNE + pd.Timedelta("16h")
    late = pd.to_timedelta(np.where(np.arange(len(closes)) < 1, 60, 0), unit="min")
    assert future_times(closes + late, 3, "XNYS").stamp == "end"
    often = pd.to_timedelta(np.where(np.arange(len(closes)) < 3, 60, 0), unit="min")
    found = future_times(closes + often, 3, "XNYS")
    assert found.stamp is None
    assert texts(found.timestamps) == ["07-01 16:00", "07-02 16:00", "07-03 16:00"]  # as the last one


def test_two_days_are_two_sessions() -> None:
    found = future_times(JUNE[::2], 2, "XNYS", "2d")
    assert dates(found.timestamps) == ["2024-07-02", "2024-07-05"]


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        (["2024-06-14", "2024-06-21", "2024-06-28"], ["2024-07-05", "2024-07-12"]),  # last session
        (["2024-03-15", "2024-03-22", "2024-03-28"], ["2024-04-05", "2024-04-12"]),  # last session, on a Thursday
        (["2024-05-13", "2024-05-20", "2024-05-28"], ["2024-06-03", "2024-06-10"]),  # first session
        (["2024-06-16", "2024-06-23", "2024-06-30"], ["2024-07-07", "2024-07-14"]),  # Sunday
        (["2024-06-19", "2024-06-26", "2024-07-03"], ["2024-07-10", "2024-07-17"]),  # Wednesday, a holiday or not
    ],
)
def test_weeks_keep_their_label(history: list[str], wanted: list[str]) -> None:
    assert dates(future_times(pd.DatetimeIndex(history), 2, "XNYS", "1w").timestamps) == wanted


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        (["2024-05-31", "2024-06-14", "2024-06-28"], ["2024-07-12", "2024-07-26"]),
        (["2024-06-03", "2024-06-17", "2024-07-01"], ["2024-07-15", "2024-07-29"]),
        (["2024-06-02", "2024-06-16", "2024-06-30"], ["2024-07-14", "2024-07-28"]),
        (["2024-05-29", "2024-06-12", "2024-06-26"], ["2024-07-10", "2024-07-24"]),
    ],
)
def test_two_weeks_are_counted_from_the_last(history: list[str], wanted: list[str]) -> None:
    assert dates(future_times(pd.DatetimeIndex(history), 2, "XNYS", "2w").timestamps) == wanted
    other = [str(pd.Timestamp(day).date() + pd.Timedelta(days=7)) for day in wanted]
    later = pd.DatetimeIndex(history) + pd.Timedelta(days=7)
    assert dates(future_times(later, 2, "XNYS", "2w").timestamps) == other


@pytest.mark.parametrize(
    ("history", "wanted"),
    [
        (["2024-05-31", "2024-06-28", "2024-07-31"], ["2024-08-30", "2024-09-30"]),  # last session
        (["2024-05-01", "2024-06-01", "2024-07-01"], ["2024-08-01", "2024-09-01"]),  # first day
        (["2024-04-30", "2024-05-31", "2024-06-30"], ["2024-07-31", "2024-08-31"]),  # last day
        (["2024-05-01", "2024-06-03", "2024-07-01"], ["2024-08-01", "2024-09-03"]),  # first session
    ],
)
def test_months_keep_their_label(history: list[str], wanted: list[str]) -> None:
    assert dates(future_times(pd.DatetimeIndex(history), 2, "XNYS", "1mo").timestamps) == wanted


def test_quarters_are_counted_from_the_last() -> None:
    history = pd.DatetimeIndex(["2024-02-29", "2024-05-31", "2024-08-30"])
    found = future_times(history, 3, "XNYS", "3mo")
    assert dates(found.timestamps) == ["2024-11-29", "2025-02-28", "2025-05-30"]
    uneven = pd.DatetimeIndex(["2024-03-28", "2024-05-31", "2024-06-28"])
    assert dates(future_times(uneven, 2, "XNYS", "2mo").timestamps) == ["2024-08-30", "2024-10-31"]


def test_what_lies_beyond_the_calendar_is_estimated() -> None:
    """Shanghai's is known to the end of 2026, a Thursday."""
    weeks = future_times("2026-12-18", 3, "XSHG", "1w")
    assert dates(weeks.timestamps) == ["2026-12-25", "2027-01-01", "2027-01-08"]
    assert weeks.estimated.tolist() == [False, True, True]
    months = future_times("2026-10-30", 3, "XSHG", "1mo")
    assert dates(months.timestamps) == ["2026-11-30", "2026-12-31", "2027-01-29"]
    assert months.estimated.tolist() == [False, False, True]
    beyond = future_times("2028-03-31", 2, "XSHG", "1mo")
    assert beyond.estimated.tolist() == [True, True]
    pairs = future_times("2026-12-28", 2, "XSHG", "2d")
    assert dates(pairs.timestamps) == ["2026-12-30", "2027-01-01"]
    assert pairs.estimated.tolist() == [False, True]


@pytest.mark.parametrize(("size", "horizon"), [("1d", 1500), ("3d", 500), ("1w", 300), ("2w", 150), ("1mo", 80)])
def test_long_horizons_are_filled(size: str, horizon: int) -> None:
    found = future_times("2015-06-30", horizon, "XNYS", size)
    assert len(found.timestamps) == len(found.estimated) == horizon
    assert found.timestamps.is_monotonic_increasing


def test_a_long_history_is_read_by_its_last_year() -> None:
    """Dates at first, closes for the last three hundred days."""
    sessions = pd.DatetimeIndex(future_times("2021-12-31", 420, "XNYS", "1d").timestamps)
    mixed = sessions[:100].append(sessions[100:400] + pd.Timedelta("16h"))
    found = future_times(mixed, 1, "XNYS", "1d")
    assert (found.stamp, found.timestamps[0]) == ("end", sessions[400] + pd.Timedelta("16h"))


def test_days_of_the_currency_week() -> None:
    found = future_times(pd.bdate_range("2024-06-03", "2024-06-27"), 3, "FX")
    assert dates(found.timestamps) == ["2024-06-28", "2024-07-01", "2024-07-02"]
    assert found.estimated.tolist() == [False] * 3
    noon = future_times(pd.bdate_range("2024-06-03", "2024-06-27") + pd.Timedelta("12h"), 2, "FX")
    assert texts(noon.timestamps) == ["06-28 12:00", "07-01 12:00"]

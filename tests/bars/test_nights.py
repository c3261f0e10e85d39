"""Longer hours than an exchange's own go on as the series keeps them: evenings of futures, half days, strays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars.calendar import future_times, future_timestamps


def futures(days: list[str], minutes: int = 5, close: str = "23:00", stamp: str = "end") -> pd.DatetimeIndex:
    """Bars of Chinese futures on trading days; the evening before each is left out where a pair ``day!`` says so."""
    found = []
    step = pd.Timedelta(minutes=minutes)
    for text in days:
        day = pd.Timestamp(text.strip("!"))
        parts = [("09:00", "10:15"), ("10:30", "11:30"), ("13:30", "15:00")]
        spans = [(day + pd.Timedelta(f"{a}:00"), day + pd.Timedelta(f"{b}:00")) for a, b in parts]
        if not text.endswith("!"):
            eve = day - pd.Timedelta(days=3 if day.weekday() == 0 else 1)
            end = eve + pd.Timedelta(f"{close}:00") + pd.Timedelta(days=int(close < "12"))
            spans.insert(0, (eve + pd.Timedelta("21:00:00"), end))
        for first, last in spans:
            closed = "right" if stamp == "end" else "left"
            found.append(pd.date_range(first, last, freq=step, inclusive=closed))
    return found[0].append(found[1:])


WEEKS = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2023-09-11", "2023-09-28")]
AFTER = ["2023-10-09!", "2023-10-10", "2023-10-11", "2023-10-12", "2023-10-13", "2023-10-16"]


@pytest.mark.parametrize("calendar", [None, "XSHG", "SHFE", "DCE"])
@pytest.mark.parametrize("stamp", ["start", "end"])
@pytest.mark.parametrize(("minutes", "close"), [(5, "23:00"), (15, "02:30"), (1, "01:00")])
def test_evenings_go_on_but_before_a_holiday(minutes: int, close: str, stamp: str, calendar: str | None) -> None:
    """28 September 2023 is the last day before the holidays of autumn: no evening follows it."""
    past = futures(WEEKS, minutes, close, stamp)
    coming = futures(AFTER, minutes, close, stamp)
    found = future_times(past, len(coming), calendar)
    pd.testing.assert_index_equal(found.timestamps, coming, exact=False, check_names=False)
    assert found.calendar == "observed"
    assert any("none before a holiday" in note for note in found.notes)
    assert not found.estimated.any()


@pytest.mark.parametrize("cut", [1, 100, 250])
def test_from_the_middle_of_a_night(cut: int) -> None:
    days = [f"{day:%Y-%m-%d}" for day in pd.bdate_range("2023-05-08", "2023-05-26")]
    bars = futures(days, 5, "02:30")
    past, coming = bars[:-cut], bars[-cut:]
    pd.testing.assert_index_equal(future_timestamps(past, cut), coming, exact=False, check_names=False)
    aware = future_timestamps(past.tz_localize("Asia/Shanghai").tz_convert("UTC"), cut)
    pd.testing.assert_index_equal(aware.tz_convert("Asia/Shanghai").tz_localize(None), coming, exact=False)


def test_a_contract_that_trades_in_few_minutes_goes_on_at_those() -> None:
    """No minute is traded on half of the days, and there are as many times to come as were asked for."""
    rng, horizon = np.random.default_rng(0), 40
    whole = futures([f"{day:%Y-%m-%d}" for day in pd.bdate_range("2023-05-08", "2023-05-26")], 1)
    past = whole[np.sort(rng.choice(len(whole), len(whole) // 25, replace=False))]
    found = future_times(past, horizon, frequency="1m")
    assert any("none before a holiday" in note for note in found.notes)
    assert len(found.timestamps) == len(found.estimated) == horizon
    assert found.timestamps[0] > past[-1]
    assert set(found.timestamps.time) <= set(past.time)


def test_evenings_of_others_are_not_taken_for_those_of_china() -> None:
    crypto = pd.date_range("2023-05-08", periods=2000, freq="5min")
    assert future_times(crypto, 5).calendar == "24/7"
    evenings = [
        pd.date_range(day + pd.Timedelta("19:00:00"), periods=30, freq="5min")
        for day in pd.bdate_range("2023-05-08", periods=15)
    ]
    assert not any("China" in note for note in future_times(evenings[0].append(evenings[1:]), 5).notes)


def extended(days: pd.DatetimeIndex, minutes: int = 30, early: tuple[str, ...] = ()) -> pd.DatetimeIndex:
    """Bars from 04:00 to 20:00 in New York, to 17:00 on days that close early."""
    ends = {day: "17:00:00" if f"{day:%Y-%m-%d}" in early else "20:00:00" for day in days}
    parts = [
        pd.date_range(day + pd.Timedelta("04:00:00"), day + pd.Timedelta(end), freq=f"{minutes}min", inclusive="left")
        for day, end in ends.items()
    ]
    return parts[0].append(parts[1:])


@pytest.mark.parametrize("minutes", [5, 30])
@pytest.mark.parametrize("calendar", [None, "XNYS"])
def test_longer_hours_end_earlier_on_a_half_day(minutes: int, calendar: str | None) -> None:
    """The day after Thanksgiving closes at 13:00, and what comes after the close ends at 17:00."""
    past = extended(pd.bdate_range("2023-10-16", "2023-11-21"), minutes)
    coming = pd.DatetimeIndex(["2023-11-22", "2023-11-24", "2023-11-27"])
    expected = extended(coming, minutes, ("2023-11-24",))
    found = future_times(past, len(expected), calendar, symbol="SPY")
    pd.testing.assert_index_equal(found.timestamps, expected, exact=False, check_names=False)
    assert any("end as much earlier" in note for note in found.notes)


@pytest.mark.parametrize("strays", [0, 1, 3])
def test_a_few_minutes_after_an_early_close_are_no_longer_hours(strays: int) -> None:
    days = pd.DatetimeIndex(["2025-11-24", "2025-11-25", "2025-11-26", "2025-11-28"])
    parts = [pd.date_range(day + pd.Timedelta("09:30:00"), periods=390, freq="min") for day in days[:3]]
    parts.append(pd.date_range("2025-11-28 09:30", periods=210 + strays, freq="min"))
    past = parts[0].append(parts[1:])
    assert future_timestamps(past, 1, "XNYS")[0] == pd.Timestamp("2025-12-01 09:30")
    assert future_times(past, 1, symbol="SPY").timestamps[0] == pd.Timestamp("2025-12-01 09:30")
    if strays:  # as the last bars of the file, and all that it has
        assert future_timestamps(past[-3 - strays :], 1, "XNYS", stamp="start")[0] == pd.Timestamp("2025-12-01 09:30")
    few = past[-3 - strays :].append(pd.DatetimeIndex(["2025-12-01 09:30"]))
    assert future_timestamps(few, 1, "XNYS")[0] == pd.Timestamp("2025-12-01 09:31")

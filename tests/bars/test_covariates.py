"""The sessions to come as the frame that other libraries' models take."""

from __future__ import annotations

import numpy.testing as npt
import pandas as pd
import pytest

from kronos import future_timestamps
from kronos.bars import calendar_covariates, sample_bars
from kronos.errors import ConfigError, DataError

COLUMNS = ["unique_id", "ds", "minute", "hour", "weekday", "day", "month", "days_since_last"]


def test_the_sessions_of_one_series() -> None:
    bars = sample_bars("sp500")
    plain = bars.drop(columns="symbol", errors="ignore")
    frame = future_timestamps(plain, 5, calendar="XNYS", layout="nixtla")
    assert list(frame) == COLUMNS
    assert set(frame["unique_id"]) == {"series"}
    assert list(frame["ds"]) == list(future_timestamps(plain, 5, calendar="XNYS"))
    # The sample ends on Monday, 31 December 2018; New Year's Day and the weekend are closed.
    assert list(frame["days_since_last"]) == [2, 1, 1, 3, 1]
    assert list(frame["weekday"]) == [2, 3, 4, 0, 1]
    assert list(frame["month"]) == [1] * 5


def test_each_symbol_goes_on_from_its_own_end() -> None:
    days = future_timestamps(pd.Timestamp("2024-01-01"), 200, calendar="XSHG", frequency="1d")
    bars = pd.concat(
        [pd.DataFrame({"timestamp": days[:last], "symbol": name}) for name, last in (("600000", 150), ("000001", 200))]
    )
    frame = future_timestamps(bars, 3, layout="nixtla")
    assert list(frame["unique_id"]) == ["600000"] * 3 + ["000001"] * 3
    assert list(frame["ds"][:3]) == list(days[150:153])
    assert frame["ds"].iloc[3] > days[-1]


def test_known_and_future_covariates_have_the_same_columns() -> None:
    bars = sample_bars("eurusd").tail(300)
    known, coming = calendar_covariates(bars), future_timestamps(bars, 24, layout="nixtla")
    assert list(known) == list(coming) == COLUMNS
    assert len(known) == 300
    assert known["days_since_last"].iloc[0] == pytest.approx(1 / 24)
    assert not known.isna().any().any()
    gaps = pd.Series(known["ds"]).diff().dropna().dt.total_seconds() / 86_400
    npt.assert_allclose(known["days_since_last"].iloc[1:], gaps)


def test_times_with_a_zone_are_written_by_its_clock() -> None:
    times = pd.date_range("2024-03-04 09:30", periods=30, freq="5min", tz="America/New_York")
    frame = future_timestamps(times, 4, layout="nixtla")
    assert frame["ds"].dt.tz is None
    assert frame["ds"].iloc[0] == pd.Timestamp("2024-03-04 12:00")


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="'nixtla'"):
        future_timestamps(pd.Timestamp("2024-01-01"), 3, frequency="1d", layout="darts")  # type: ignore[call-overload]
    with pytest.raises(DataError, match="column timestamp"):
        calendar_covariates(pd.DataFrame({"ds": []}))

"""Future timestamps: golden answers for exchanges, clock changes, stamps, and what cannot be told."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from kronos.bars import calendar_names, future_times, future_timestamps, infer_calendar, infer_frequency, sample_bars
from kronos.bars.calendar.clues import symbol_hint
from kronos.errors import CalendarError, ConfigError


def stamps(times: pd.DatetimeIndex) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M}" for moment in times]


def days(times: pd.DatetimeIndex) -> list[str]:
    return [f"{moment:%Y-%m-%d}" for moment in times]


def session_bars(calendar: str, start: str, end: str, size: str, stamp: str = "start") -> pd.DatetimeIndex:
    """Wall times of bars straight from exchange_calendars, without our own grid."""
    import warnings

    import exchange_calendars as xc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        market = xc.get_calendar(calendar, start="2020-01-01", end="2026-11-30")
        closed = "left" if stamp == "start" else "right"
        index = market.trading_index(start, end, size, intervals=False, closed=closed, force_close=stamp == "end")
    return index.tz_convert(market.tz).tz_localize(None)


class TestGolden:
    def test_shanghai_lunch_and_weekend(self) -> None:
        """Bars end at 11:30 and go on at 13:05; Friday's 15:00 is followed by Monday's 09:35."""
        found = future_timestamps("2024-06-21 11:25", 3, "XSHG", "5m", "end")
        assert stamps(found) == ["2024-06-21 11:30", "2024-06-21 13:05", "2024-06-21 13:10"]
        found = future_timestamps("2024-06-21 14:55", 3, "XSHG", "5m", "end")
        assert stamps(found) == ["2024-06-21 15:00", "2024-06-24 09:35", "2024-06-24 09:40"]

    def test_shanghai_spring_festival(self) -> None:
        found = future_timestamps("2024-02-08", 2, "XSHG", "1d")
        assert days(found) == ["2024-02-19", "2024-02-20"]

    def test_shanghai_hours_restart_after_lunch(self) -> None:
        found = future_timestamps("2024-06-21 10:30", 4, "XSHG", "1h", "end")
        assert stamps(found) == ["2024-06-21 11:30", "2024-06-21 14:00", "2024-06-21 15:00", "2024-06-24 10:30"]

    def test_shanghai_past_the_calendars_end_is_estimated(self) -> None:
        found = future_times("2026-12-30", 4, "XSHG", "1d")
        assert days(found.timestamps) == ["2026-12-31", "2027-01-01", "2027-01-04", "2027-01-05"]
        assert found.estimated.tolist() == [False, True, True, True]
        inside = future_times("2026-12-31 14:55", 3, "XSHG", "5m", "end")
        assert stamps(inside.timestamps) == ["2026-12-31 15:00", "2027-01-01 09:35", "2027-01-01 09:40"]
        assert inside.estimated.tolist() == [False, True, True]

    def test_hong_kong_half_day_lunch_and_holidays(self) -> None:
        """24 December 2024 closes at noon; 25 and 26 are holidays."""
        found = future_timestamps("2024-12-24 11:30", 3, "XHKG", "30m", "start")
        assert stamps(found) == ["2024-12-27 09:30", "2024-12-27 10:00", "2024-12-27 10:30"]
        found = future_timestamps("2024-12-23 11:30", 2, "XHKG", "30m", "start")
        assert stamps(found) == ["2024-12-23 13:00", "2024-12-23 13:30"]

    def test_new_york_half_day_and_thanksgiving(self) -> None:
        """28 November 2024 is closed, 29 closes at 13:00."""
        found = future_timestamps("2024-11-27 15:30", 8, "XNYS", "30m", "start")
        assert stamps(found)[0] == "2024-11-29 09:30"
        assert stamps(found)[6] == "2024-11-29 12:30"
        assert stamps(found)[7] == "2024-12-02 09:30"

    def test_new_york_last_hour_is_half_an_hour(self) -> None:
        found = future_timestamps("2024-06-20 14:30", 2, "XNYS", "1h", "start")
        assert stamps(found) == ["2024-06-20 15:30", "2024-06-21 09:30"]
        found = future_timestamps("2024-06-20 15:30", 2, "XNYS", "1h", "end")
        assert stamps(found) == ["2024-06-20 16:00", "2024-06-21 10:30"]

    def test_new_york_clock_change(self) -> None:
        """The open stays 09:30 in New York and moves from 14:30 to 13:30 UTC on 11 March 2024."""
        friday = pd.Timestamp("2024-03-08 15:30", tz="America/New_York")
        found = future_timestamps(friday, 1, "XNYS", "30m", "start")
        assert found[0] == pd.Timestamp("2024-03-11 09:30", tz="America/New_York")
        in_utc = future_timestamps(friday.tz_convert("UTC"), 1, "XNYS", "30m", "start")
        assert str(in_utc[0]) == "2024-03-11 13:30:00+00:00"

    def test_new_york_days(self) -> None:
        found = future_timestamps("2024-03-28", 2, "XNYS", "1d")  # Good Friday is closed
        assert days(found) == ["2024-04-01", "2024-04-02"]

    def test_london_and_tokyo(self) -> None:
        assert days(future_timestamps("2024-12-24", 2, "XLON", "1d")) == ["2024-12-27", "2024-12-30"]
        found = future_timestamps("2024-06-21 11:00", 2, "XTKS", "30m", "start")
        assert stamps(found) == ["2024-06-21 12:30", "2024-06-21 13:00"]

    def test_crypto_has_seven_days(self) -> None:
        found = future_timestamps("2024-06-21 22:00", 4, "24/7", "1h")
        assert stamps(found)[-1] == "2024-06-22 02:00"
        assert days(future_timestamps("2024-06-21", 3, "24/7", "1d")) == ["2024-06-22", "2024-06-23", "2024-06-24"]

    def test_currencies_stop_on_friday_evening(self) -> None:
        """17:00 in New York is 21:00 UTC in summer and 22:00 in winter."""
        summer = future_timestamps(pd.Timestamp("2024-06-21 20:00", tz="UTC"), 2, "FX", "1h", "start")
        assert stamps(summer) == ["2024-06-23 21:00", "2024-06-23 22:00"]
        winter = future_timestamps(pd.Timestamp("2024-01-05 21:00", tz="UTC"), 1, "FX", "1h", "start")
        assert stamps(winter) == ["2024-01-07 22:00"]
        assert days(future_timestamps("2024-06-21", 2, "FX", "1d")) == ["2024-06-24", "2024-06-25"]

    def test_currencies_rest_at_christmas_and_new_year(self) -> None:
        """From 17:00 to 17:00 in New York; hours of a broker whose clock runs seven hours ahead, to the year's end."""
        hours = pd.date_range("2020-10-05", "2020-12-31 23:00", freq="1h")
        rest = (hours >= "2020-12-25") & (hours < "2020-12-26")
        found = future_times(hours[(hours.day_of_week < 5) & ~rest], 3)
        assert (found.calendar, found.stamp) == ("FX", "start")
        assert stamps(found.timestamps) == ["2021-01-04 00:00", "2021-01-04 01:00", "2021-01-04 02:00"]
        eve = future_timestamps(pd.Timestamp("2024-12-24 20:00", tz="UTC"), 3, "FX", "1h", "start")
        assert stamps(eve) == ["2024-12-24 21:00", "2024-12-25 22:00", "2024-12-25 23:00"]
        sunday = future_timestamps(pd.Timestamp("2022-12-30 21:00", tz="UTC"), 1, "FX", "1h", "start")
        assert stamps(sunday) == ["2023-01-01 22:00"]  # the rest ends when the week begins
        monday = future_timestamps(pd.Timestamp("2023-12-22 21:00", tz="UTC"), 1, "FX", "1h", "start")
        assert stamps(monday) == ["2023-12-25 22:00"]  # a Monday takes the Sunday evening with it
        assert days(future_timestamps("2024-12-24", 5, "FX", "1d")) == [
            "2024-12-26",
            "2024-12-27",
            "2024-12-30",
            "2024-12-31",
            "2025-01-02",
        ]

    def test_clock_change_of_days_keeps_midnight(self) -> None:
        last = pd.Timestamp("2024-03-09", tz="America/New_York")
        found = future_timestamps(last, 3, "24/7", "1d")
        assert [moment.hour for moment in found] == [0, 0, 0]
        assert days(found) == ["2024-03-10", "2024-03-11", "2024-03-12"]

    def test_weeks_and_months(self) -> None:
        assert days(future_timestamps("2024-03-22", 2, "XNYS", "1w")) == ["2024-03-28", "2024-04-05"]
        assert days(future_timestamps("2024-01-31", 2, None, "1mo")) == ["2024-02-29", "2024-03-31"]
        assert days(future_timestamps("2024-01-01", 2, None, "1mo")) == ["2024-02-01", "2024-03-01"]


@pytest.mark.parametrize("calendar", ["XSHG", "XHKG", "XNYS", "XTKS", "XLON"])
@pytest.mark.parametrize("size", ["5m", "30m"])
@pytest.mark.parametrize("stamp", ["start", "end"])
def test_continues_history_as_the_exchange_does(calendar: str, size: str, stamp: str) -> None:
    """Against exchange_calendars' own trading index, with calendar and stamp inferred."""
    whole = session_bars(calendar, "2024-04-02", "2024-07-12", size.replace("m", "min"), stamp)
    cut = len(whole) - 150
    found = future_times(whole[:cut], 150)
    assert found.calendar == calendar
    assert found.stamp == stamp
    assert found.frequency == size
    assert stamps(found.timestamps) == stamps(whole[cut:])


@pytest.mark.parametrize("name", ["sp500", "nasdaq"])
def test_holds_out_a_year_of_days(name: str) -> None:
    bars = sample_bars(name)
    found = future_times(bars.iloc[:-250], 250)
    assert found.calendar == "XNYS"
    assert days(found.timestamps) == days(pd.DatetimeIndex(bars["timestamp"].iloc[-250:]))


def test_holds_out_weeks_of_currencies() -> None:
    bars = sample_bars("eurusd")
    found = future_times(bars.iloc[:4000], 1000)
    real = pd.DatetimeIndex(bars["timestamp"].iloc[4000:5000])
    assert (found.calendar, found.stamp) == ("FX", "start")
    assert (found.timestamps == real).mean() == 1.0


class TestStamp:
    def test_one_timestamp_that_cannot_tell(self) -> None:
        with pytest.raises(CalendarError, match="stamp='start' or stamp='end'"):
            future_timestamps("2024-06-20 10:30", 3, "XNYS", "30m")

    def test_one_timestamp_that_can(self) -> None:
        assert stamps(future_timestamps("2024-06-20 09:30", 1, "XNYS", "30m")) == ["2024-06-20 10:00"]
        assert stamps(future_timestamps("2024-06-20 16:00", 1, "XNYS", "30m")) == ["2024-06-21 10:00"]

    def test_bars_that_cannot_tell(self) -> None:
        with pytest.raises(CalendarError, match=r"The bars' times fit both .* 30m bar of XNYS\. Pass stamp='start'"):
            future_timestamps(pd.DatetimeIndex(["2024-06-20 10:30", "2024-06-20 11:00"]), 1, "XNYS", "30m")
        with pytest.raises(CalendarError, match=r"^2024-06-20 10:30:00 fits both"):
            future_timestamps("2024-06-20 10:30", 1, "XNYS", "30m")

    def test_before_the_open_the_first_bar_of_the_day_follows(self) -> None:
        """One timestamp may lie outside the sessions if the stamp is given, several may not."""
        for stamp, wanted in (("start", "2024-06-20 09:30"), ("end", "2024-06-20 10:00")):
            assert stamps(future_timestamps("2024-06-20 08:00", 1, "XNYS", "30m", stamp)) == [wanted]
        with pytest.raises(CalendarError, match="is not the time of a 30m bar of XNYS"):
            future_timestamps("2024-06-20 08:00", 1, "XNYS", "30m")
        with pytest.raises(CalendarError, match="Only 0% of the bars' times"):
            future_timestamps(pd.DatetimeIndex(["2024-06-20 08:00", "2024-06-20 08:30"]), 1, "XNYS", "30m", "start")

    def test_an_inferred_reading_gives_way_to_a_given_stamp(self) -> None:
        starts = session_bars("XNYS", "2024-04-02", "2024-05-10", "30min")
        inferred, told = future_times(starts, 1), future_times(starts, 1, stamp="end")
        assert (inferred.stamp, stamps(inferred.timestamps)) == ("start", ["2024-05-13 09:30"])
        assert (told.stamp, stamps(told.timestamps)) == ("end", ["2024-05-10 16:00"])

    def test_a_step_keeps_the_stamp_it_is_given(self) -> None:
        found = future_times("2024-01-02 10:00", 2, "24/7", "1h", "end")
        assert found.stamp == "end"
        assert found.estimated.dtype == bool
        assert found.estimated.tolist() == [False, False]

    def test_wrong_word(self) -> None:
        with pytest.raises(ConfigError, match="stamp is"):
            future_timestamps("2024-06-20", 1, stamp="middle")  # type: ignore[arg-type]


class TestInference:
    def test_clock_of_naive_times(self) -> None:
        """The same currency week written by three clocks: each goes on in its own."""
        bars = pd.DatetimeIndex(sample_bars("eurusd")["timestamp"])
        for zone, shift in (("UTC", 0), ("America/New_York", 0), ("America/New_York", 7)):
            wall = bars.tz_convert(zone).tz_localize(None) + pd.Timedelta(hours=shift)
            found = future_times(wall[:4000], 200)
            assert found.calendar == "FX"
            assert (found.timestamps == wall[4000:4200]).all()

    def test_exchange_hours_written_in_utc(self) -> None:
        local = session_bars("XNYS", "2024-02-12", "2024-04-26", "30min")
        utc = local.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None)
        found = future_times(utc[:-40], 40)
        assert found.calendar == "XNYS"
        assert stamps(found.timestamps) == stamps(utc[-40:])

    def test_extended_hours_go_on_as_observed(self) -> None:
        minutes = pd.date_range("2024-03-01", "2024-05-31 23:30", freq="30min")
        early = minutes[(minutes.day_of_week < 5) & (minutes.hour >= 4) & (minutes.hour < 20)]
        found = future_times(early[:-64], 64)
        assert found.calendar == "observed"
        assert stamps(found.timestamps) == stamps(early[-64:])

    def test_saturday_means_every_day(self) -> None:
        assert infer_calendar(pd.date_range("2024-01-01", periods=300, freq="1h")) == "24/7"
        assert infer_calendar(pd.date_range("2024-01-01", periods=60, freq="1D")) == "24/7"

    def test_too_little_to_tell_is_a_step(self) -> None:
        found = future_times(pd.date_range("2024-01-02 10:00", periods=50, freq="1min"), 3)
        assert found.calendar == "step"
        assert stamps(found.timestamps) == ["2024-01-02 10:50", "2024-01-02 10:51", "2024-01-02 10:52"]
        assert found.notes

    def test_short_daily_history_skips_weekends(self) -> None:
        found = future_times(pd.bdate_range("2024-01-02", periods=30), 5)
        assert set(found.timestamps.day_of_week) == {0, 1, 2, 3, 4}

    def test_symbol_decides_between_equals(self) -> None:
        short = pd.bdate_range("2024-04-08", periods=15)
        assert future_times(short, 20, symbol="600519.SS").calendar == "XSHG"

    def test_a_table_of_one_symbol_tells_it(self) -> None:
        short = pd.bdate_range("2024-04-08", periods=15)
        table = pd.DataFrame({"timestamp": short, "symbol": "600519.SS"})
        assert infer_calendar(short) is None
        assert infer_calendar(short, symbol="600519.SS") == infer_calendar(table) == "XSHG"
        assert future_times(table, 1).calendar == "XSHG"
        assert future_times(table, 1, symbol="7203.T").calendar == "XTKS"  # what is said outright counts
        table.loc[0, "symbol"] = "000001.SZ"
        assert infer_calendar(table) is None
        assert future_times(table, 1).calendar == "observed"

    def test_too_few_times_follow_no_calendar(self) -> None:
        hours = pd.date_range("2024-01-01", periods=300, freq="1h")
        assert infer_calendar(hours[:1], "1h") is None
        assert infer_calendar(hours[:2]) is None
        assert infer_calendar(hours[::7], "1h") == "24/7"

    @pytest.mark.parametrize(
        ("history", "size", "calendar", "note"),
        [
            (["2024-01-01 10:00", "2024-01-08 10:00"], "1h", "observed", "^no calendar stands out: the weekly hours"),
            (["2024-01-01 10:00", "2024-01-08 09:00"], "1h", "step", "^too few bars"),
            (
                ["2024-01-02", "2024-01-03", "2024-01-10"],
                "1d",
                "observed",
                "^no calendar stands out: the weekdays seen",
            ),
            (["2024-01-02"], "1h", "step", "^regular step; nights"),
            (["2024-01-02", "2024-01-09", "2024-01-16"], "1w", "step", "^a regular step$"),
        ],
    )
    def test_what_goes_on_where_no_calendar_stands_out(
        self, history: list[str], size: str, calendar: str, note: str
    ) -> None:
        found = future_times(pd.DatetimeIndex(history), 2, frequency=size)
        assert found.calendar == calendar
        assert len(found.notes) == 1
        assert re.search(note, found.notes[0])

    @pytest.mark.parametrize(
        "symbol", ["600519", "000001", "301269", "688981", "920819", "430047", "sz159915", "SH600000"]
    )
    def test_digits_of_china(self, symbol: str) -> None:
        assert symbol_hint(symbol) == "XSHG"

    @pytest.mark.parametrize("symbol", ["005930", "035420", "051910", "123456", "700000", "999999", "5930", None])
    def test_digits_of_elsewhere(self, symbol: str | None) -> None:
        """Seoul writes six digits, too."""
        assert symbol_hint(symbol) is None

    def test_few_days_of_a_korean_stock_do_not_keep_chinese_holidays(self) -> None:
        days_seen = pd.bdate_range("2024-01-08", "2024-02-07")  # Shanghai then rests until 19 February
        found = future_times(days_seen, 3, symbol="005930")
        assert found.calendar == "observed"
        assert days(found.timestamps) == ["2024-02-08", "2024-02-09", "2024-02-12"]
        assert "holidays were not checked" in found.notes[0]

    def test_bar_size_shows_through_gaps(self) -> None:
        """One bar in four is there, so that one step in four or so is a minute long; or there are but three bars."""
        minutes = pd.date_range("2024-01-02", periods=600, freq="1min")
        thin = minutes[np.random.default_rng(1).random(len(minutes)) < 0.25]
        assert str(infer_frequency(thin)) == "1m"
        assert str(infer_frequency(minutes[:2])) == "1m"
        assert (
            str(infer_frequency(pd.DatetimeIndex(["2024-01-05 15:00", "2024-01-05 16:00", "2024-01-08 10:00"]))) == "1h"
        )

    def test_gaps_do_not_spoil_it(self) -> None:
        whole = session_bars("XNYS", "2024-04-02", "2024-07-12", "5min")
        keep = np.random.default_rng(0).random(len(whole)) > 0.1
        assert infer_calendar(whole[keep]) == "XNYS"


class TestRefusals:
    @pytest.mark.parametrize("horizon", [0, -1, 100_001, 1_000_000, 2.5, True, "3"])
    def test_horizon(self, horizon: object) -> None:
        with pytest.raises(ConfigError, match="horizon"):
            future_timestamps("2024-01-01", horizon, "24/7", "1d")  # type: ignore[arg-type]

    def test_longest_horizon(self) -> None:
        found = future_timestamps("2024-01-02 09:30", 100_000, "XNYS", "1m", "start")
        assert len(found) == 100_000
        assert found.is_monotonic_increasing
        assert found.is_unique

    def test_unknown_calendar_lists_near_names(self) -> None:
        with pytest.raises(CalendarError, match="XNYS"):
            future_timestamps("2024-01-01", 3, "XNYSE", "1d")
        for far in ("@@@@", "MARS"):  # no poor guesses
            with pytest.raises(CalendarError, match=r"MIC code such as XNYS.*kronos bars calendars"):
                future_timestamps("2024-01-01", 3, far, "1d")

    def test_history_that_does_not_fit(self) -> None:
        hours = pd.date_range("2024-01-01", periods=500, freq="1h")
        with pytest.raises(CalendarError, match=r"Only \d+%.*observed"):
            future_timestamps(hours, 3, "XNYS")

    def test_bar_size(self) -> None:
        with pytest.raises(ConfigError, match="frequency"):
            future_timestamps("2024-01-01", 3)
        with pytest.raises(ConfigError, match="not a bar size"):
            future_timestamps("2024-01-01", 3, frequency="often")

    def test_irregular_times_have_no_bar_size(self) -> None:
        """All steps differ: none of them is the bar size, least of all the smallest."""
        gaps = np.random.default_rng(3).choice(np.arange(600, 9000), 60, replace=False)
        ticks = pd.Timestamp("2024-01-02") + pd.to_timedelta(np.cumsum(gaps), unit="s")
        for times in (ticks, ticks[:3], ticks[:8], ticks.floor("min")):
            assert infer_frequency(times) is None
            with pytest.raises(ConfigError, match="Pass frequency"):
                future_times(times, 5)
        assert str(future_times(ticks, 5, frequency="1h").frequency) == "1h"

    def test_history(self) -> None:
        with pytest.raises(ConfigError, match="history"):
            future_timestamps("soon", 3, frequency="1d")
        with pytest.raises(ConfigError, match="no timestamp"):
            future_timestamps(pd.DatetimeIndex([]), 3, frequency="1d")
        with pytest.raises(CalendarError, match="observed"):
            future_timestamps("2024-01-01", 3, "observed", "1d")


def test_where_daily_bars_and_their_calendar_part_is_told() -> None:
    """12 June has no bar; 19 June is a holiday."""
    june = pd.bdate_range("2024-06-03", "2024-06-28")
    sessions = june[june != "2024-06-19"]
    assert future_times(sessions, 1, "XNYS").notes == ()
    assert future_times(sessions[:1], 1, "XNYS", "1d").notes == ()
    assert future_times(june[june != "2024-06-12"], 1, "XNYS").notes == (
        "1 session of XNYS has no bar (2024-06-12)",
        "1 bar lies on a day without a session of XNYS (2024-06-19)",
    )
    assert future_times(june, 1, "observed").notes == future_times(june, 1, "step").notes == ()
    assert future_times(june[::5], 1, "XNYS", "1w").notes == ()


def test_names_and_aliases() -> None:
    names = calendar_names()
    assert {"XSHG", "XNYS", "XHKG", "24/7", "FX", "observed"} <= set(names)
    for alias in ("NYSE", "xnys", "XNAS"):
        assert future_times("2024-01-02", 1, alias, "1d").calendar == "XNYS"
    assert future_times("2024-01-02", 1, "XSHE", "1d").calendar == "XSHG"
    assert future_times("2024-01-02", 1, "24/5", "1d").calendar == "FX"


def test_history_may_be_a_table_a_series_or_an_index() -> None:
    bars = sample_bars("sp500")
    wanted = stamps(future_timestamps(bars, 3))
    assert stamps(future_timestamps(bars["timestamp"], 3)) == wanted
    assert stamps(future_timestamps(bars.set_index("timestamp"), 3)) == wanted
    assert stamps(future_timestamps(pd.DatetimeIndex(bars["timestamp"]), 3)) == wanted

"""Future timestamps without an exchange: regular steps, and the weekly hours seen so far."""

from __future__ import annotations

import pandas as pd
import pytest

from kronos.bars import future_timestamps


def texts(times: pd.DatetimeIndex) -> list[str]:
    return [str(moment) for moment in times]


def hours(first: str, last: str, *of_day: int) -> pd.DatetimeIndex:
    """Those hours of every weekday."""
    every = pd.date_range(first, f"{last} 23:00", freq="1h")
    return every[every.hour.isin(of_day) & (every.day_of_week < 5)]


def goes_on(seen: pd.DatetimeIndex, bars: int = 200) -> set[str]:
    """Weekday and hour of the bars to come."""
    found = future_timestamps(seen, bars, "observed", "1h")
    assert found.is_unique
    assert found.is_monotonic_increasing
    return {f"{moment:%a %H}" for moment in found}


def usual(*of_day: int) -> set[str]:
    return {f"{day} {hour:02}" for day in ("Mon", "Tue", "Wed", "Thu", "Fri") for hour in of_day}


class TestStep:
    @pytest.mark.parametrize(
        ("history", "size", "wanted"),
        [
            (["2022-12-31", "2023-01-31", "2023-02-28"], "1mo", ["2023-03-31", "2023-04-30"]),
            (["2022-12-28", "2023-01-28", "2023-02-28"], "1mo", ["2023-03-28", "2023-04-28"]),
            (["2024-01-29", "2024-02-29"], "1mo", ["2024-03-29", "2024-04-29"]),
            (["2024-04-30"], "1mo", ["2024-05-31", "2024-06-30"]),
            (["2024-01-15"], "3mo", ["2024-04-15", "2024-07-15"]),
            (["2024-01-15"], "2d", ["2024-01-17", "2024-01-19"]),
            (["2024-01-15"], "1w", ["2024-01-22", "2024-01-29"]),
        ],
    )
    def test_dates(self, history: list[str], size: str, wanted: list[str]) -> None:
        days = pd.DatetimeIndex(history)
        assert texts(future_timestamps(days, 2, "step", size)) == [f"{day} 00:00:00" for day in wanted]
        aware = future_timestamps(days.tz_localize("Asia/Tokyo"), 2, "step", size)
        assert texts(aware) == [f"{day} 00:00:00+09:00" for day in wanted]

    def test_a_habit_of_a_year_ago_is_forgotten(self) -> None:
        """The 15th before, the last day of the month for a year."""
        days = pd.DatetimeIndex(["2021-12-15", *pd.date_range("2022-03-31", "2023-02-28", freq="ME")])
        assert texts(future_timestamps(days, 1, "step", "1mo")) == ["2023-03-31 00:00:00"]
        assert texts(future_timestamps(days[:-1], 1, "step", "1mo")) == ["2023-02-28 00:00:00"]
        assert texts(future_timestamps(days[:2], 1, "step", "1mo")) == ["2022-04-30 00:00:00"]

    def test_days_keep_their_time_through_clock_changes(self) -> None:
        """On 10 March 2024 02:30 does not exist in New York; on 3 November 01:30 comes twice."""
        spring = future_timestamps(pd.Timestamp("2024-03-09 02:30", tz="America/New_York"), 2, "24/7", "1d")
        assert texts(spring) == ["2024-03-10 03:00:00-04:00", "2024-03-11 02:30:00-04:00"]
        autumn = future_timestamps(pd.Timestamp("2024-11-02 01:30", tz="America/New_York"), 2, "24/7", "1d")
        assert texts(autumn) == ["2024-11-03 01:30:00-04:00", "2024-11-04 01:30:00-05:00"]

    def test_hours_are_as_long_as_ever_on_that_day(self) -> None:
        found = future_timestamps(pd.Timestamp("2024-03-10 00:00", tz="America/New_York"), 3, "step", "1h")
        assert texts(found) == ["2024-03-10 01:00:00-05:00", "2024-03-10 03:00:00-04:00", "2024-03-10 04:00:00-04:00"]
        assert len(future_timestamps(pd.Timestamp("2024-03-10"), 500, "step", "1h")) == 500


class TestWeeklyHours:
    def test_two_timestamps_suffice(self) -> None:
        seen = pd.DatetimeIndex(["2024-01-05 15:00", "2024-01-05 16:00"])
        found = future_timestamps(seen, 3, "observed", "1h")
        assert texts(found) == ["2024-01-08 15:00:00", "2024-01-08 16:00:00", "2024-01-09 15:00:00"]

    def test_weeks_and_months_are_steps(self) -> None:
        weeks = pd.DatetimeIndex(["2024-01-03", "2024-01-12"])
        assert texts(future_timestamps(weeks, 2, "observed", "1w")) == ["2024-01-19 00:00:00", "2024-01-26 00:00:00"]
        months = pd.DatetimeIndex(["2024-01-31", "2024-02-29"])
        assert texts(future_timestamps(months, 1, "observed", "1mo")) == ["2024-03-31 00:00:00"]

    def test_of_a_zone_through_a_clock_change(self) -> None:
        berlin = hours("2024-03-01", "2024-03-29", 9, 10).tz_localize("Europe/Berlin")
        found = future_timestamps(berlin, 3, "observed", "1h")
        assert texts(found) == ["2024-04-01 09:00:00+02:00", "2024-04-01 10:00:00+02:00", "2024-04-02 09:00:00+02:00"]

    def test_under_two_weeks_every_day_is_like_the_days_seen(self) -> None:
        assert goes_on(hours("2024-01-03", "2024-01-05", 9, 10)) == usual(9, 10)
        short_friday = hours("2024-01-01", "2024-01-12", 9, 10)[:-1]
        assert goes_on(short_friday) == usual(9, 10)
        with_saturday = pd.date_range("2024-01-04 10:00", "2024-01-06 10:00", freq="1D")
        assert goes_on(with_saturday) == usual(10) | {"Sat 10", "Sun 10"}
        midnights = pd.date_range("2024-01-04", "2024-01-06", freq="1D")
        assert goes_on(midnights) == usual(0) | {"Sat 00", "Sun 00"}

    def test_from_two_weeks_on_every_weekday_has_its_own_hours(self) -> None:
        seen = hours("2024-01-01", "2024-01-15", 9, 10)
        seen = seen[~((seen.day_of_week == 4) & (seen.hour == 10))][:-1]
        assert seen[-1] - seen[0] == pd.Timedelta(days=14)
        assert goes_on(seen) == usual(9, 10) - {"Fri 10"}

    def test_what_happened_in_less_than_half_of_the_weeks_is_no_habit(self) -> None:
        eight = hours("2024-01-01", "2024-02-23", 9, 10)
        evenings = pd.date_range("2024-01-01 18:00", periods=8, freq="7D")  # Mondays
        saturday = pd.DatetimeIndex(["2024-02-10 09:00"])
        assert goes_on(eight.union(evenings[:3]).union(saturday)) == usual(9, 10)
        assert goes_on(eight.union(evenings[:4])) == usual(9, 10) | {"Mon 18"}

    def test_holidays_do_not_thin_the_hours_of_a_weekday(self) -> None:
        """A Wednesday that rests in four weeks of eight goes on with all its hours; one that rests in five rests."""
        eight = hours("2024-01-01", "2024-02-23", 9, 10)
        wednesdays = pd.date_range("2024-01-03", periods=8, freq="7D")
        assert goes_on(eight[~eight.normalize().isin(wednesdays[:4])]) == usual(9, 10)
        assert goes_on(eight[~eight.normalize().isin(wednesdays[:5])]) == usual(9, 10) - {"Wed 09", "Wed 10"}
        midnights = eight[~eight.normalize().isin(wednesdays[:3])].union(wednesdays[5:])  # three of five
        assert goes_on(midnights) == usual(9, 10) | {"Wed 00"}

    def test_half_a_year_counts(self) -> None:
        """Twenty weeks with an evening hour, then twenty without."""
        seen = hours("2023-01-02", "2023-05-19", 9, 20).union(hours("2023-05-22", "2023-10-06", 9))
        assert goes_on(seen) == usual(9)

    def test_without_any_habit_all_hours_seen_go_on(self) -> None:
        """Once a day, a quarter of an hour later every time."""
        days = pd.bdate_range("2024-01-01", periods=30)
        seen = days + pd.to_timedelta([15 * k for k in range(30)], unit="min")
        found = future_timestamps(seen, 30, "observed", "1h")
        assert len(found) == 30
        assert {f"{moment:%a %H:%M}" for moment in found} == {f"{moment:%a %H:%M}" for moment in seen}

    def test_long_horizons_are_filled(self) -> None:
        assert len(future_timestamps(hours("2024-01-01", "2024-03-01", 9), 1001, "observed", "1h")) == 1001

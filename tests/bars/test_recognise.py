"""Which calendar short or unusual histories follow: by weekday, holidays, time zone, symbol and hours seen."""

from __future__ import annotations

import pandas as pd
import pytest

from kronos.bars import future_times, future_timestamps, inspect_bars
from kronos.bars.calendar.clues import likely_calendar, symbol_hint
from kronos.bars.calendar.markets import market


def sessions(name: str, last: str, count: int) -> pd.DatetimeIndex:
    """The last ``count`` sessions of an exchange until a day, at midnight."""
    end = pd.Timestamp(last)
    dates = market(name).sessions(end - pd.Timedelta(days=3 * count), end).dates
    return pd.DatetimeIndex(dates[-count:].view("datetime64[ns]"))


def extended(first: str, last: str, zone: str | None = None) -> pd.DatetimeIndex:
    """Half hours from 04:00 to 20:00 on every session of New York."""
    dates = pd.DatetimeIndex(market("XNYS").sessions(pd.Timestamp(first), pd.Timestamp(last)).dates.view("M8[ns]"))
    hours = pd.timedelta_range("4h", "19h30min", freq="30min")
    times = pd.DatetimeIndex([day + hour for day in dates for hour in hours])
    return times if zone is None else times.tz_localize("America/New_York").tz_convert(zone)


class TestDays:
    @pytest.mark.parametrize("count", [60, 100, 115, 125])
    @pytest.mark.parametrize("symbol", [None, "AAPL"])
    def test_new_year_is_no_session_of_apple(self, count: int, symbol: str | None) -> None:
        found = future_times(sessions("XNYS", "2015-12-31", count), 2, symbol=symbol)
        assert found.calendar == "XNYS"
        assert [f"{day:%m-%d}" for day in found.timestamps] == ["01-04", "01-05"]

    @pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
    def test_sixty_chinese_days_before_the_golden_week(self, zone: str | None) -> None:
        """No holiday falls into them, so their days alone do not tell Shanghai from Frankfurt."""
        days = sessions("XSHG", "2023-09-28", 60)
        assert future_times(days, 1, symbol="600519").timestamps[0] == pd.Timestamp("2023-10-09")
        found = future_times(days.tz_localize(zone), 1)
        if zone is not None:
            assert found.timestamps[0] == pd.Timestamp("2023-10-09", tz=zone)
            assert "the time zone Asia/Shanghai" in found.notes[0]
            return
        assert found.calendar == "observed"
        told = "; ".join(found.notes)
        assert "holidays were not checked" in told
        assert "fit the times alike" in told
        assert "calendar='XSHG' (--calendar XSHG)" in told
        assert "(--symbol)" in told
        assert "2023-09-29 is no session of XSHG" in told
        told = "; ".join(future_times(days, 10).notes)
        assert "6 of these dates are no sessions of XSHG, the first 2023-09-29" in told

    def test_a_given_calendar_ends_the_doubt(self) -> None:
        found = future_times(sessions("XSHG", "2023-09-28", 60), 1, "XSHG")
        assert (found.timestamps[0], found.notes) == (pd.Timestamp("2023-10-09"), ())

    def test_a_ticker_is_no_proof_against_the_days(self) -> None:
        """London's days around the late May holidays, under a name that could be one of New York's."""
        found = future_times(sessions("XLON", "2024-05-03", 60), 2, symbol="VOD")
        assert found.calendar == "XLON"
        assert [f"{day:%m-%d}" for day in found.timestamps] == ["05-07", "05-08"]

    def test_the_report_says_so_too(self) -> None:
        days = sessions("XSHG", "2023-09-28", 60)
        table = pd.DataFrame({"timestamp": days, **dict.fromkeys(("open", "high", "low", "close"), 10.0)})
        report = inspect_bars(table)
        assert report.calendar is None
        assert any("fit the times alike: name yours" in line for line in report.notes)


class TestHours:
    @pytest.mark.parametrize("last", ["2024-05-22", "2024-05-23", "2024-05-24"])
    @pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
    def test_extended_hours_of_a_few_days(self, last: str, zone: str | None) -> None:
        """From three days of a week up: never on through the night or a Saturday, never called currencies."""
        times = extended("2024-05-20", last, zone)
        found = future_times(times, 40, symbol="SPY")
        wanted = extended("2024-05-25" if last == "2024-05-24" else f"2024-05-{int(last[-2:]) + 1}", "2024-05-31", zone)
        assert found.calendar == "observed"
        if zone is None or zone == "America/New_York":
            assert list(found.timestamps) == list(wanted[:40])  # Monday 27 May is Memorial Day
            assert "on the sessions of XNYS" in found.notes[0]

    def test_without_a_symbol_they_rest_at_night(self) -> None:
        found = future_times(extended("2024-05-20", "2024-05-24"), 1)
        assert found.calendar == "observed"
        assert found.timestamps[0] == pd.Timestamp("2024-05-27 04:00")
        assert "holidays were not checked" in "; ".join(found.notes)

    def test_a_named_exchange_takes_longer_hours_than_its_own(self) -> None:
        found = future_times(extended("2024-05-20", "2024-05-24"), 1, "XNYS")
        assert (found.calendar, found.timestamps[0]) == ("observed", pd.Timestamp("2024-05-28 04:00"))

    def test_round_the_clock_without_a_weekend_may_be_either(self) -> None:
        hours = pd.date_range("2024-05-20 22:00", "2024-05-23 20:00", freq="1h", tz="UTC")
        found = future_times(hours, 1)
        assert found.calendar == "step"
        assert "24/7 and FX fit the times alike" in "; ".join(found.notes)
        assert future_times(hours, 1, symbol="BTCUSDT").calendar == "24/7"
        assert future_times(hours, 1, symbol="EURUSD").calendar == "FX"

    def test_exchanges_of_the_same_hours(self) -> None:
        """New York and Toronto: a holiday of one tells them apart, days without one do not."""
        day = pd.timedelta_range("9h30min", "15h30min", freq="30min")
        alike = pd.DatetimeIndex([d + hour for d in sessions("XNYS", "2024-06-14", 8) for hour in day])
        found = future_times(alike, 1)
        assert found.calendar == "XNYS"
        assert "calendar='XTSE' (--calendar XTSE)" in "; ".join(found.notes)
        apart = pd.DatetimeIndex([d + hour for d in sessions("XNYS", "2024-06-14", 20) for hour in day])
        assert len(future_times(apart, 1).notes) == 1

    def test_one_day_of_a_named_symbol_ends_at_the_close(self) -> None:
        day = pd.date_range("2024-06-20 09:30", "2024-06-20 15:55", freq="5min")
        assert future_timestamps(pd.DataFrame({"timestamp": day, "symbol": "AAPL"}), 1)[0] == pd.Timestamp(
            "2024-06-21 09:30"
        )


@pytest.mark.parametrize(
    ("symbol", "named", "likely"),
    [
        ("AAPL", None, "XNYS"),
        ("NASDAQ:AAPL", "XNYS", None),
        ("BRK.B", None, "XNYS"),
        ("EURUSD", None, "FX"),
        ("EUR/USD", None, "FX"),
        ("BTC/USDT", None, "24/7"),
        ("btcusdt", None, "24/7"),
        ("0700.HK", "XHKG", None),
        ("005930", None, None),
        (None, None, None),
    ],
)
def test_symbols(symbol: str | None, named: str | None, likely: str | None) -> None:
    assert symbol_hint(symbol) == named
    assert likely_calendar(symbol) == likely

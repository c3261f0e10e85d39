"""How many bars a year has, by the calendar of the bars."""

from __future__ import annotations

import pandas as pd
import pytest

from kronos.backtesting.config import ResearchConfig
from kronos.bars.calendar import SESSIONS_A_YEAR, bars_a_year
from kronos.errors import CalendarError, ConfigError

DAYS = pd.bdate_range("2023-01-02", "2023-12-29")


@pytest.mark.parametrize(
    ("calendar", "frequency", "bars", "counted"),
    [
        ("24/7", "1d", 365, "365 days a year, round the clock"),
        ("24/7", "4h", 2190, "365 days a year, round the clock"),
        ("24/7", "30s", 1_051_200, "365 days a year, round the clock"),
        ("step", "1h", 8760, "365 days a year, round the clock"),
        ("XNYS", "1d", 252, "252 sessions a year of XNYS"),
        ("XNYS", "1h", 1759, "252 sessions a year of XNYS"),  # seven begun hours, four on seven early closes
        ("XSHG", "1d", 243, "243 sessions a year of XSHG"),
        ("XSHG", "5m", 48 * 243, "243 sessions a year of XSHG"),  # lunch holds no bars
        ("FX", "1d", 260, "260 sessions a year of FX"),
        ("XNYS", "1w", 52, "52 weeks a year"),
        ("XNYS", "1mo", 12, "12 months a year"),
        ("XNYS", "3mo", 4, "12 months a year"),
        ("observed", "1d", 261, "5 days a week as seen, holidays not counted"),
        ("given", "1d", 261, "5 days a week as seen, holidays not counted"),
        (None, "1d", 261, "5 days a week as seen, holidays not counted"),
    ],
)
def test_bars_a_year(calendar: str | None, frequency: str, bars: int, counted: str) -> None:
    found = bars_a_year(DAYS, calendar, frequency)
    assert (found.bars, found.counted) == (bars, counted)


def test_hours_that_are_seen_go_on_all_year() -> None:
    hours = pd.DatetimeIndex([day + pd.Timedelta(hours=h) for day in DAYS[:40] for h in range(9, 17)])
    found = bars_a_year(hours, "observed", "1h")
    assert (found.bars, found.basis) == (round(40 * 365 / 7), "seen")


def test_unknown_sizes_and_calendars_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a bar size"):
        bars_a_year(DAYS, "XNYS", "often")
    with pytest.raises(CalendarError, match="Unknown calendar"):
        bars_a_year(DAYS, "XNIX", "1d")


def test_the_convention_stands_once() -> None:
    assert ResearchConfig.model_fields["sessions_per_year"].default == SESSIONS_A_YEAR == 252

"""nautilus_trader's bars in and forecast bars out, as its own objects."""

from __future__ import annotations

import numpy.testing as npt
import pandas as pd
import pytest
from tests.adapters.conftest import HORIZON, needs, walk

from kronos import KronosPredictor
from kronos.errors import ConfigError, DataError

needs("nautilus_trader")
from nautilus_trader.model.data import Bar, BarType  # noqa: E402
from nautilus_trader.model.objects import Price, Quantity  # noqa: E402

from kronos.adapters import bars_from_nautilus, bars_to_nautilus  # noqa: E402

KIND = "BTCUSDT.BINANCE-5-MINUTE-LAST-EXTERNAL"


@pytest.fixture
def listed() -> list[Bar]:
    """Bars of five minutes with two decimals of price and three of size."""
    table, kind = walk(200, 5, "5min").tz_localize("UTC"), BarType.from_str(KIND)
    moments = table.index.as_unit("ns").asi8
    return [
        Bar(kind, *(Price(value, 2) for value in row[:4]), Quantity(row[4], 3), int(moment), int(moment))
        for row, moment in zip(table.to_numpy(), moments, strict=True)
    ]


def test_a_list_becomes_bars(listed: list[Bar]) -> None:
    bars = bars_from_nautilus(listed)
    assert len(bars) == 200
    assert set(bars["symbol"]) == {"BTCUSDT.BINANCE"}
    assert str(bars["timestamp"].dt.tz) == "UTC"
    assert bars["close"].iloc[-1] == float(listed[-1].close)
    assert bars["timestamp"].iloc[-1].value == listed[-1].ts_event


def test_bars_go_there_and_back(listed: list[Bar]) -> None:
    assert [Bar.to_dict(bar) for bar in bars_to_nautilus(bars_from_nautilus(listed), listed[0])] == [
        Bar.to_dict(bar) for bar in listed
    ]


def test_forecast_bars_follow_on_those_that_came_in(tiny: KronosPredictor, listed: list[Bar]) -> None:
    forecast = tiny.forecast(bars_from_nautilus(listed), horizon=HORIZON, num_samples=20, calendar="24/7", stamp="end")
    mean, path = bars_to_nautilus(forecast, listed[-1]), bars_to_nautilus(forecast, listed[-1], path=3)
    assert len(mean) == len(path) == HORIZON
    assert mean[0].ts_event == listed[-1].ts_event + pd.Timedelta("5min").value
    assert str(mean[0].bar_type) == KIND
    npt.assert_allclose([float(bar.close) for bar in path], forecast.samples[3, :, 3], atol=0.0051)
    npt.assert_allclose([float(bar.volume) for bar in mean], forecast.mean()["volume"], atol=0.00051)


def test_what_is_not_one_series_is_refused(tiny: KronosPredictor, listed: list[Bar]) -> None:
    with pytest.raises(DataError, match="no bars"):
        bars_from_nautilus([])
    other = BarType.from_str(KIND.replace("5-MINUTE", "1-MINUTE"))
    last = listed[-1]
    odd = Bar(other, last.open, last.high, last.low, last.close, last.volume, last.ts_event + 1, last.ts_init + 1)
    with pytest.raises(DataError, match="2 types"):
        bars_from_nautilus([*listed, odd])
    forecast = tiny.forecast(bars_from_nautilus(listed), horizon=2, num_samples=20, calendar="24/7")
    with pytest.raises(ConfigError, match="from 0 to 19"):
        bars_to_nautilus(forecast, last, path=20)

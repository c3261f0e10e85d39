"""Splits are suspected where they are, and prices change only by the factor that was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kronos.bars import adjust_bars, inspect_bars, sample_bars, split_suspects
from kronos.bars.adjust import mend_breaks
from kronos.errors import ConfigError

PRICES = ["open", "high", "low", "close"]


def split(ratio: float, row: int = 2500) -> pd.DataFrame:
    bars = sample_bars("sp500").copy()
    bars.loc[bars.index < row, PRICES] *= ratio
    bars.loc[bars.index < row, "volume"] /= ratio
    return bars


@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 10.0, 0.1, 0.5])
def test_a_split_is_suspected(ratio: float) -> None:
    bars = split(ratio)
    found = [suspect for suspect in split_suspects(bars) if suspect.row == 2501]
    assert len(found) == 1
    assert found[0].ratio == pytest.approx(ratio)
    assert found[0].timestamp == bars["timestamp"][2500]
    assert found[0].symbol == "SP500"
    assert any(warning.kind == "split_suspect" for warning in inspect_bars(bars).warnings)


def test_no_split_in_an_index() -> None:
    assert split_suspects(sample_bars("sp500")) == []
    assert split_suspects(sample_bars("eurusd")) == []


def test_adjusting_undoes_the_split() -> None:
    bars = split(4.0)
    fixed = adjust_bars(bars, {bars["timestamp"][2500]: 4.0})
    np.testing.assert_allclose(fixed[PRICES], sample_bars("sp500")[PRICES])
    np.testing.assert_allclose(fixed["volume"], sample_bars("sp500")["volume"])
    assert "divided by 4" in fixed.attrs["report"].notes[-1]
    dividend = adjust_bars(bars, {bars["timestamp"][2500]: (4.0, False)})
    np.testing.assert_array_equal(dividend["volume"], bars["volume"])


def test_a_factor_does_the_same_as_one_of_a_forecast() -> None:
    bars = split(1.3)
    date = f"{bars['timestamp'][2500]:%Y-%m-%d}"
    mended, notes = mend_breaks(bars, f"{date}=1.3")
    fixed = adjust_bars(bars, {date: 1.3})
    pd.testing.assert_frame_equal(fixed, mended, check_exact=True)
    assert fixed.attrs["report"].notes[-1] in notes


def test_a_day_that_begins_without_its_midnight() -> None:
    """On 4 November 2018 the clocks of São Paulo went from 23:59 to 1:00."""
    times = pd.date_range("2018-10-25", periods=500, freq="h", tz="America/Sao_Paulo")
    bars = sample_bars("sp500").iloc[:500].reset_index(drop=True).assign(timestamp=times)
    earlier = times < pd.Timestamp("2018-11-04 01:00", tz="America/Sao_Paulo")
    for fixed in (adjust_bars(bars, {"2018-11-04": 4.0}), mend_breaks(bars, "2018-11-04=4")[0]):
        np.testing.assert_array_equal(fixed["close"], bars["close"] * np.where(earlier, 0.25, 1.0))


@pytest.mark.parametrize(
    "factors",
    [
        {"2008-01-02": 0.0},
        {"2008-01-02": float("nan")},
        {"1990-01-01": 2.0},
        {"soon": 2.0},
        {pd.Timestamp("2008-01-02", tz="UTC"): 2.0},
    ],
)
def test_refusals(factors: dict[str | pd.Timestamp, float]) -> None:
    with pytest.raises(ConfigError):
        adjust_bars(sample_bars("sp500"), factors)

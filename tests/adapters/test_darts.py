"""darts with our model: shapes, times, samples and historical forecasts through its own calls."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from tests.adapters.conftest import HORIZON, needs, walk

from kronos import KronosPredictor
from kronos.errors import FewPathsWarning

needs("darts")
from darts import TimeSeries, metrics  # noqa: E402

from kronos.adapters import DartsModel  # noqa: E402


@pytest.fixture
def closes(bars: pd.DataFrame) -> TimeSeries:
    return TimeSeries.from_series(bars["close"])


def test_sample_paths_of_closes(tiny: KronosPredictor, closes: TimeSeries) -> None:
    found = DartsModel(tiny).fit(closes).predict(HORIZON, num_samples=24)
    assert found.all_values().shape == (HORIZON, 1, 24)
    assert found.start_time() == closes.end_time() + closes.freq
    assert list(found.components) == ["close"]
    low, high = found.quantile(0.1).values(), found.quantile(0.9).values()
    assert (low < high).all()


def test_one_sample_is_the_mean_of_the_paths(tiny: KronosPredictor, closes: TimeSeries) -> None:
    model = DartsModel(tiny, num_paths=24).fit(closes)
    mean, paths = model.predict(HORIZON), model.predict(HORIZON, num_samples=24)
    npt.assert_allclose(mean.values(), paths.all_values().mean(axis=2), rtol=1e-6)


def test_whole_bars_in_and_out(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    series = TimeSeries.from_dataframe(bars[["close", "open", "high", "low", "volume"]])
    found = DartsModel(tiny).fit(series).predict(HORIZON, num_samples=20).all_values()
    assert found.shape == (HORIZON, 5, 20)
    close, opened, high, low, volume = found.transpose(1, 0, 2)
    assert (high >= np.maximum(opened, close)).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (volume >= 0).all()


def test_many_series_and_seeds(tiny: KronosPredictor, closes: TimeSeries) -> None:
    other = TimeSeries.from_series(walk(80, seed=8)["close"])
    model = DartsModel(tiny).fit([closes, other])
    first, second = model.predict(HORIZON, series=[closes, other], num_samples=20)
    npt.assert_array_equal(second.all_values(), model.predict(HORIZON, series=other, num_samples=20).all_values())
    assert second.start_time() == other.end_time() + other.freq
    again = model.predict(HORIZON, series=closes, num_samples=20, random_state=5)
    assert (first.all_values() != again.all_values()).any()


def test_business_days_that_were_holidays_are_left_out(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    gaps = TimeSeries.from_series(bars["close"].drop(bars.index[[20, 60]]), fill_missing_dates=True, freq="B")
    assert np.isnan(gaps.values()).sum() == 2
    assert len(DartsModel(tiny).fit(gaps).predict(2)) == 2


def test_historical_forecasts_and_backtest(tiny: KronosPredictor, closes: TimeSeries) -> None:
    words = {"start": 100, "forecast_horizon": 3, "stride": 5, "num_samples": 20, "retrain": False}
    model = DartsModel(tiny).fit(closes)
    found = model.historical_forecasts(closes, last_points_only=False, **words)
    assert len(found) == 4
    assert found[0].start_time() == closes.time_index[100]
    npt.assert_array_equal(  # the forecast of a date knows the bars before it alone
        found[0].all_values(), model.predict(3, series=closes[:100], num_samples=20).all_values()
    )
    assert 0 < model.backtest(closes, metric=metrics.mql, **words) < 10


def test_few_samples_warn(tiny: KronosPredictor, closes: TimeSeries) -> None:
    with pytest.warns(FewPathsWarning):
        DartsModel(tiny).fit(closes).predict(2, num_samples=5)

"""sktime with our forecaster: points, quantiles, intervals, its cross-validation and its own checks."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from tests.adapters.conftest import HORIZON, needs

from kronos import KronosPredictor
from kronos.errors import ConfigError, DataError, FewPathsWarning

needs("sktime")
from sktime.forecasting.base import ForecastingHorizon  # noqa: E402
from sktime.forecasting.model_evaluation import evaluate  # noqa: E402
from sktime.performance_metrics.forecasting.probabilistic import PinballLoss  # noqa: E402
from sktime.split import ExpandingWindowSplitter  # noqa: E402

from kronos.adapters import SktimeForecaster  # noqa: E402

STEPS = list(range(1, HORIZON + 1))


def test_points_quantiles_and_intervals_of_closes(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    forecaster = SktimeForecaster(tiny, num_samples=24).fit(bars["close"])
    mean = forecaster.predict(fh=STEPS)
    assert list(mean.index) == list(pd.date_range(bars.index[-1], periods=HORIZON + 1, freq="B")[1:])
    bands = forecaster.predict_quantiles(fh=STEPS, alpha=[0.1, 0.5, 0.9])
    assert list(bands.columns) == [("close", 0.1), ("close", 0.5), ("close", 0.9)]
    assert (bands[("close", 0.1)] < bands[("close", 0.9)]).all()
    interval = forecaster.predict_interval(fh=STEPS, coverage=0.8)
    npt.assert_allclose(interval[("close", 0.8, "lower")], bands[("close", 0.1)])
    npt.assert_allclose(interval[("close", 0.8, "upper")], bands[("close", 0.9)])


def test_whole_bars_and_some_steps(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    forecaster = SktimeForecaster(tiny, num_samples=24).fit(bars[["close", "open", "high", "low"]])
    every, some = forecaster.predict(fh=STEPS), forecaster.predict(fh=[2, 5])
    assert list(some) == ["close", "open", "high", "low"]
    pd.testing.assert_frame_equal(every.iloc[[1, 4]], some, check_freq=False, rtol=0.05)
    assert (every["high"] >= every[["open", "close"]].max(axis=1)).all()
    bands = forecaster.predict_quantiles(fh=[1, 3], alpha=[0.25, 0.75])
    assert bands.shape == (2, 8)
    assert (bands[("high", 0.75)] >= bands[("close", 0.75)]).all()


def test_times_of_the_next_bars(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    """Trading days keep no regular step: the horizon that names them is the next bars."""
    days = bars["close"].drop(bars.index[50])
    times = pd.DatetimeIndex(["2022-06-20", "2022-06-22", "2022-06-23"])
    found = SktimeForecaster(tiny, num_samples=20).fit(days).predict(fh=ForecastingHorizon(times, is_relative=False))
    assert list(found.index) == list(times)
    for past in ([-1, 1], ForecastingHorizon(days.index[-2:], is_relative=False)):
        with pytest.raises(ConfigError, match="steps from 1 on"):
            SktimeForecaster(tiny, num_samples=20).fit(bars["close"]).predict(fh=past)


def test_periods(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    closes = bars["close"].set_axis(pd.period_range("2015-01", periods=len(bars), freq="M"))
    found = SktimeForecaster(tiny, num_samples=20).fit(closes).predict(fh=[1, 2])
    assert list(found.index.astype(str)) == ["2025-01", "2025-02"]


def test_cross_validation(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    splitter = ExpandingWindowSplitter(fh=[1, 2, 3], initial_window=100, step_length=10)
    scores = evaluate(SktimeForecaster(num_samples=20), splitter, bars["close"], scoring=PinballLoss(alpha=[0.1, 0.9]))
    assert len(scores) == 2
    assert (scores["test_PinballLoss"] > 0).all()


def test_few_paths_give_no_interval(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    forecaster = SktimeForecaster(tiny, num_samples=5).fit(bars["close"])
    with pytest.warns(FewPathsWarning):
        bands = forecaster.predict_quantiles(fh=[1, 2], alpha=[0.1, 0.5, 0.9])
    assert bands[[("close", 0.1), ("close", 0.9)]].isna().all().all()
    assert bands[("close", 0.5)].notna().all()


def test_rows_that_are_counted_are_refused(tiny: KronosPredictor, bars: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="DatetimeIndex"):
        SktimeForecaster(tiny).fit(bars["close"].reset_index(drop=True)).predict(fh=[1])
    assert np.isfinite(bars["close"]).all()

"""Paths whose volatility is moved towards that of the pooled HAR model."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
import tiny

from kronos.errors import ConfigError
from kronos.inference.assemble import har_factors, widen
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor
from kronos.protocol import CLOSE, FEATURES, Context
from kronos.spec import ForecastSpec
from kronos.volatility import log_levels, pooled_har, usual_variance


def context_of(bars: pd.DataFrame, forecast: Forecast) -> Context:
    values = bars[list(FEATURES)].to_numpy(dtype=float)
    return Context.of_times("series", pd.DatetimeIndex(bars["timestamp"]), values, forecast.timestamps)


def log_closes(forecast: Forecast) -> np.ndarray:
    return np.asarray(np.log(forecast.close() / forecast.last_close))


def test_whole_weight_gives_the_level_of_har(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    found = predictor.forecast(bars, 8, 20, seed=2, har_weight=1.0)
    assert found.metadata["settings"]["har_weight"] == 1.0
    assert found.history is not None  # the bars that were read
    context = context_of(found.history, found)
    own = log_closes(predictor.forecast(bars, 8, 20, seed=2, har_weight=0.0))
    level = log_levels(own, usual_variance(context))
    factors = np.exp((pooled_har().log_ratios(context, 8) - level) / 2)
    npt.assert_allclose(log_closes(found), own * factors, rtol=1e-3, atol=1e-6)


def test_paths_of_a_market_reach_the_level(bars: pd.DataFrame) -> None:
    rng, times = np.random.default_rng(0), bars["timestamp"]
    context = Context.of_times(
        "A", pd.DatetimeIndex(times), bars[list(FEATURES)].to_numpy(), times.iloc[-1] + pd.to_timedelta([1, 2], "D")
    )
    wanted, usual = pooled_har().log_ratios(context, 2), usual_variance(context)
    for size in (0.8, 1.0, 1.25):
        moves = size * np.sqrt(usual) * rng.standard_normal((50, 2))
        paths = np.repeat(context.last_close * np.exp(np.cumsum(moves, axis=1))[..., None], 6, axis=2)
        found = widen(paths, context.last_close, har_factors(paths, context, 1.0))
        level = log_levels(np.log(found[..., CLOSE] / context.last_close), usual)
        npt.assert_allclose(level[0], wanted[0], atol=0.15)  # not quite equal: ln(x + .02) bends


def test_half_a_weight_goes_half_the_way(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    own, half, whole = (log_closes(predictor.forecast(bars, 8, 20, seed=2, har_weight=w)) for w in (0.0, 0.5, 1.0))
    npt.assert_allclose(half / own, np.sqrt(whole / own), rtol=1e-3)
    factors = whole / own
    npt.assert_allclose(factors, np.broadcast_to(factors[0], factors.shape), rtol=1e-3)  # one for each bar ahead


def test_bars_stay_valid_and_traded_volume_stays(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    found, plain = (predictor.forecast(bars, 8, 20, seed=2, har_weight=w).samples for w in (0.9, 0.0))
    opened, high, low, close = np.moveaxis(found[..., : CLOSE + 1], -1, 0)
    assert (low > 0).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()
    npt.assert_array_equal(found[..., 4:], plain[..., 4:])


def test_a_longer_horizon_and_more_paths_keep_the_earlier_ones(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    short = predictor.forecast(bars, 4, 60, seed=2, har_weight=0.5).samples
    npt.assert_allclose(predictor.forecast(bars, 9, 60, seed=2, har_weight=0.5).samples[:, :4], short, rtol=2e-5)
    npt.assert_allclose(predictor.forecast(bars, 4, 90, seed=2, har_weight=0.5).samples[:60], short, rtol=2e-5)


def test_a_context_that_stands_still_keeps_its_paths(bars: pd.DataFrame) -> None:
    still = bars.copy()
    still[["open", "high", "low", "close"]] = 100.0
    predictor = tiny.predictor(tiny.published())
    found, plain = (predictor.forecast(still, 4, 20, har_weight=w).samples for w in (1.0, 0.0))
    npt.assert_array_equal(found, plain)


def test_judges_get_the_same_paths(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    found = predictor.forecast(bars, 5, 20, seed=2, har_weight=0.7)
    spec = ForecastSpec(horizon=5, num_samples=20, seed=2, har_weight=0.7)
    (judged,) = predictor.sample_paths([context_of(bars, found)], spec)
    npt.assert_allclose(judged, found.samples, rtol=1e-4)


def test_a_share_is_a_share(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="har_weight"):
        predictor.forecast(bars, 5, 20, har_weight=1.5)


def test_few_bars_and_the_likeliest_path_keep_their_level(predictor: KronosPredictor, bars: pd.DataFrame) -> None:
    few = bars.iloc[-10:].reset_index(drop=True)
    found, plain = (predictor.forecast(few, 4, 20, har_weight=w).samples for w in (1.0, 0.0))
    npt.assert_array_equal(found, plain)
    found, plain = (predictor.forecast(bars, 4, 1, temperature=0.0, har_weight=w).samples for w in (1.0, 0.0))
    npt.assert_array_equal(found, plain)

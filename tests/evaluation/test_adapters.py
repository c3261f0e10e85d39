"""Adapters: the margins are the model's, the bars are valid, and wrong answers are named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.evaluation.forecasters import asking

from kronos.errors import ConfigError
from kronos.evaluation import metrics
from kronos.evaluation.adapters import PointForecaster, QuantileForecaster, SampleForecaster
from kronos.protocol import CLOSE, Context, Forecaster


def lognormal(closes: list[np.ndarray], horizon: int, levels: list[float]) -> np.ndarray:
    """Quantiles of a random walk with one percent a step."""
    spread = 0.01 * np.sqrt(np.arange(1, horizon + 1))
    return np.stack([c[-1] * np.exp(np.outer(spread, stats.norm.ppf(levels))) for c in closes])


def test_margins_are_the_models_and_bars_are_valid(context: Context) -> None:
    forecaster = QuantileForecaster("log-normal", lognormal)
    assert isinstance(forecaster, Forecaster)
    (paths,) = forecaster.sample_paths([context], asking(6, 199, 0))
    assert metrics.invalid_bars(paths).sum() == 0
    for h in range(6):
        scores = np.sort(np.log(paths[:, h, CLOSE] / context.last_close)) / (0.01 * np.sqrt(h + 1))
        assert scores == pytest.approx(stats.norm.ppf((np.arange(199) + 0.5) / 199), abs=1e-9)  # tails included
    again = forecaster.sample_paths([context, context], asking(6, 199, 0))[1]
    assert np.array_equal(paths, again)


def test_steps_hang_together_like_a_random_walk(context: Context) -> None:
    (paths,) = QuantileForecaster("log-normal", lognormal).sample_paths([context], asking(20, 2000, 0))
    logs = np.log(paths[..., CLOSE] / context.last_close)
    assert np.corrcoef(logs[:, 4], logs[:, 19])[0, 1] == pytest.approx(np.sqrt(5 / 20), abs=0.06)


def test_point_models(context: Context) -> None:
    def trend(closes: np.ndarray, horizon: int) -> np.ndarray:
        return closes[-1] * 1.01 ** np.arange(1, horizon + 1)

    (paths,) = PointForecaster("trend", trend).sample_paths([context], asking(5, 50, 0))
    assert paths.shape == (1, 5, 6)
    assert paths[0, 4, CLOSE] == pytest.approx(context.last_close * 1.01**5)
    assert metrics.invalid_bars(paths).sum() == 0


def test_sampled_closes_are_taken_as_they_are(context: Context) -> None:
    closes = 50 * np.exp(np.random.default_rng(0).normal(0, 0.1, size=(7, 5)))
    (paths,) = SampleForecaster("given", lambda *_: closes).sample_paths([context], asking(5, 7, 0))
    assert paths[..., CLOSE] == pytest.approx(closes, rel=1e-12)
    assert metrics.invalid_bars(paths).sum() == 0


def test_models_that_answer_wrongly_are_named(context: Context) -> None:
    with pytest.raises(ConfigError, match="'odd'"):
        PointForecaster("odd", lambda closes, horizon: closes[:2]).sample_paths([context], asking(5, 1, 0))
    with pytest.raises(ConfigError, match="not finite"):
        QuantileForecaster("odd", lambda c, h, q: np.full((1, h, len(q)), np.nan)).sample_paths(
            [context], asking(5, 9, 0)
        )
    with pytest.raises(ConfigError, match="2 of 1 contexts"):
        QuantileForecaster("odd", lambda c, h, q: np.ones((2, h, len(q)))).sample_paths([context], asking(5, 9, 0))
    with pytest.raises(ConfigError, match=r"\(3, 5\); expected \(7, 5\)"):
        SampleForecaster("odd", lambda *_: np.ones((3, 5))).sample_paths([context], asking(5, 7, 0))
    with pytest.raises(ConfigError, match="ascend"):
        QuantileForecaster("odd", lognormal, (0.5, 0.1))


def test_negative_prices_are_cut_at_a_thousandth(context: Context) -> None:
    (paths,) = PointForecaster("bear", lambda closes, horizon: np.array([90.0, -5.0])).sample_paths(
        [context], asking(2, 1, 0)
    )
    assert paths[0, :, CLOSE] == pytest.approx([90.0, 1e-3 * context.last_close])
    assert metrics.invalid_bars(paths).sum() == 0

"""Adapters: the margins are the model's, the bars are valid, and what is not installed is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation import metrics
from kronos.evaluation.adapters import PointForecaster, QuantileForecaster, chronos_forecaster
from kronos.evaluation.protocol import CLOSE, Context, Forecaster


def lognormal(closes: list[np.ndarray], horizon: int, levels: list[float]) -> np.ndarray:
    """Quantiles of a random walk with one percent a step."""
    spread = 0.01 * np.sqrt(np.arange(1, horizon + 1))
    return np.stack([c[-1] * np.exp(np.outer(spread, stats.norm.ppf(levels))) for c in closes])


def test_margins_are_the_models_and_bars_are_valid(context: Context) -> None:
    forecaster = QuantileForecaster("log-normal", lognormal)
    assert isinstance(forecaster, Forecaster)
    (paths,) = forecaster.forecast([context], 6, 199, 0)
    assert metrics.invalid_bars(paths).sum() == 0
    for h in range(6):
        scores = np.sort(np.log(paths[:, h, CLOSE] / context.last_close)) / (0.01 * np.sqrt(h + 1))
        assert scores == pytest.approx(stats.norm.ppf((np.arange(199) + 0.5) / 199), abs=1e-9)  # tails included
    again = forecaster.forecast([context, context], 6, 199, 0)[1]
    assert np.array_equal(paths, again)


def test_steps_hang_together_like_a_random_walk(context: Context) -> None:
    (paths,) = QuantileForecaster("log-normal", lognormal).forecast([context], 20, 2000, 0)
    logs = np.log(paths[..., CLOSE] / context.last_close)
    assert np.corrcoef(logs[:, 4], logs[:, 19])[0, 1] == pytest.approx(np.sqrt(5 / 20), abs=0.06)


def test_point_models(context: Context) -> None:
    def trend(closes: np.ndarray, horizon: int) -> np.ndarray:
        return closes[-1] * 1.01 ** np.arange(1, horizon + 1)

    (paths,) = PointForecaster("trend", trend).forecast([context], 5, 50, 0)
    assert paths.shape == (1, 5, 6)
    assert paths[0, 4, CLOSE] == pytest.approx(context.last_close * 1.01**5)
    assert metrics.invalid_bars(paths).sum() == 0


def test_models_that_answer_wrongly_are_named(context: Context) -> None:
    with pytest.raises(ConfigError, match="'odd'"):
        PointForecaster("odd", lambda closes, horizon: closes[:2]).forecast([context], 5, 1, 0)
    with pytest.raises(ConfigError, match="positive prices"):
        QuantileForecaster("odd", lambda c, h, q: np.zeros((1, h, len(q)))).forecast([context], 5, 9, 0)
    with pytest.raises(ConfigError, match="ascend"):
        QuantileForecaster("odd", lognormal, (0.5, 0.1))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(MissingExtraError, match="chronos-forecasting"):
        chronos_forecaster()

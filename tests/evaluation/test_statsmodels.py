"""Point models of statsmodels: their own forecasts, in prices."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.evaluation.forecasters import asking

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.adapters import NAMED, point_model, statsmodels_forecaster
from kronos.protocol import CLOSE, Context


@pytest.mark.parametrize("name", NAMED)
def test_named_models_continue_the_series(name: str, context: Context) -> None:
    pytest.importorskip("statsmodels")
    (paths,) = statsmodels_forecaster(name).sample_paths([context], asking(5, 50, 0))
    assert paths.shape == (1, 5, 6)
    moves = np.log(paths[0, :, CLOSE] / context.last_close) / context.volatility()
    assert np.abs(moves).max() < 4  # near where the market stands: none knows more about a random walk


def test_a_model_of_ones_own_sees_log_closes(context: Context) -> None:
    arima = pytest.importorskip("statsmodels.tsa.arima.model")
    seen = []

    def build(y: np.ndarray) -> object:
        seen.append(y)
        return arima.ARIMA(y, order=(0, 1, 0))  # its forecast is the last value

    (paths,) = point_model("walk", build).sample_paths([context], asking(4, 1, 0))
    assert seen[0] == pytest.approx(np.log(context.values[:, CLOSE]))
    assert paths[0, :, CLOSE] == pytest.approx(np.full(4, context.last_close), rel=1e-9)


def test_failures_are_named(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(y: np.ndarray) -> object:
        raise ValueError("no such order")

    with pytest.raises(ConfigError, match=r"'odd' could not be fitted.*no such order"):
        point_model("odd", build).sample_paths([context], asking(4, 1, 0))
    with pytest.raises(ConfigError, match="arima, ets, theta"):
        statsmodels_forecaster("prophet")
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MissingExtraError, match="statsmodels"):
        statsmodels_forecaster("arima")

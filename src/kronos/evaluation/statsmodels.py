"""Point models in the manner of statsmodels: built on one series, fitted, asked for the mean of the next steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kronos.errors import ConfigError, MissingExtraError
from kronos.evaluation.adapters import PointForecaster
from kronos.protocol import FloatArray

#: A series (T,) → an unfitted model, whose ``fit().forecast(horizon)`` gives (horizon,).
Build = Callable[[FloatArray], Any]


def point_model(name: str, build: Build) -> PointForecaster:
    """Any model with ``fit()`` and ``forecast(horizon)`` as a forecaster, fitted anew on every context.

    It sees and forecasts the logarithm of the close, so that its forecasts are prices whatever it does.

    Args:
        name: for the tables.
        build: see :data:`Build`, such as ``lambda y: ARIMA(y, order=(1, 1, 0))``.
    """

    def closes(past: FloatArray, horizon: int) -> FloatArray:
        try:
            model = build(np.log(past))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of convergence, on thousands of windows
                found = model.fit().forecast(horizon)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise ConfigError(f"forecaster {name!r} could not be fitted to a context: {error}") from error
        return np.asarray(np.exp(np.asarray(found, dtype=float)))

    return PointForecaster(name, closes)


def _arima(y: FloatArray) -> Any:
    from statsmodels.tsa.arima.model import ARIMA

    return ARIMA(y, order=(1, 1, 1))


def _ets(y: FloatArray) -> Any:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    return ExponentialSmoothing(y, trend="add", damped_trend=True, initialization_method="estimated")


def _theta(y: FloatArray) -> Any:
    from statsmodels.tsa.forecasting.theta import ThetaModel

    return ThetaModel(y, period=1, deseasonalize=False)


#: The models that have a name: ARIMA(1,1,1), damped trend, and the theta method.
NAMED: dict[str, Build] = {"arima": _arima, "ets": _ets, "theta": _theta}


def statsmodels_forecaster(name: str) -> PointForecaster:
    """One of :data:`NAMED`.

    Raises:
        ConfigError: an unknown name. MissingExtraError: statsmodels is not installed.
    """
    if name not in NAMED:
        raise ConfigError(f"unknown point model {name!r}; known: {', '.join(NAMED)}")
    try:
        import statsmodels  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("statsmodels", "eval", f"The point model {name!r}") from error
    return point_model(name, NAMED[name])

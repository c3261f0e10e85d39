"""Kronos as an sktime forecaster, with quantiles and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sktime.forecasting.base import BaseForecaster, ForecastingHorizon

from kronos.adapters.series import TargetSeries, forecasts_of, series_of, spec_of
from kronos.errors import ConfigError
from kronos.inference.certainty import Shown
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor


class SktimeForecaster(BaseForecaster):  # type: ignore[misc]
    """Forecasts a series of closes, or a frame of bars, through sktime's interface.

    ``fit`` keeps the series, whose last bars are read, and trains nothing; ``predict`` gives the mean of the paths,
    ``predict_quantiles`` and ``predict_interval`` their quantiles, NaN where fewer than 20 distinct paths cannot tell.
    Times that keep no regular step, such as trading days, are given as an absolute horizon: they are the next bars.

    Args:
        model: a checkpoint's name or folder, or a loaded ``KronosPredictor``.
        num_samples: sample paths.
        seed: the same seed gives the same paths.
        settings: other fields of ``ForecastSpec``, such as ``{"temperature": 0.9}``.

    Raises:
        ConfigError: a setting out of range, or steps of the past. DataError: of ``predict``, a series of no prices.
    """

    _tags: ClassVar[dict[str, Any]] = {
        "y_inner_mtype": "pd.DataFrame",
        "X_inner_mtype": "pd.DataFrame",
        "capability:multivariate": True,
        "capability:exogenous": False,
        "capability:insample": True,  # or sktime asks for a regular step before it hands over any times
        "capability:missing_values": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "requires-fh-in-fit": False,
        "python_dependencies": ["torch"],
    }

    def __init__(
        self,
        model: str | KronosPredictor = "kronos-nano",
        num_samples: int = 100,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.num_samples = num_samples
        self.seed = seed
        self.settings = settings
        super().__init__()

    def _fit(self, y: pd.DataFrame, X: Any = None, fh: Any = None) -> SktimeForecaster:
        spec_of(1, self.num_samples, self.seed, self.settings)
        self.context_ = y
        return self

    def _predict(self, fh: Any, X: Any = None) -> pd.DataFrame:
        series, forecast, rows, index = self._forecast(fh)
        mean = series.of(forecast.mean().to_numpy()[None])[0]
        return pd.DataFrame(mean[rows], index, self.context_.columns)

    def _predict_quantiles(self, fh: Any, X: Any, alpha: Sequence[float]) -> pd.DataFrame:
        series, forecast, rows, index = self._forecast(fh)
        values = series.of(Shown(forecast).quantiles(list(alpha)))  # (L, H, C)
        columns = pd.MultiIndex.from_product([self._get_varnames(), alpha])
        return pd.DataFrame(values[:, rows].transpose(1, 2, 0).reshape(len(rows), -1), index, columns)

    def _forecast(self, fh: Any) -> tuple[TargetSeries, Forecast, np.ndarray[Any, Any], pd.Index[Any]]:
        """The series, the forecast up to the last step asked for, which of its bars are asked for, and their index."""
        index = fh.to_absolute_index(self.cutoff)
        try:
            steps = np.asarray(fh.to_relative(self.cutoff).to_pandas(), dtype=int)
            whole = ForecastingHorizon(np.arange(1, steps.max() + 1), is_relative=True).to_absolute_index(self.cutoff)
        except (TypeError, ValueError):  # times without a regular step: they are the next bars
            steps, whole = np.arange(1, len(index) + 1), index
        if steps.min() < 1 or whole[0] <= self.context_.index[-1]:
            raise ConfigError("SktimeForecaster forecasts bars after the last one; ask for steps from 1 on")
        spec = spec_of(int(steps.max()), self.num_samples, self.seed, self.settings)
        y = self.context_
        series = series_of(y.to_numpy(), y.index, list(y.columns), whole)
        ((series, forecast),) = forecasts_of(self.model, [series], spec)
        return series, forecast, steps - 1, index

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        """Settings for sktime's own checks."""
        return {"num_samples": 20}

"""Kronos as a darts model, for ``predict``, ``historical_forecasts`` and ``backtest``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from darts import TimeSeries
from darts.models.forecasting.forecasting_model import GlobalForecastingModel
from darts.utils.utils import generate_index

from kronos.adapters.series import TargetSeries, forecasts_of, series_of, spec_of
from kronos.inference.predictor import KronosPredictor


class DartsModel(GlobalForecastingModel):  # type: ignore[misc]
    """Forecasts a univariate ``TimeSeries`` of closes, or a multivariate one with the components of a bar.

    ``fit`` keeps the series and trains nothing. ``predict(n, num_samples=S)`` with S > 1 gives S sample paths; with
    the one sample of darts' default it gives the mean of ``num_paths`` paths. darts makes quantiles of any number of
    samples; of fewer than 20 distinct paths they are no estimate, and a ``FewPathsWarning`` says so.

    Args:
        model: a checkpoint's name or folder, or a loaded ``KronosPredictor``.
        num_paths: paths behind a mean.
        seed: the same seed gives the same paths; ``random_state`` of ``predict`` goes before it.
        min_context: bars that ``historical_forecasts`` waits for before the first forecast.
        settings: other fields of ``ForecastSpec``, such as ``temperature`` and ``context_length``.
    """

    def __init__(
        self,
        model: str | KronosPredictor = "kronos-nano",
        num_paths: int = 100,
        seed: int = 0,
        min_context: int = 64,
        **settings: Any,
    ) -> None:
        super().__init__()
        spec_of(1, num_paths, seed, settings)
        self.model, self.num_paths, self.seed, self.min_context, self.settings = (
            model, num_paths, seed, min_context, settings
        )  # fmt: skip

    def fit(
        self, series: Any, past_covariates: Any = None, future_covariates: Any = None, verbose: bool | None = None
    ) -> DartsModel:
        """Keeps the series; nothing is trained."""
        super().fit(series, past_covariates, future_covariates, verbose=verbose)
        return self

    def predict(
        self,
        n: int,
        series: Any = None,
        past_covariates: Any = None,
        future_covariates: Any = None,
        num_samples: int = 1,
        verbose: bool | None = None,
        predict_likelihood_parameters: bool = False,
        show_warnings: bool = True,
        random_state: int | None = None,
    ) -> Any:
        """The next ``n`` bars of the series, or of each of a sequence, as darts' other models give them."""
        asked = self.training_series if series is None else series
        many: Sequence[TimeSeries] = [asked] if isinstance(asked, TimeSeries) else asked
        super().predict(n, asked, past_covariates, future_covariates, num_samples, verbose, random_state=random_state)
        paths, seed = (num_samples if num_samples > 1 else self.num_paths), self.seed
        spec = spec_of(n, paths, seed if random_state is None else random_state, self.settings)
        given = zip(many, forecasts_of(self.model, [_bars(one, n) for one in many], spec), strict=True)
        found = []
        for one, (bars, forecast) in given:
            values = bars.of(forecast.samples)  # (S, H, C)
            values = values if num_samples > 1 else values.mean(axis=0, keepdims=True)
            found.append(self._build_forecast_series(values.transpose(1, 2, 0), one))
        return found[0] if isinstance(asked, TimeSeries) else found

    @property
    def supports_multivariate(self) -> bool:
        return True

    @property
    def supports_probabilistic_prediction(self) -> bool:
        return True

    @property
    def supports_optimized_historical_forecasts(self) -> bool:
        return False

    @property
    def _requires_training(self) -> bool:
        return False

    @property
    def min_train_samples(self) -> int:
        return 1

    @property
    def _target_window_lengths(self) -> tuple[int, int]:
        return self.min_context, 0

    @property
    def extreme_lags(self) -> tuple[int, int, None, None, None, None, int]:
        return -self.min_context, 0, None, None, None, None, 0

    @property
    def _model_encoder_settings(self) -> tuple[None, None, bool, bool, None, None]:
        return None, None, False, False, None, None


def _bars(series: TimeSeries, n: int) -> TargetSeries:
    """A darts series as bars, with the next ``n`` times of its index."""
    future = generate_index(start=series.end_time() + series.freq, length=n, freq=series.freq)
    return series_of(series.values(), series.time_index, list(series.components), future)

"""Kronos as a GluonTS predictor, for ``evaluate_model`` and ``make_evaluation_predictions``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor

from kronos.adapters.series import TargetSeries, forecasts_of, series_of, spec_of
from kronos.inference.predictor import KronosPredictor


class GluonTSPredictor(Predictor):  # type: ignore[misc]
    """Forecasts the entries of a GluonTS data set as sample paths.

    An entry's ``target`` is (T,) closes, or (C, T) with the rows of a bar, ``open, high, low, close`` and perhaps
    ``volume, amount``; the forecast has the same dimensions.

    Args:
        model: a checkpoint's name or folder, or a loaded ``KronosPredictor``.
        prediction_length: bars ahead.
        num_samples: sample paths, where ``predict`` is not told how many. GluonTS makes quantiles of any number; of
            fewer than 20 distinct paths they are no estimate, and a ``FewPathsWarning`` says so.
        seed: the same seed gives the same paths.
        settings: other fields of ``ForecastSpec``, such as ``temperature`` and ``context_length``.

    Raises:
        ConfigError: a setting out of range. DataError: of ``predict``, an entry that is no series of prices.
    """

    def __init__(
        self,
        model: str | KronosPredictor = "kronos-nano",
        prediction_length: int = 24,
        num_samples: int = 100,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self.spec = spec_of(prediction_length, num_samples, seed, settings)
        super().__init__(prediction_length=prediction_length)
        self.model = model

    def predict(self, dataset: Iterable[dict[str, Any]], num_samples: int | None = None, **_: Any) -> Iterator[Any]:
        """A ``SampleForecast`` of each entry, in order."""
        spec = self.spec if num_samples is None else self.spec.replace(num_samples=num_samples)
        entries: list[dict[str, Any]] = []

        def series() -> Iterator[TargetSeries]:
            for entry in dataset:
                entries.append(entry)
                yield self._series(entry)

        for number, (one, forecast) in enumerate(forecasts_of(self.model, series(), spec)):
            entry, samples = entries[number], one.of(forecast.samples)
            known = entry["target"].shape[-1]
            yield SampleForecast(
                samples=samples[:, :, 0] if entry["target"].ndim == 1 else samples,
                start_date=entry["start"] + known,
                item_id=entry.get("item_id"),
                info={"kronos": dict(forecast.metadata)},
            )

    def _series(self, entry: dict[str, Any]) -> TargetSeries:
        target, start = entry["target"], entry["start"]
        times = pd.period_range(start, periods=target.shape[-1] + self.prediction_length, freq=start.freq)
        known, label = target.shape[-1], f"the entry {entry.get('item_id', start)}"
        return series_of(target.T, times[:known], future=times[known:], label=label)

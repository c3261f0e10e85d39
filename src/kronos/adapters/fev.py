"""Kronos on the tasks of fev, the forecast evaluation library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import numpy as np
from fev import Task

from kronos.adapters.series import forecasts_of, series_of, spec_of
from kronos.bars.schema import PRICES
from kronos.errors import ConfigError
from kronos.inference.certainty import ENOUGH_PATHS, few_paths_note
from kronos.inference.predictor import KronosPredictor


def forecast_task(
    task: Task,
    model: str | KronosPredictor = "kronos-nano",
    num_samples: int = 100,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> list[datasets.DatasetDict]:
    """The predictions of every window of a task, as ``task.evaluation_summary`` takes them.

    Targets called ``open, high, low, close`` (and ``volume, amount``) are forecast as bars; any others each by itself,
    as closes. Predictions are the medians of the paths, and the quantiles that the task asks for.

    Args:
        model: a checkpoint's name or folder, or a loaded ``KronosPredictor``.
        num_samples: sample paths.
        seed: the same seed gives the same paths.
        settings: other fields of ``ForecastSpec``.

    Raises:
        ConfigError: quantiles of fewer than 20 distinct paths, which fev does not take as missing.
        DataError: a target that is no series of prices.
    """
    spec = spec_of(task.horizon, num_samples, seed, settings)
    levels, found = list(task.quantile_levels), []
    for window in task.iter_windows():
        past, future = window.get_input_data()
        past, future = past.with_format("numpy"), future.with_format("numpy")
        targets = list(window.target_columns)
        together = set(PRICES) <= {name.lower() for name in targets}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in targets}
        for names in [targets] if together else [[name] for name in targets]:
            series = (
                series_of(
                    np.stack([entry[name] for name in names], axis=1),
                    entry[window.timestamp_column],
                    names,
                    ahead[window.timestamp_column],
                    f"the series {entry[window.id_column]}",
                )
                for entry, ahead in zip(past, future, strict=True)
            )
            for one, forecast in forecasts_of(model, series, spec):
                if levels and forecast.distinct_paths < ENOUGH_PATHS:
                    raise ConfigError(few_paths_note(forecast.distinct_paths))
                point = one.of(forecast.median().to_numpy()[None])[0]
                bands = one.of(forecast.quantile_array(levels)) if levels else np.empty((0, *point.shape))
                for place, name in enumerate(names):
                    quantiles = {str(level): band[:, place] for level, band in zip(levels, bands, strict=True)}
                    rows[name].append({"predictions": point[:, place], **quantiles})
        found.append(datasets.DatasetDict({name: datasets.Dataset.from_list(one) for name, one in rows.items()}))
    return found

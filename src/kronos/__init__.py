"""Kronos reads candlesticks as a language and forecasts them as sampled futures.

    >>> from kronos import KronosPredictor, read_bars
    >>> bars = read_bars("bars.csv")
    >>> forecast = KronosPredictor.from_pretrained("kronos-nano").forecast(bars, horizon=24)
    >>> forecast.quantile([0.1, 0.5, 0.9])

Importing this package is quick: a name is loaded from its room when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kronos.errors import (
    CalendarError,
    Cancelled,
    CapacityError,
    CheckpointError,
    ConfigError,
    DataError,
    FewPathsWarning,
    KronosError,
    MissingExtraError,
)

if TYPE_CHECKING:
    from kronos.bars import future_timestamps, read_bars
    from kronos.inference.forecast import Forecast
    from kronos.inference.layouts import forecasts_to_frame
    from kronos.inference.predictor import KronosPredictor
    from kronos.model import Kronos, KronosTokenizer
    from kronos.spec import ForecastSpec
    from kronos.workflows.backtest import backtest
    from kronos.workflows.calibrate import calibrate
    from kronos.workflows.evaluate import evaluate
    from kronos.workflows.finetune import finetune, train, train_recipe
    from kronos.workflows.forecast import forecast_file, forecast_universe

    __version__: str

__all__ = [
    "CalendarError",
    "Cancelled",
    "CapacityError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FewPathsWarning",
    "Forecast",
    "ForecastSpec",
    "Kronos",
    "KronosError",
    "KronosPredictor",
    "KronosTokenizer",
    "MissingExtraError",
    "backtest",
    "calibrate",
    "evaluate",
    "finetune",
    "forecast_file",
    "forecast_universe",
    "forecasts_to_frame",
    "future_timestamps",
    "read_bars",
    "train",
    "train_recipe",
]

_ROOMS = {
    "bars": ("future_timestamps", "read_bars"),
    "inference.forecast": ("Forecast",),
    "inference.layouts": ("forecasts_to_frame",),
    "inference.predictor": ("KronosPredictor",),
    "model": ("Kronos", "KronosTokenizer"),
    "spec": ("ForecastSpec",),
    "workflows.backtest": ("backtest",),
    "workflows.calibrate": ("calibrate",),
    "workflows.evaluate": ("evaluate",),
    "workflows.finetune": ("finetune", "train", "train_recipe"),
    "workflows.forecast": ("forecast_file", "forecast_universe"),
}


def __getattr__(name: str) -> object:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"kronos.{room}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("kronos-kline")
    raise AttributeError(f"module 'kronos' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

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
    KronosError,
    MissingExtraError,
)

if TYPE_CHECKING:
    from kronos.bars import future_timestamps, read_bars
    from kronos.inference.forecast import Forecast
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
    "future_timestamps",
    "read_bars",
    "train",
    "train_recipe",
]

_HOMES = {
    "Forecast": "kronos.inference.forecast",
    "ForecastSpec": "kronos.spec",
    "Kronos": "kronos.model",
    "KronosPredictor": "kronos.inference.predictor",
    "KronosTokenizer": "kronos.model",
    "backtest": "kronos.workflows.backtest",
    "calibrate": "kronos.workflows.calibrate",
    "evaluate": "kronos.workflows.evaluate",
    "finetune": "kronos.workflows.finetune",
    "forecast_file": "kronos.workflows.forecast",
    "forecast_universe": "kronos.workflows.forecast",
    "future_timestamps": "kronos.bars",
    "read_bars": "kronos.bars",
    "train": "kronos.workflows.finetune",
    "train_recipe": "kronos.workflows.finetune",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("kronos-kline")
    raise AttributeError(f"module 'kronos' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

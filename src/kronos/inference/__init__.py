"""State and policy: sampling, caches, the decode engine, forecasts and the predictor."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kronos.inference.forecast import Forecast
    from kronos.inference.predictor import KronosPredictor

__all__ = ["Forecast", "KronosPredictor"]


def __getattr__(name: str) -> object:
    # torch is imported by the predictor alone, so that reading a saved forecast stays quick
    if name in __all__:
        room = "forecast" if name == "Forecast" else "predictor"
        return getattr(import_module(f"{__name__}.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

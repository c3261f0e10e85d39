"""Our forecasts in other people's libraries: one small file a library, which is imported when its name is first used.

``GluonTSPredictor`` · ``SktimeForecaster`` · ``DartsModel`` · ``forecast_task`` (fev) · ``bars_from_nautilus`` and
``bars_to_nautilus`` (nautilus_trader). What they share is :mod:`kronos.adapters.series`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kronos.errors import MissingExtraError

__all__ = [
    "DartsModel",
    "GluonTSPredictor",
    "SktimeForecaster",
    "bars_from_nautilus",
    "bars_to_nautilus",
    "forecast_task",
]

_HOMES = {
    "DartsModel": ("darts", "darts"),
    "GluonTSPredictor": ("gluonts", "gluonts"),
    "SktimeForecaster": ("sktime", "sktime"),
    "bars_from_nautilus": ("nautilus", "nautilus_trader"),
    "bars_to_nautilus": ("nautilus", "nautilus_trader"),
    "forecast_task": ("fev", "fev"),
}
"""Name → our file, which is called like the extra that brings it, and their package."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, package = _HOMES[name]
    if find_spec(package) is None:
        raise MissingExtraError(package, home, f"kronos.adapters.{name}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__

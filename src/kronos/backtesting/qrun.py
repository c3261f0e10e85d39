"""Our signals where Qlib's own workflow has a model: ``qrun``, its records and its recorder take them as they are.

Nothing of Qlib is imported: a model, to its workflow, is what has ``fit`` and ``predict``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kronos.backtesting.signals import read_panel
from kronos.errors import ConfigError, DataError


class SignalModel:
    """A panel of signals that Qlib asks for predictions.

    In a workflow file: ``model: {class: SignalModel, module_path: kronos.backtesting.qrun, kwargs: {panel: …,
    signal: mean}}``.

    Args:
        panel: as ``kronos qlib signals`` writes it, or anyone's with ``datetime`` and ``instrument``.
        signal: one of its columns.

    Raises:
        DataError: there is no such panel.
        ConfigError: it has no such column.
    """

    def __init__(self, panel: str | Path, signal: str = "mean") -> None:
        table = read_panel(panel)
        if signal not in table.columns:
            raise ConfigError(f"{panel} has no signal '{signal}' but {', '.join(map(str, table.columns))}")
        self.panel, self.signal = str(panel), table[signal].dropna()

    def fit(self, dataset: Any) -> None:
        """Nothing is left to learn."""

    def predict(self, dataset: Any, segment: str = "test") -> pd.Series:
        """The signals of a segment of Qlib's data set, by (datetime, instrument).

        Raises:
            DataError: none lies in it.
        """
        first, last = (pd.Timestamp(day) for day in dataset.segments[segment])
        days = self.signal.index.get_level_values("datetime")
        found = self.signal[(days >= first) & (days <= last)]
        if found.empty:
            span = f"{days.min().date()} … {days.max().date()}" if len(days) else "no date"
            raise DataError(
                f"{self.panel} has no signal in '{segment}', {first.date()} … {last.date()}; it has those of {span}"
            )
        return found

"""What the adapters share: other libraries' series as bars, and the checkpoint that continues them.

A series of one column is taken for closing prices: its bars open at the close before and reach no further than open
and close, and of the forecast the close is given back. A series with columns ``open, high, low, close`` (in any case
and order, ``volume`` and ``amount`` may be there) is bars as they are. The model was trained on whole bars: closes
alone tell it nothing of ranges and volumes, so give it bars where there are any.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.schema import FEATURES, PRICES
from kronos.errors import DataError, FewPathsWarning
from kronos.inference.certainty import ENOUGH_PATHS, few_paths_note
from kronos.inference.forecast import Forecast
from kronos.inference.predictor import KronosPredictor
from kronos.protocol import CLOSE
from kronos.spec import ForecastSpec

Floats = npt.NDArray[np.float64]

AT_ONCE = 64  # series that are handed over together


@dataclass(frozen=True)
class TargetSeries:
    """Another library's series as bars, and which of the six features each of its columns is."""

    bars: pd.DataFrame
    features: tuple[int, ...]
    future: pd.DatetimeIndex | None = None  # the times to forecast; None: by the calendar that the bars show

    def of(self, samples: npt.NDArray[Any]) -> Floats:
        """Samples (S, H, 6) cut to the columns of the series: (S, H, C)."""
        return np.asarray(samples, dtype=np.float64)[:, :, list(self.features)]


def series_of(
    values: npt.ArrayLike, times: Any, names: Sequence[Any] | None = None, future: Any = None, label: str = "the series"
) -> TargetSeries:
    """A series as bars; rows without any number are left out, as calendars of other libraries fill them in.

    Args:
        values: (T,) or (T, C), the oldest first.
        times: (T,) timestamps or periods, whose beginnings count.
        names: of the columns, of which a single one is closes whatever its name. None: of four to six columns those of
            a bar in their usual order.
        future: (H,) the times to forecast; None: by the calendar that the times show.
        label: what to call the series in errors.

    Raises:
        DataError: columns that are no bar, times that are none, a number that is missing.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    features = _features(table.shape[1], names, label)
    index = timestamps_of(times, label)
    if len(index) != len(table):
        raise DataError(f"{label} has {len(table)} rows and {len(index)} timestamps; give one a row")
    there = np.asarray(~np.isnan(table).all(axis=1))
    table, index = table[there], index[there]
    if np.isnan(table).any():
        row, column = np.argwhere(np.isnan(table))[0]
        raise DataError(f"{label} has no {FEATURES[features[column]]} at {index[row]}; fill it in or leave the row out")
    bars = np.zeros((len(table), len(FEATURES)))
    bars[:, list(features)] = table
    if features == (CLOSE,):
        close = table[:, 0]
        opened = np.concatenate([close[:1], close[:-1]])
        bars[:, :CLOSE] = np.stack([opened, np.maximum(opened, close), np.minimum(opened, close)], axis=1)
    frame = pd.DataFrame(bars, columns=list(FEATURES))
    frame.insert(0, "timestamp", index)
    return TargetSeries(frame, features, None if future is None else timestamps_of(future, label))


def _features(columns: int, names: Sequence[Any] | None, label: str) -> tuple[int, ...]:
    """The place among the six features of each column."""
    if columns == 1:
        return (CLOSE,)
    named = [str(name).strip().lower() for name in (FEATURES[:columns] if names is None else names)]
    if (names is None and columns < len(PRICES)) or columns > len(FEATURES):
        named = []
    places = tuple(FEATURES.index(name) for name in named if name in FEATURES)
    if len(places) < columns or len(set(places)) < columns or not set(range(CLOSE + 1)) <= set(places):
        found = f"{columns} columns" if names is None else f"the columns {', '.join(map(str, names))}"
        raise DataError(
            f"{label} has {found}; bars have {', '.join(PRICES)} (and volume, amount). Give one column of closes, or "
            "these."
        )
    return places


def timestamps_of(times: Any, label: str = "the series") -> pd.DatetimeIndex:
    """Timestamps or periods as timestamps; DataError: they are neither, such as numbers that count rows."""
    if isinstance(times, pd.PeriodIndex):
        return times.to_timestamp()
    if isinstance(times, pd.DatetimeIndex):
        return times
    array = np.asarray(times)
    if array.dtype.kind != "M":
        raise DataError(
            f"{label} is indexed by {array.dtype}, not by time; give it a DatetimeIndex or a PeriodIndex, since the "
            "model reads the minute, the hour and the weekday of each bar"
        )
    return pd.DatetimeIndex(array)


@lru_cache(maxsize=4)
def _loaded(model: str) -> KronosPredictor:
    return KronosPredictor.from_pretrained(model)


def predictor_of(model: str | KronosPredictor) -> KronosPredictor:
    """A loaded checkpoint as it is, or the one of this name or folder, which is loaded once."""
    return _loaded(model) if isinstance(model, str) else model


def spec_of(horizon: int, num_samples: int, seed: int, settings: Mapping[str, Any] | None) -> ForecastSpec:
    """What is asked; ConfigError: a setting out of range."""
    return ForecastSpec(**{"horizon": horizon, "num_samples": num_samples, "seed": seed, **(settings or {})})


def forecasts_of(
    model: str | KronosPredictor, series: Iterable[TargetSeries], spec: ForecastSpec
) -> Iterator[tuple[TargetSeries, Forecast]]:
    """Each series with its forecast, in order; some are computed together. Warns where paths are too few to tell."""
    predictor, waiting = predictor_of(model), iter(series)
    while batch := list(islice(waiting, AT_ONCE)):
        given = batch[0].future is not None
        tables = {str(number): one.bars for number, one in enumerate(batch)}
        future = {str(number): one.future for number, one in enumerate(batch)} if given else None
        for one, (_, forecast) in zip(batch, predictor.answer_many(tables, spec, future=future), strict=True):
            if forecast.distinct_paths < ENOUGH_PATHS:
                warnings.warn(few_paths_note(forecast.distinct_paths), FewPathsWarning, stacklevel=3)
            yield one, forecast

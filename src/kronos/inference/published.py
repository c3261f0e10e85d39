"""The published ``predict`` call: what it accepts and what it returns.

Column names, defaults and numbers are those of the published predictor. What it would have misread in silence
(lengths that differ, infinities, text) is refused with the position.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.schema import PRICES, to_table
from kronos.errors import DataError
from kronos.inference.assemble import make_request
from kronos.inference.inputs import as_times
from kronos.inference.settings import DecodeSettings, check_setting
from kronos.protocol import FEATURES
from kronos.spec import ForecastSpec

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

_NAMES: Final = {"pred_len": "horizon", "sample_count": "num_samples", "T": "temperature"}


def published_spec(**arguments: Any) -> ForecastSpec:
    """The published settings as a spec, whose window slides bar by bar; refusals have the published names."""
    settings = {_NAMES.get(name, name): (name, value) for name, value in arguments.items()}
    checked = {setting: check_setting(setting, value, name=name) for setting, (name, value) in settings.items()}
    return ForecastSpec(**checked, window_stride=1)


def predict_batch(
    predictor: KronosPredictor,
    tables: Sequence[Any],
    x_timestamps: Sequence[Any],
    y_timestamps: Sequence[Any],
    spec: ForecastSpec,
) -> list[pd.DataFrame]:
    """The mean of the sampled paths of each series, one row a future bar; see ``KronosPredictor.predict_batch``."""
    if not len(tables) == len(x_timestamps) == len(y_timestamps):
        raise DataError(
            f"predict_batch got {len(tables)} tables, {len(x_timestamps)} x_timestamp and "
            f"{len(y_timestamps)} y_timestamp; give one of each a series"
        )
    transform = predictor.transform
    inputs = [
        read_published(
            *entry,
            spec.horizon,
            positive=transform.takes_moves,
            where=f"series {i}: " if len(tables) > 1 else "",
        )
        for i, entry in enumerate(zip(tables, x_timestamps, y_timestamps, strict=True))
    ]
    prepared = []
    for entry in inputs:
        values, times = _cut(predictor, entry)
        prepared.append(make_request(predictor, values, times, entry.future_times, spec))
    settings = DecodeSettings.resolve(spec, predictor.model.config, predictor.max_context)
    features = predictor.engine.run([request for request, _ in prepared], settings)
    return [
        pd.DataFrame(transform.decode(sampled, state).mean(axis=0), columns=list(FEATURES), index=entry.index)
        for entry, (_, state), sampled in zip(inputs, prepared, features, strict=True)
    ]


def _cut(predictor: KronosPredictor, entry: PublishedInput) -> tuple[npt.NDArray[np.float64], pd.DatetimeIndex]:
    """Values and times of the bars that set the scale: our checkpoints cut first, published ones take all."""
    most = predictor.max_context + predictor.transform.lost
    if len(entry.values) > most:
        if predictor.model.config.consistent:
            return entry.values[-most:], entry.context_times[-most:]
        warnings.warn(
            f"the context has {len(entry.values)} bars, the model reads {predictor.max_context}: as published, all of "
            "them set the scale. Pass fewer bars, or use forecast(), which cuts first",
            stacklevel=5,
        )
    return entry.values, entry.context_times


@dataclass(frozen=True)
class PublishedInput:
    """One checked ``predict`` call: values (T, 6), the times of the context (T) and of the horizon (H)."""

    values: npt.NDArray[np.float64]
    context_times: pd.DatetimeIndex
    future_times: pd.DatetimeIndex
    index: pd.Index[Any]  # of the result


def read_published(
    df: Any, x_timestamp: Any, y_timestamp: Any, pred_len: int, *, positive: bool, where: str = ""
) -> PublishedInput:
    """Checks the arguments of ``predict``.

    Args:
        positive: refuse prices at or below zero and negative volumes (transforms that take logarithms).
        where: what to call the table, for several at once.
    """
    frame = to_table(df)
    if missing := [name for name in PRICES if name not in frame.columns]:
        raise DataError(f"{where}the table lacks {', '.join(missing)}; predict needs {', '.join(PRICES)}")
    values = np.zeros((len(frame), len(FEATURES)))
    given = [name for name in FEATURES if name in frame.columns]
    if "volume" not in given:  # as published, also where there is an amount
        given = list(PRICES)
    for name in given:
        values[:, FEATURES.index(name)] = _numbers(frame[name], name, where)
    if "volume" in given and "amount" not in given:
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    if len(values) == 0:
        raise DataError(f"{where}the table has no rows; predict needs a context")
    if positive:
        _check_positive(values, where)
    x_times, y_times = as_times(x_timestamp, f"{where}x_timestamp"), as_times(y_timestamp, f"{where}y_timestamp")
    if len(x_times) != len(frame):
        raise DataError(f"{where}x_timestamp has {len(x_times)} entries for {len(frame)} bars; give one a bar")
    if len(y_times) != pred_len:
        raise DataError(f"{where}y_timestamp has {len(y_times)} entries for pred_len {pred_len}; give one a bar")
    index = pd.Index(y_timestamp) if not isinstance(y_timestamp, pd.Index) else y_timestamp
    return PublishedInput(values, x_times, y_times, index)


def _numbers(column: pd.Series[Any], name: str, where: str) -> npt.NDArray[np.float64]:
    numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        position = int(np.flatnonzero(bad)[0])
        found = column.iloc[position]
        shown = repr(found) if isinstance(found, str) else found
        raise DataError(
            f"{where}column '{name}' holds {shown} at position {position} ({int(bad.sum())} such values in all); "
            "predict needs finite numbers"
        )
    return numbers


def _check_positive(values: npt.NDArray[np.float64], where: str) -> None:
    for i, name in enumerate(FEATURES):
        bad = values[:, i] <= 0 if name in PRICES else values[:, i] < 0
        if bad.any():
            position = int(np.flatnonzero(bad)[0])
            kind = "prices above zero" if name in PRICES else "no negative values"
            raise DataError(
                f"{where}column '{name}' holds {values[position, i]:g} at position {position}; this model needs {kind}"
            )

"""The published ``predict`` call: what it accepts and what it returns.

Column names, defaults and numbers are those of the published predictor. What it would have misread in silence
(lengths that differ, infinities, text) is refused with the position.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.schema import PRICES, to_table
from kronos.errors import DataError
from kronos.inference.assemble import as_times, make_request
from kronos.inference.settings import DecodeSettings, check_setting
from kronos.protocol import FEATURES
from kronos.spec import ForecastSpec

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

_NAMES: Final = {"pred_len": "horizon", "sample_count": "num_samples", "T": "temperature"}


def predict_batch(
    predictor: KronosPredictor,
    tables: Sequence[Any],
    x_timestamps: Sequence[Any],
    y_timestamps: Sequence[Any],
    **arguments: Any,
) -> list[pd.DataFrame]:
    """The mean of the sampled paths of each series, one row a future bar; see ``KronosPredictor.predict_batch``.

    Our checkpoints cut the bars that set the scale, published ones take all of them.
    """
    checked = {}
    for name, value in arguments.items():  # refusals have the published names
        setting = _NAMES.get(name, name)
        checked[setting] = check_setting(setting, value, name=name)
    spec = ForecastSpec(**checked, window_stride=1)
    if not len(tables) == len(x_timestamps) == len(y_timestamps):
        raise DataError(
            f"predict_batch got {len(tables)} tables, {len(x_timestamps)} x_timestamp and "
            f"{len(y_timestamps)} y_timestamp; give one of each a series"
        )
    transform = predictor.transform
    most = predictor.max_context + transform.lost
    inputs = [
        read_published(*entry, spec.horizon, transform.takes_moves, f"series {i}: " if len(tables) > 1 else "")
        for i, entry in enumerate(zip(tables, x_timestamps, y_timestamps, strict=True))
    ]
    prepared = []
    for values, times, future in inputs:
        if len(values) > most:
            if predictor.model.config.consistent:
                values, times = values[-most:], times[-most:]
            else:
                warnings.warn(
                    f"the context has {len(values)} bars, the model reads {predictor.max_context}: as published, all "
                    "of them set the scale. Pass fewer bars, or use forecast(), which cuts first",
                    stacklevel=4,
                )
        prepared.append(make_request(predictor, values, times, future, spec))
    settings = DecodeSettings.resolve(spec, predictor.model.config, predictor.max_context)
    features = predictor.engine.run([request for request, _ in prepared], settings)
    return [
        pd.DataFrame(
            transform.decode(sampled, state).mean(axis=0),
            columns=list(FEATURES),
            index=given if isinstance(given, pd.Index) else pd.Index(given),
        )
        for given, (_, state), sampled in zip(y_timestamps, prepared, features, strict=True)
    ]


def read_published(
    df: Any, x_timestamp: Any, y_timestamp: Any, pred_len: int, positive: bool, where: str
) -> tuple[npt.NDArray[np.float64], pd.DatetimeIndex, pd.DatetimeIndex]:
    """Checks one series of ``predict``: values (T, 6), the times of the context (T) and of the horizon (H).

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
        column = frame[name]
        numbers = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
        if (bad := ~np.isfinite(numbers)).any():
            position = int(bad.argmax())
            found = column.iloc[position]
            raise DataError(
                f"{where}column '{name}' holds {repr(found) if isinstance(found, str) else found} at position "
                f"{position} ({int(bad.sum())} such values in all); predict needs finite numbers"
            )
        values[:, FEATURES.index(name)] = numbers
    if "volume" in given and "amount" not in given:
        values[:, 5] = values[:, 4] * values[:, :4].mean(axis=1)
    if len(values) == 0:
        raise DataError(f"{where}the table has no rows; predict needs a context")
    for name, numbers in zip(FEATURES, values.T, strict=True) if positive else ():
        bad, kind = (numbers <= 0, "prices above zero") if name in PRICES else (numbers < 0, "no negative values")
        if bad.any():
            found = f"{numbers[bad][0]:g} at position {int(bad.argmax())}"
            raise DataError(f"{where}column '{name}' holds {found}; this model needs {kind}")
    x_times, y_times = as_times(x_timestamp, f"{where}x_timestamp"), as_times(y_timestamp, f"{where}y_timestamp")
    if len(x_times) != len(frame):
        raise DataError(f"{where}x_timestamp has {len(x_times)} entries for {len(frame)} bars; give one a bar")
    if len(y_times) != pred_len:
        raise DataError(f"{where}y_timestamp has {len(y_times)} entries for pred_len {pred_len}; give one a bar")
    return values, x_times, y_times

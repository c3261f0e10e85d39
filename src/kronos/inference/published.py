"""The published ``predict`` call: what it accepts and what it returns.

Column names, defaults and numbers are those of the published predictor. What it would have misread in silence
(lengths that differ, infinities, text) is refused with the position.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.bars.arrays import time_features
from kronos.bars.schema import FEATURES, PRICES, to_table
from kronos.bars.transform import BarTransform
from kronos.errors import DataError
from kronos.inference.batches import Engine, Request
from kronos.inference.plan import MOST_BARS, MOST_PATHS, make_request, whole_number
from kronos.inference.rng import check_seed
from kronos.inference.sampling import SamplingSettings
from kronos.inference.series import as_times
from kronos.model import Kronos


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

    Raises:
        DataError: a missing column, text, NaN, infinity, or lengths that do not agree, with the position.
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


def published_frame(bars: npt.NDArray[np.float64], index: pd.Index[Any]) -> pd.DataFrame:
    """(S, H, 6) paths as the published result: their mean, one row a future bar."""
    return pd.DataFrame(bars.mean(axis=0), columns=list(FEATURES), index=index)


class PublishedCalls:
    """``predict`` and ``predict_batch``, the published interface of a predictor."""

    model: Kronos
    transform: BarTransform
    engine: Engine
    max_context: int
    clip: float

    def predict(
        self,
        df: Any,
        x_timestamp: Any,
        y_timestamp: Any,
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The published call: the mean of the sampled paths, raw as the model gives it.

        Args:
            df: ``open, high, low, close``, optionally ``volume`` and ``amount``; the oldest bar first.
            x_timestamp, y_timestamp: times of the context's bars and of the ``pred_len`` bars to come.
            T, top_k, top_p: temperature (0 is greedy), then the k likeliest tokens, of which the likeliest that hold
                top_p; both limits apply.
            sample_count: paths to average.
            verbose: accepted for compatibility; nothing is printed.
            seed: the same seed gives the same numbers.

        Returns:
            One row a future bar, indexed by ``y_timestamp``: the six features.

        Raises:
            DataError, ConfigError: see :mod:`kronos.inference.published`.
        """
        return self.predict_batch(
            [df], [x_timestamp], [y_timestamp], pred_len, T, top_k, top_p, sample_count, verbose, seed=seed
        )[0]

    def predict_batch(
        self,
        df_list: Sequence[Any],
        x_timestamp_list: Sequence[Any],
        y_timestamp_list: Sequence[Any],
        pred_len: int,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = True,
        *,
        seed: int = 0,
    ) -> list[pd.DataFrame]:
        """``predict`` for several series, of equal length or not; arguments and numbers are those of ``predict``."""
        horizon = whole_number("pred_len", pred_len, 1, MOST_BARS)
        paths = whole_number("sample_count", sample_count, 1, MOST_PATHS)
        settings = SamplingSettings(T, top_k, top_p)
        check_seed(seed)
        if not len(df_list) == len(x_timestamp_list) == len(y_timestamp_list):
            raise DataError(
                f"predict_batch got {len(df_list)} tables, {len(x_timestamp_list)} x_timestamp and "
                f"{len(y_timestamp_list)} y_timestamp; give one of each a series"
            )
        positive = self.transform.takes_moves
        inputs = [
            read_published(df, x, y, horizon, positive=positive, where=f"series {i}: " if len(df_list) > 1 else "")
            for i, (df, x, y) in enumerate(zip(df_list, x_timestamp_list, y_timestamp_list, strict=True))
        ]
        prepared = [self._published_request(entry, seed, paths) for entry in inputs]
        features = self.engine.run(
            [request for request, _ in prepared], settings, max_context=self.max_context, window_stride=1
        )
        return [
            published_frame(self.transform.decode(sampled, state), entry.index)
            for entry, (_, state), sampled in zip(inputs, prepared, features, strict=True)
        ]

    def _published_request(self, entry: PublishedInput, seed: int, paths: int) -> tuple[Request, Any]:
        values, times, most = entry.values, entry.context_times, self.max_context + self.transform.lost
        if len(values) > most:
            if self.model.config.consistent:
                values, times = values[-most:], times[-most:]
            else:
                warnings.warn(
                    f"the context has {len(values)} bars, the model reads {self.max_context}: as published, all of "
                    "them set the scale. Pass fewer bars, or use forecast(), which cuts first",
                    stacklevel=4,
                )
        stamps = np.concatenate([time_features(times), time_features(entry.future_times)])
        return self._request(values, stamps, len(entry.future_times), seed, paths)

    def _request(
        self, values: npt.NDArray[np.float64], stamps: npt.NDArray[np.int64], horizon: int, seed: int, paths: int
    ) -> tuple[Request, Any]:
        return make_request(
            self.transform,
            values,
            stamps,
            horizon=horizon,
            paths=paths,
            seed=seed,
            max_context=self.max_context,
            clip=self.clip,
        )

"""The published calls, with the published numbers: ``predict``, ``predict_batch``, and ``generate`` of arrays.

Without a seed they draw from torch's global state, in the published order: for each bar one multinomial over all rows
for the coarse tokens and one for the fine ones, where the rows are the paths of the first series, those of the second
and so on. So they follow ``torch.manual_seed``, every call draws anew, copies of a series in one batch differ, and what
a script draws afterwards is what it drew there. With a seed they draw as ``forecast`` does and leave that state alone.

Levels are averaged over the paths as normalised features and then scaled back, all in float32, as published.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kronos.bars.schema import PRICES, to_table
from kronos.bars.transform import BarTransform
from kronos.errors import DataError
from kronos.inference.assemble import as_times, make_request
from kronos.inference.engine import DecodeRequest
from kronos.inference.settings import DecodeSettings
from kronos.inference.threads import Monitor
from kronos.model.network import TIME_TABLES
from kronos.protocol import FEATURES
from kronos.spec import ForecastSpec, check_setting

if TYPE_CHECKING:
    from kronos.inference.predictor import KronosPredictor

Method = TypeVar("Method", bound=Callable[..., Any])
Floats = npt.NDArray[np.float64]

_NAMES = {"horizon": "pred_len", "temperature": "T", "num_samples": "sample_count"}  # as published, for refusals


def predict_batch(
    predictor: KronosPredictor,
    tables: Sequence[Any],
    x_timestamps: Sequence[Any],
    y_timestamps: Sequence[Any],
    spec: ForecastSpec,
    *,
    follow_torch: bool,
    verbose: bool,
) -> list[pd.DataFrame]:
    """The mean of the sampled paths of each series, as a table; ``spec`` as :func:`spec_of_call` makes it."""
    prepared = prepare(predictor, tables, x_timestamps, y_timestamps, spec)
    found = _sample(predictor, [request for request, _ in prepared], spec, follow_torch, verbose)
    return [
        pd.DataFrame(_mean_bars(predictor.transform, features, state), pd.Index(index), list(FEATURES))
        for index, (_, state), features in zip(y_timestamps, prepared, found, strict=True)
    ]


def generate(
    predictor: KronosPredictor,
    x: Any,
    x_stamp: Any,
    y_stamp: Any,
    pred_len: int,
    T: float,
    top_k: int | None,
    top_p: float | None,
    sample_count: int,
    verbose: bool,
) -> npt.NDArray[np.float32]:
    """(B, ``pred_len``, 6) mean features of the bars that follow normalised ones.

    Args:
        x: (B, T, 6) normalised bars, array or tensor; clipped here.
        x_stamp, y_stamp: (B, T, 5) and (B, ``pred_len``, 5) minute, hour, weekday, day and month.

    Raises:
        DataError: shapes that do not fit, or times that are none.
    """
    spec = spec_of_call(pred_len, T, top_k, top_p, sample_count, None)
    bars, past, future = (np.asarray(torch.as_tensor(part).detach().cpu()) for part in (x, x_stamp, y_stamp))
    series, context = bars.shape[:2] if bars.ndim == 3 else (0, 0)
    wanted = {"x": (series, context, 6), "x_stamp": (series, context, 5), "y_stamp": (series, spec.horizon, 5)}
    for (name, shape), array in zip(wanted.items(), (bars, past, future), strict=True):
        if array.shape != shape or 0 in shape:
            raise DataError(f"{name} has shape {array.shape}; generate takes x (B, T, 6), its x_stamp (B, T, 5) and "
                            f"y_stamp (B, pred_len, 5), here with pred_len {spec.horizon}")  # fmt: skip
    stamps = np.concatenate((past, future), axis=1).astype(np.int64)
    if ((stamps < 0) | (stamps >= list(TIME_TABLES.values()))).any():
        raise DataError("x_stamp and y_stamp hold minute, hour, weekday (Monday 0), day and month; a value is none")
    features = np.clip(bars.astype(np.float32), -predictor.clip, predictor.clip)
    draws = np.zeros((spec.num_samples, spec.horizon, 2), dtype=np.float32)  # torch draws in their place
    requests = [DecodeRequest(one, times, draws) for one, times in zip(features, stamps, strict=True)]
    return np.stack([paths.mean(axis=0) for paths in _sample(predictor, requests, spec, True, verbose)])


def takes_arrays(ours: Method) -> Method:
    """``KronosPredictor.generate`` that also answers the published call of this name, told by the stamps it brings."""

    @functools.wraps(ours)
    def either(self: KronosPredictor, *args: Any, **named: Any) -> Any:
        if "x_stamp" in named or (len(args) > 1 and np.ndim(args[1]) > 0):
            return generate(self, *args, **named)
        return ours(self, *args, **named)

    return cast(Method, either)


# -- what is asked ----------------------------------------------------------------------------------------------------


def spec_of_call(
    pred_len: Any, T: Any, top_k: int | None, top_p: float | None, sample_count: Any, seed: int | None
) -> ForecastSpec:
    """The arguments of a published call, checked by their names there.

    None switches a limit off, a ``top_k`` above 0 switches ``top_p`` off, and a ``top_p`` of 0 keeps the likeliest
    token alone: all as published. The paths go where the model says, whatever its calibration.
    """
    k = 0 if top_k is None else check_setting("top_k", top_k)
    if top_p == 0 and not k:
        k = 1
    given = {
        "horizon": pred_len,
        "temperature": T,
        "top_k": k,
        "top_p": 1.0 if top_p is None or top_p == 0 else top_p,
        "num_samples": sample_count,
        "seed": 0 if seed is None else seed,
    }
    checked = {name: check_setting(name, value, name=_NAMES.get(name, name)) for name, value in given.items()}
    if k:
        checked["top_p"] = 1.0
    return ForecastSpec(**checked, direction="model", har_weight=0.0, window_stride=1)


def prepare(
    predictor: KronosPredictor, tables: Any, x_timestamps: Any, y_timestamps: Any, spec: ForecastSpec
) -> list[tuple[DecodeRequest, Any]]:
    """Requests and states of the series of a call; all are checked before the first is prepared."""
    groups = {"tables": tables, "x_timestamp": x_timestamps, "y_timestamp": y_timestamps}
    for name, group in groups.items():
        if not isinstance(group, list | tuple):
            raise DataError(f"predict_batch got a {type(group).__name__} of {name}; give a list, with one a series")
    if not len(tables) == len(x_timestamps) == len(y_timestamps):
        counts = ", ".join(f"{len(group)} {name}" for name, group in groups.items())
        raise DataError(f"predict_batch got {counts}; give one of each a series")
    positive, most = predictor.transform.takes_moves, predictor.max_context + predictor.transform.lost
    series = [
        _read(*entry, spec.horizon, positive, f"series {i}: " if len(tables) > 1 else "")
        for i, entry in enumerate(zip(tables, x_timestamps, y_timestamps, strict=True))
    ]
    prepared = []
    for values, times, future in series:
        if len(values) > most and predictor.model.config.consistent:
            values, times = values[-most:], times[-most:]
        elif len(values) > most:
            warnings.warn(
                f"the context has {len(values)} bars, the model reads {predictor.max_context}: as published, all of "
                "them set the scale. Pass fewer bars, or use forecast(), which cuts first",
                stacklevel=4,
            )
        prepared.append(make_request(predictor, values, times, future, spec))
    return prepared


def _read(
    df: Any, x_timestamp: Any, y_timestamp: Any, pred_len: int, positive: bool, where: str
) -> tuple[Floats, pd.DatetimeIndex, pd.DatetimeIndex]:
    """Checks one series of the published ``predict``: values (T, 6), times of the context (T) and of the horizon (H).

    What the published predictor would have misread in silence (lengths that differ, infinities, text) is refused; for
    transforms that take logarithms (``positive``) also what has none.
    """
    frame = to_table(df)
    if missing := [name for name in PRICES if name not in frame.columns]:
        raise DataError(f"{where}the table lacks {', '.join(missing)}; predict needs {', '.join(PRICES)}")
    given = [name for name in FEATURES if name in frame.columns]
    if "volume" not in given:  # as published, also where there is an amount
        given = list(PRICES)
    if len(frame) == 0:
        raise DataError(f"{where}the table has no rows; predict needs a context")
    columns = pd.DataFrame({name: _numbers(frame[name], name, where) for name in given})
    if "volume" in given and "amount" not in given:  # in the table's own precision, as published
        columns["amount"] = columns["volume"] * columns[list(PRICES)].mean(axis=1)
    values = columns.reindex(columns=list(FEATURES), fill_value=0.0).to_numpy(dtype=np.float64)
    for name, numbers in zip(FEATURES, values.T, strict=True) if positive else ():
        bad, kind = (numbers <= 0, "prices above zero") if name in PRICES else (numbers < 0, "no negative values")
        if bad.any():
            at = f"{numbers[bad][0]:g} at position {int(bad.argmax())}"
            raise DataError(f"{where}column '{name}' holds {at}; this model needs {kind}")
    x_times, y_times = as_times(x_timestamp, f"{where}x_timestamp"), as_times(y_timestamp, f"{where}y_timestamp")
    if len(x_times) != len(frame):
        raise DataError(f"{where}x_timestamp has {len(x_times)} entries for {len(frame)} bars; give one a bar")
    if len(y_times) != pred_len:
        raise DataError(f"{where}y_timestamp has {len(y_times)} entries for pred_len {pred_len}; give one a bar")
    return values, x_times, y_times


def _numbers(column: pd.Series, name: str, where: str) -> npt.NDArray[Any]:
    """A column as finite numbers, in its own precision."""
    numbers = pd.to_numeric(column, errors="coerce")
    if (bad := ~np.isfinite(np.asarray(numbers, dtype=np.float64))).any():
        position = int(bad.argmax())
        found = column.iloc[position]
        raise DataError(
            f"{where}column '{name}' holds {repr(found) if isinstance(found, str) else found} at position "
            f"{position} ({int(bad.sum())} such values in all); predict needs finite numbers"
        )
    return numbers.to_numpy()


# -- what is answered -------------------------------------------------------------------------------------------------


def _sample(
    predictor: KronosPredictor, requests: list[DecodeRequest], spec: ForecastSpec, follow_torch: bool, verbose: bool
) -> list[npt.NDArray[np.float32]]:
    """(S, H, 6) features of every request; ``verbose`` shows a bar of progress on stderr, as published."""
    settings = DecodeSettings.resolve(spec, predictor.model.config, predictor.max_context)
    settings = dataclasses.replace(settings, follows_torch=follow_torch)
    if not verbose:
        return predictor.engine.run(requests, settings)
    from tqdm import tqdm

    paths = len(requests) * spec.num_samples
    with tqdm(total=spec.horizon) as bar:
        monitor = Monitor(lambda done, _: bar.update(done // paths - bar.n), total=paths * spec.horizon)
        return predictor.engine.run(requests, settings, monitor)


def _mean_bars(transform: BarTransform, features: npt.NDArray[np.float32], state: Any) -> npt.NDArray[np.float32]:
    """(S, H, 6) features of the paths -> (H, 6) bars."""
    if transform.takes_moves:  # whose mean is no mean of prices
        return np.asarray(transform.decode(features, state).mean(axis=0), dtype=np.float32)
    return np.asarray(transform.decode(features.mean(axis=0, keepdims=True), state)[0], dtype=np.float32)

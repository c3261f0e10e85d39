"""Who forecasts, and what about: the words that predictors, baselines, adapters and judges meet in.

A :class:`Context` is what is known, a read-only copy that ends at its cutoff; a :class:`~kronos.spec.ForecastSpec` is
what is asked; a :class:`Forecaster` answers with sample paths of whole bars. Nothing behind the cutoff is reachable
from a context but the *times* of the bars to come, which a trading calendar knows beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from kronos.errors import ConfigError, DataError
from kronos.spec import ForecastSpec

__all__ = [
    "FEATURES",
    "Context",
    "ForecastSpec",
    "Forecaster",
    "Progress",
    "WorkEngine",
    "are_mirrors",
    "check_paths",
    "sample_in_batches",
    "width_at",
]

FloatArray = npt.NDArray[np.float64]
TimeArray = npt.NDArray[np.datetime64]
P = TypeVar("P")
R = TypeVar("R")

FEATURES: Final = ("open", "high", "low", "close", "volume", "amount")
"""The six features of a bar, in the order that the model knows."""

NAMELESS: Final = "series"
"""What a series is called whose bars name none, where a name must be."""

OPEN, HIGH, LOW, CLOSE, VOLUME, AMOUNT = range(6)
"""Their places in the last axis of every array of bars."""

_MIRROR_ROUNDING, _MIRROR_SHARE = 5e-7, 1e-3  # of a log distance in single precision; of the farthest one


class Progress(Protocol):
    """Told how much of the work is done, and in a few words how it goes."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


@dataclass(frozen=True, eq=False)
class Context:
    """The past of one series up to and including its cutoff.

    Args:
        symbol: name of the series.
        timestamps: (T,) datetime64[ns], ascending; the last one is the cutoff.
        values: (T, 6) float64 in the order of ``FEATURES``, prices in the quote currency.
        future_timestamps: (H,) datetime64[ns], the times of the bars to forecast.
        zone: of bars whose times have a time zone: the timestamps are UTC then, and this zone's clock is what the
            exchange shows. None: the timestamps are wall time.

    The arrays are private copies and read-only, so that a forecaster can neither look behind them (``.base`` is
    None) nor change what the next forecaster sees.
    """

    symbol: str
    timestamps: TimeArray
    values: FloatArray
    future_timestamps: TimeArray
    zone: tzinfo | None = None

    def __post_init__(self) -> None:
        for name, kind in (("timestamps", "datetime64[ns]"), ("values", "f8"), ("future_timestamps", "datetime64[ns]")):
            array = np.array(getattr(self, name), dtype=kind, order="C", copy=True)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.values.shape != (len(self.timestamps), len(FEATURES)) or len(self.timestamps) < 2:
            raise DataError(
                f"context of {self.symbol!r}: values have shape {self.values.shape} for {len(self.timestamps)} "
                f"timestamps; give (T, {len(FEATURES)}) with T ≥ 2"
            )

    @classmethod
    def of_times(cls, symbol: str, times: pd.DatetimeIndex, values: FloatArray, future: pd.DatetimeIndex) -> Context:
        """From times (T,) and future times (H,) on the exchange's clock, with a time zone or as wall time."""
        known, ahead = (
            index if index.tz is None else index.tz_convert("UTC").tz_localize(None) for index in (times, future)
        )
        return cls(symbol, known.to_numpy(), values, ahead.to_numpy(), times.tz)

    def __reduce__(self) -> tuple[Any, ...]:
        """Built anew in another process, where a plain copy would be writable."""
        return Context, (self.symbol, self.timestamps, self.values, self.future_timestamps, self.zone)

    @property
    def cutoff(self) -> np.datetime64:
        """Time of the last known bar."""
        return np.datetime64(self.timestamps[-1])

    def local(self, times: TimeArray) -> pd.DatetimeIndex:
        """Times of this context on the exchange's clock."""
        index = pd.DatetimeIndex(times)
        return index if self.zone is None else index.tz_localize("UTC").tz_convert(self.zone)

    @property
    def last_close(self) -> float:
        """The price at which every forecast starts."""
        return float(self.values[-1, CLOSE])

    def to_table(self) -> pd.DataFrame:
        """The context as a bars table, on the exchange's clock."""
        table = pd.DataFrame(self.values, columns=list(FEATURES))
        table.insert(0, "timestamp", self.local(self.timestamps))
        return table

    def log_returns(self) -> FloatArray:
        """(T-1,) close-to-close log returns of the context."""
        return np.asarray(np.diff(np.log(self.values[:, CLOSE])))

    def volatility(self) -> float:
        """Standard deviation (divisor T-2) of the one-bar log returns: the unit of every scaled metric."""
        return float(np.std(self.log_returns(), ddof=1)) if len(self.timestamps) > 2 else float("nan")


@runtime_checkable
class Forecaster(Protocol):
    """Anything that continues bars with sample paths; ``KronosPredictor`` is one.

    The same seed and context must give the same paths whatever the other contexts are. A point forecaster returns
    ``spec.num_samples`` equal paths or a single one, and passes over settings of the sampling that mean nothing to it.

    Optional attributes that the evaluation reads where they exist: ``fingerprint`` (str, distinguishes stored
    scores), ``training_cutoffs`` (last dates of its training by market), ``parallel`` (bool, may be copied to other
    processes), ``recipe`` (a callable that can be copied there instead, and makes the forecaster anew), and
    ``nats(context, truth) -> (H,)``, the negative log-likelihood of the true bars, called after the forecast.
    """

    name: str

    def sample_paths(self, contexts: Sequence[Context], spec: ForecastSpec) -> list[npt.NDArray[Any]]:
        """Sample paths, one array (num_samples, horizon, 6) per context, in their order."""
        ...


class WorkEngine(Protocol):
    """Computes pieces of work, here or elsewhere; ``kronos.scale`` has two. It knows nothing of forecasts."""

    def device(self) -> str:
        """What its workers compute on where nothing else is said: ``cuda``, ``mps`` or ``cpu``."""
        ...

    def map(self, make: Callable[[], Callable[[P], R]], pieces: Sequence[P]) -> Iterator[R]:
        """The results of all pieces, as they are finished, in any order.

        Args:
            make: loads what the work needs; called once in each worker. It may be shipped, so it is a module's class
                or function, or a ``functools.partial`` of one.
            pieces: small descriptions of work, not the data itself.

        Raises:
            KronosError: whatever making or working raised.
            CapacityError: workers died again and again over some pieces; all others were finished.
        """
        ...


def traded_value(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(…,) the amount of bars (…, 6) where it is not known: volume times the mean of the four prices."""
    return np.asarray(values[..., VOLUME] * values[..., : CLOSE + 1].mean(axis=-1))


def width_at(width: Mapping[str, Any], horizon: int) -> FloatArray:
    """(horizon,) factor on the log distance from the last close of each bar ahead, of a calibration of the width.

    Linear in ln h between the fitted horizons, constant beyond them; ``width`` as in a checkpoint's config:
    ``{"horizon": [1, 2, 4, …], "factor": [1.1, 1.08, …]}``.
    """
    at, factor = (np.asarray(width[name], dtype=np.float64) for name in ("horizon", "factor"))
    return np.interp(np.log(np.arange(1, horizon + 1)), np.log(at), factor)


def are_mirrors(distances: npt.NDArray[Any], unit: float = 1.0) -> bool:
    """Whether paths (S, …), as log distances from the last close over ``unit``, are pairs of a path and its mirror.

    Path 2i + 1 is the negative of path 2i then, but for rounding; the last of an odd number stands alone. Such draws
    are not independent of each other, which scores and sampling errors have to know. Four paths are the least that
    can be told from chance; paths that never move are no mirrors.
    """
    x = np.asarray(distances, dtype=np.float64)
    even = len(x) // 2 * 2
    if even < 4:
        return False
    reach = np.abs(x).max()
    rounding = max(_MIRROR_ROUNDING / unit, _MIRROR_SHARE * reach)
    return bool(reach > 0 and np.abs(x[0:even:2] + x[1:even:2]).max() <= rounding)


def check_paths(
    paths: Sequence[npt.NDArray[Any]], contexts: Sequence[Context], horizon: int, name: str
) -> list[FloatArray]:
    """Returned paths as float64, after checking their number, shape and finiteness."""
    if len(paths) != len(contexts):
        raise ConfigError(f"forecaster {name!r} returned {len(paths)} arrays for {len(contexts)} contexts")
    checked: list[FloatArray] = []
    for context, path in zip(contexts, paths, strict=True):
        array = np.asarray(path, dtype=np.float64)
        where = f"forecaster {name!r}, series {context.symbol!r}"
        if array.ndim != 3 or array.shape[0] < 1 or array.shape[1:] != (horizon, len(FEATURES)):
            raise ConfigError(f"{where}: shape {array.shape}, expected (samples, {horizon}, 6)")
        prices = array[..., : CLOSE + 1]
        if not np.isfinite(prices).all() or (prices <= 0).any():
            raise ConfigError(f"{where}: a price is not positive and finite")
        checked.append(array)
    return checked


def sample_in_batches(
    forecaster: Forecaster, contexts: Sequence[Context], spec: ForecastSpec, batch_size: int = 64
) -> Iterator[tuple[int, FloatArray]]:
    """Yield (index, checked paths) for every context, asking for ``batch_size`` contexts at a time."""
    for start in range(0, len(contexts), batch_size):
        batch = list(contexts[start : start + batch_size])
        answer = forecaster.sample_paths(batch, spec)
        for offset, paths in enumerate(check_paths(answer, batch, spec.horizon, forecaster.name)):
            yield start + offset, paths
